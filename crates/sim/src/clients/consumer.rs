//! A consumer with assigned partitions: reads each from the start, and asks for the latest offset now and then.

use strom_types::{ErrorCode, LeaderEpoch, Mono, Offset, TopicIdPartition};

use super::{Caller, Keys, TIMEOUT};
use crate::env::Env;
use crate::history::Op;
use crate::message::{Answer, Ask};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Wanting {
    Records,
    Start,
    Latest,
    Epoch,
}

struct Lane {
    key: TopicIdPartition,
    position: Offset,
    /// Of the last record read.
    last_epoch: LeaderEpoch,
    /// The newest leader epoch heard of.
    epoch: LeaderEpoch,
    wanting: Wanting,
    asked: Option<(u64, Mono)>,
    pause_until: Mono,
}

pub(crate) struct Consumer {
    caller: Caller,
    lanes: Vec<Lane>,
}

impl Consumer {
    pub(crate) fn new(env: &mut Env, index: usize, gateways: usize, keys: &Keys) -> Self {
        let lane = |key: &TopicIdPartition| Lane {
            key: *key,
            position: 0,
            last_epoch: LeaderEpoch::NONE,
            epoch: LeaderEpoch::NONE,
            wanting: Wanting::Records,
            asked: None,
            pause_until: Mono(0),
        };
        Consumer {
            caller: Caller::new(env, index, gateways),
            lanes: keys.iter().map(lane).collect(),
        }
    }

    /// Where it stands in each partition.
    pub(crate) fn positions(&self) -> impl Iterator<Item = (TopicIdPartition, Offset)> + '_ {
        self.lanes.iter().map(|lane| (lane.key, lane.position))
    }

    pub(super) fn wake(&mut self, env: &mut Env) {
        let now = env.mono(self.caller.addr());
        let late = |lane: &Lane| lane.asked.is_some_and(|(_, at)| now.since(at) > TIMEOUT);
        if self.lanes.iter().any(late) {
            self.caller.reconnect(env);
            self.lanes.iter_mut().for_each(|lane| lane.asked = None);
        }
        for lane in &mut self.lanes {
            if lane.asked.is_some() || now < lane.pause_until {
                continue;
            }
            if lane.wanting == Wanting::Records && env.rng.one_in(12) {
                lane.wanting = Wanting::Latest;
            }
            let key = lane.key;
            let epoch = Some(lane.epoch).filter(|epoch| *epoch != LeaderEpoch::NONE);
            let ask = match lane.wanting {
                Wanting::Records => Ask::Fetch {
                    key,
                    offset: lane.position,
                    epoch,
                    last_epoch: lane.last_epoch,
                },
                Wanting::Start => Ask::Earliest { key, epoch },
                Wanting::Latest => Ask::Latest { key, epoch },
                Wanting::Epoch => Ask::Metadata { key },
            };
            let call = self.caller.ask(env, ask);
            lane.asked = Some((call, now));
        }
    }

    pub(super) fn take(&mut self, env: &mut Env, call: u64, answer: Answer) {
        let now = env.mono(self.caller.addr());
        let index = self.caller.index;
        let asked = |lane: &&mut Lane| lane.asked.is_some_and(|(asked, _)| asked == call);
        let Some(lane) = self.lanes.iter_mut().find(asked) else {
            return;
        };
        lane.asked = None;
        lane.pause_until = now + std::time::Duration::from_millis(env.rng.range(1, 25));
        lane.take(env, index, answer);
    }
}

impl Lane {
    fn take(&mut self, env: &mut Env, index: usize, answer: Answer) {
        let key = self.key;
        match answer {
            Answer::Fetched {
                from, entries, epoch, ..
            } => {
                self.epoch = self.epoch.max(epoch);
                for (offset, entry) in (from..).zip(entries) {
                    env.record(
                        index,
                        Op::Poll {
                            key,
                            offset,
                            id: entry.id,
                        },
                    );
                    self.position = offset + 1;
                    self.last_epoch = entry.epoch;
                }
            }
            Answer::Offset { offset, epoch } if self.wanting == Wanting::Latest => {
                self.wanting = Wanting::Records;
                self.epoch = self.epoch.max(epoch);
                env.record(index, Op::Latest { key, epoch, offset });
            }
            Answer::Offset { offset, epoch } => {
                self.wanting = Wanting::Records;
                self.epoch = self.epoch.max(epoch);
                if offset > self.position {
                    self.position = offset;
                    self.last_epoch = LeaderEpoch::NONE;
                    env.record(index, Op::Seek { key, offset });
                } else {
                    let offset = self.position;
                    env.record(index, Op::LostPosition { key, offset });
                }
            }
            Answer::Diverging(end) => {
                let offset = end.end_offset;
                env.record(index, Op::LostPosition { key, offset });
            }
            Answer::Epoch(epoch) => {
                self.epoch = self.epoch.max(epoch);
                self.wanting = Wanting::Records;
            }
            Answer::Error { code, .. } => {
                self.wanting = match code {
                    ErrorCode::OffsetOutOfRange => Wanting::Start,
                    ErrorCode::FencedLeaderEpoch => Wanting::Epoch,
                    _ if self.wanting == Wanting::Start => Wanting::Start,
                    _ => Wanting::Records,
                };
            }
            _ => {}
        }
    }
}
