//! The operator: creates the topics, and moves leaderships to their preferred replicas.

use strom_metadata::Reply;
use strom_proto::v1;
use strom_types::Mono;

use super::TIMEOUT;
use crate::env::Env;
use crate::message::{Addr, Body, Control, Controlled};

pub(crate) struct Admin {
    index: usize,
    controllers: usize,
    target: usize,
    topics: v1::CreateTopicsRequest,
    created: bool,
    asked: Option<(u64, Mono)>,
}

impl Admin {
    pub(crate) fn new(index: usize, controllers: usize, topics: v1::CreateTopicsRequest) -> Self {
        Admin {
            index,
            controllers,
            target: 0,
            topics,
            created: false,
            asked: None,
        }
    }

    pub(crate) fn elect(&self, env: &mut Env) {
        let request = v1::ElectLeadersRequest {
            unclean: false,
            partitions: Vec::new(),
            all: true,
        };
        let call = env.number();
        let request = Control::ElectLeaders(request);
        for controller in 0..self.controllers {
            let body = Body::Control {
                call,
                request: request.clone(),
            };
            env.send(Addr::Client(self.index), Addr::Controller(controller), body);
        }
    }

    pub(super) fn wake(&mut self, env: &mut Env) {
        let addr = Addr::Client(self.index);
        let now = env.mono(addr);
        if self.created || self.asked.is_some_and(|(_, at)| now.since(at) < TIMEOUT / 10) {
            return;
        }
        self.target = (self.target + 1) % self.controllers.max(1);
        let call = env.number();
        let request = Control::CreateTopics(self.topics.clone());
        let to = Addr::Controller(self.target);
        env.send(addr, to, Body::Control { call, request });
        self.asked = Some((call, now));
    }

    pub(super) fn take(&mut self, reply: &Controlled) {
        if let Controlled::Reply(Reply::CreateTopics(reply)) = reply {
            // The same ids asked for again are a success.
            self.created |= reply.results.iter().all(|result| result.error.is_none());
        }
    }
}
