//! What a seed's cluster looks like: how many of everything, the topics, the durability, who produces and reads what.

use strom_proto::convert::topic_id_bytes;
use strom_proto::v1;
use strom_replication::{Acks, Durability};
use strom_types::{GROUP_METADATA_TOPIC, TopicId, TopicIdPartition};

use crate::clients::{Admin, ClientNode, Consumer, Keys, Member, Mode, Producer};
use crate::env::Env;

pub(crate) struct Scenario {
    pub controllers: usize,
    pub brokers: usize,
    pub gateways: usize,
    pub durability: Durability,
    /// Of the idempotent producer and the group.
    pub ordered: Keys,
    /// Of the plain producers.
    pub plain: Keys,
    topics: v1::CreateTopicsRequest,
}

fn keys(id: TopicId, partitions: i32) -> Keys {
    (0..partitions)
        .map(|partition| TopicIdPartition::new(id, partition))
        .collect()
}

fn topic(name: &str, id: TopicId, partitions: i32, durability: Durability) -> v1::NewTopic {
    let mut configs = vec![("min.insync.replicas".to_owned(), "2".to_owned())];
    if durability == Durability::PageCache {
        configs.push(("strom.durability".to_owned(), "page_cache".to_owned()));
    }
    v1::NewTopic {
        name: name.to_owned(),
        partitions,
        replication_factor: 3,
        assignments: Vec::new(),
        configs: configs.into_iter().collect(),
        topic_id: topic_id_bytes(id),
    }
}

impl Scenario {
    pub(crate) fn draw(env: &mut Env) -> Scenario {
        let durability = if env.rng.one_in(4) {
            Durability::PageCache
        } else {
            Durability::Durable
        };
        let mut id = || TopicId::from_bytes(env.rng.bytes16());
        let ids = [id(), id(), id()];
        let ordered = 1 + i32::from(env.rng.one_in(2));
        let [a, b, offsets] = ids;
        Scenario {
            controllers: if env.rng.one_in(8) { 1 } else { 3 },
            brokers: 3 + usize::from(env.rng.one_in(4)),
            gateways: 1 + env.rng.index(2),
            durability,
            ordered: keys(a, ordered),
            plain: keys(b, 1),
            topics: v1::CreateTopicsRequest {
                topics: vec![
                    topic(crate::clients::TOPIC, a, ordered, durability),
                    topic("b", b, 1, durability),
                    topic(GROUP_METADATA_TOPIC, offsets, 1, durability),
                ],
                validate_only: false,
            },
        }
    }

    /// The clients; the first one is the operator.
    pub(crate) fn clients(&self, env: &mut Env) -> Vec<ClientNode> {
        let mut clients = vec![ClientNode::Admin(Admin::new(
            0,
            self.controllers,
            self.topics.clone(),
        ))];
        let modes = [
            (Mode::Idempotent, &self.ordered),
            (Mode::Plain(Acks::All), &self.plain),
            (Mode::Plain(Acks::Leader), &self.plain),
        ];
        for (mode, keys) in modes {
            let producer = Producer::new(env, clients.len(), self.gateways, mode, keys);
            clients.push(ClientNode::Producer(producer));
        }
        for keys in [&self.ordered, &self.plain] {
            let consumer = Consumer::new(env, clients.len(), self.gateways, keys);
            clients.push(ClientNode::Consumer(consumer));
        }
        for _ in 0..2 {
            let member = Member::new(env, clients.len(), self.gateways, &self.ordered);
            clients.push(ClientNode::Member(member));
        }
        clients
    }

    pub(crate) fn keys(&self) -> Keys {
        let offsets = self.topics.topics.last();
        let id = offsets.and_then(|topic| TopicId::from_slice(&topic.topic_id));
        let internal = id.map(|id| TopicIdPartition::new(id, 0));
        self.ordered
            .iter()
            .chain(&self.plain)
            .copied()
            .chain(internal)
            .collect()
    }
}
