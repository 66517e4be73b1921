//! Model clients: what real ones do with acknowledgements, errors, time-outs and rebalances.

mod admin;
mod consumer;
mod member;
mod producer;

use std::time::Duration;

use strom_types::TopicIdPartition;

use crate::clock::MS;
use crate::env::Env;
use crate::message::{Addr, Ask, Body};

pub(crate) use admin::Admin;
pub(crate) use consumer::Consumer;
pub(crate) use member::{Member, TOPIC};
pub(crate) use producer::{Mode, Producer};

/// A request without an answer for so long is given up.
const TIMEOUT: Duration = Duration::from_millis(1300);

pub(crate) enum ClientNode {
    Admin(Admin),
    Producer(Producer),
    Consumer(Consumer),
    Member(Member),
}

impl ClientNode {
    pub(crate) fn wake(&mut self, env: &mut Env) -> u64 {
        match self {
            ClientNode::Admin(admin) => admin.wake(env),
            ClientNode::Producer(producer) => producer.wake(env),
            ClientNode::Consumer(consumer) => consumer.wake(env),
            ClientNode::Member(member) => member.wake(env),
        }
        env.rng.range(8 * MS, 14 * MS)
    }

    pub(crate) fn describe(&self) -> String {
        match self {
            ClientNode::Member(member) => member.describe(),
            _ => String::new(),
        }
    }

    pub(crate) fn receive(&mut self, env: &mut Env, body: Body) {
        match (self, body) {
            (ClientNode::Admin(admin), Body::Controlled { reply, .. }) => admin.take(&reply),
            (ClientNode::Producer(producer), Body::Answer { call, answer }) => {
                producer.take(env, call, &answer);
            }
            (ClientNode::Consumer(consumer), Body::Answer { call, answer }) => {
                consumer.take(env, call, answer);
            }
            (ClientNode::Member(member), Body::Answer { call, answer }) => member.take(env, call, answer),
            _ => {}
        }
    }
}

/// A client's way to the cluster: one gateway at a time.
#[derive(Clone, Debug)]
struct Caller {
    index: usize,
    gateway: usize,
    gateways: usize,
}

impl Caller {
    fn new(env: &mut Env, index: usize, gateways: usize) -> Self {
        Caller {
            index,
            gateway: env.rng.index(gateways),
            gateways,
        }
    }

    fn addr(&self) -> Addr {
        Addr::Client(self.index)
    }

    fn ask(&self, env: &mut Env, ask: Ask) -> u64 {
        let call = env.number();
        let to = Addr::Gateway(self.gateway);
        env.send(self.addr(), to, Body::Ask { call, ask });
        call
    }

    /// The gateway's life and the number of the connection: another one when the connection broke.
    fn connection(&self, env: &Env) -> (u64, u64) {
        let gateway = Addr::Gateway(self.gateway);
        (env.life(gateway), env.net.connection(self.addr(), gateway))
    }

    /// Gives the connection up and takes the next gateway.
    fn reconnect(&mut self, env: &mut Env) {
        env.net.break_connection(self.addr(), Addr::Gateway(self.gateway));
        self.gateway = (self.gateway + 1) % self.gateways.max(1);
    }
}

/// Partitions of a topic in their order.
pub(crate) type Keys = Vec<TopicIdPartition>;
