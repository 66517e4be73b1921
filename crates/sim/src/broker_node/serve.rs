//! What a broker answers gateways: produce, fetch, offsets, producer ids, and the way to the group coordinators.

use strom_replication::{AckWait, Acks, Event, LogUnreadable, Prefix};
use strom_types::{BrokerEpoch, ErrorCode, LeaderEpoch, Offset, TopicIdPartition, leaves_gap};

use super::BrokerNode;
use super::partition::Waiter;
use crate::disk::{Entry, Sequence};
use crate::env::Env;
use crate::gateway_node::producer_batch;
use crate::message::{Addr, Answer, Ask};

const FETCH_RECORDS_MAX: usize = 20;

/// A producer's batch.
struct Batch {
    key: TopicIdPartition,
    acks: Acks,
    id: u64,
    producer: Option<(i64, i32)>,
}

/// A batch that was not appended.
struct Refusal {
    code: ErrorCode,
    epoch: LeaderEpoch,
}

impl From<ErrorCode> for Refusal {
    fn from(code: ErrorCode) -> Self {
        let epoch = LeaderEpoch::NONE;
        Refusal { code, epoch }
    }
}

impl BrokerNode {
    pub(super) fn serve(&mut self, env: &mut Env, to: (Addr, u64), ask: Ask) {
        let addr = self.addr();
        let answer = match ask {
            Ask::Produce {
                key,
                acks,
                id,
                producer,
            } => {
                let batch = Batch {
                    key,
                    acks,
                    id,
                    producer,
                };
                return self.produce(env, to, &batch);
            }
            Ask::ProducerId => return self.give_producer_id(env, to),
            Ask::Group { group, ask } => return self.serve_group(env, to, &group, ask),
            Ask::Fetch {
                key,
                offset,
                epoch,
                last_epoch,
            } => self.fetch(env, key, (offset, last_epoch), epoch),
            Ask::Earliest { key, epoch } => self.earliest(env, key, epoch),
            Ask::Latest { key, epoch } => self.latest(env, key, epoch),
            Ask::DeleteRecords { key } => self.delete_records(env, key),
            Ask::Metadata { .. } => Err(ErrorCode::InvalidRequest),
        };
        if answer.is_ok() {
            self.check_lease(env);
        }
        let answer = answer.unwrap_or_else(Answer::error);
        env.answer(addr, to, answer);
    }

    /// No data is served past the session.
    pub(super) fn check_lease(&self, env: &mut Env) {
        let epoch = self.registered().unwrap_or(BrokerEpoch::NONE);
        if env.judge.is_out(self.id(), epoch) {
            env.judge.fail(format!(
                "StaleRead: broker {} serves after its session",
                self.index
            ));
        }
    }

    fn produce(&mut self, env: &mut Env, to: (Addr, u64), batch: &Batch) {
        let ordered = batch.producer.map(|(id, sequence)| producer_batch(id, sequence));
        let behind = ordered.is_some_and(|ordered| {
            let life = self.life.as_mut();
            life.is_some_and(|life| life.refused(to.0, batch.key, ordered.id).fails(ordered))
        });
        let result = if behind {
            Err(ErrorCode::NotLeaderOrFollower.into())
        } else {
            self.append(env, to, batch)
        };
        let Err(Refusal { code, epoch }) = result else {
            return;
        };
        if let (Some(life), Some(ordered)) = (&mut self.life, ordered)
            && leaves_gap(code)
        {
            life.refused(to.0, batch.key, ordered.id).note(ordered);
        }
        env.answer(self.addr(), to, Answer::Error { code, epoch });
    }

    fn append(&mut self, env: &mut Env, to: (Addr, u64), batch: &Batch) -> Result<(), Refusal> {
        let (at, key) = (self.moment(env), batch.key);
        let partition = self.life.as_mut().and_then(|life| life.partitions.get_mut(&key));
        let (Some(partition), Some(log)) = (partition, self.disk.logs.get_mut(&key)) else {
            return Err(ErrorCode::UnknownTopicOrPartition.into());
        };
        let epoch = partition.replica.admit_produce(at, batch.acks, None)?;
        let sequence = batch
            .producer
            .map_or(Sequence::Next, |(id, sequence)| log.check_sequence(id, sequence));
        let last_offset = match sequence {
            Sequence::OutOfOrder => {
                let code = ErrorCode::OutOfOrderSequenceNumber;
                return Err(Refusal { code, epoch });
            }
            Sequence::Duplicate(offset) => offset,
            Sequence::Next => {
                let offset = log.end();
                log.append(Entry {
                    epoch,
                    id: batch.id,
                    producer: batch.producer,
                    group: None,
                });
                offset
            }
        };
        let wait = AckWait {
            acks: batch.acks,
            leader_epoch: epoch,
            last_offset,
        };
        partition.acks.push(Waiter {
            wait,
            id: batch.id,
            to,
            since: at.now,
        });
        self.step(env, key, Event::LogAdvanced);
        if sequence != Sequence::Next || batch.acks != Acks::All {
            self.settle(env, key);
        }
        self.begin_flush(env, key);
        Ok(())
    }

    fn fetch(
        &mut self,
        env: &mut Env,
        key: TopicIdPartition,
        (offset, last_epoch): (Offset, LeaderEpoch),
        epoch: Option<LeaderEpoch>,
    ) -> Result<Answer, ErrorCode> {
        if self.is_rotten(key) {
            self.step(env, key, Event::LogFailed);
        }
        let at = self.moment(env);
        let life = self.life.as_ref().ok_or(ErrorCode::NotLeaderOrFollower)?;
        let partition = life
            .partitions
            .get(&key)
            .ok_or(ErrorCode::UnknownTopicOrPartition)?;
        let log = self.disk.logs.get(&key).ok_or(ErrorCode::KafkaStorageError)?;
        let bounds = partition.replica.admit_fetch(at, epoch)?;
        if last_epoch != LeaderEpoch::NONE {
            let checked = partition.replica.check_consumer_position(log, last_epoch, offset);
            match checked.map_err(|LogUnreadable| ErrorCode::KafkaStorageError)? {
                Prefix::Shared => {}
                Prefix::Diverges(end) => return Ok(Answer::Diverging(end)),
                Prefix::Unknown => return Err(ErrorCode::OffsetOutOfRange),
            }
        }
        if offset < bounds.log_start || offset > bounds.log_end {
            return Err(ErrorCode::OffsetOutOfRange);
        }
        Ok(Answer::Fetched {
            from: offset,
            entries: log.read(offset, bounds.high_watermark.max(offset), FETCH_RECORDS_MAX),
            epoch: partition.replica.leader().1,
        })
    }

    fn earliest(
        &mut self,
        env: &Env,
        key: TopicIdPartition,
        epoch: Option<LeaderEpoch>,
    ) -> Result<Answer, ErrorCode> {
        let at = self.moment(env);
        let life = self.life.as_ref().ok_or(ErrorCode::NotLeaderOrFollower)?;
        let partition = life
            .partitions
            .get(&key)
            .ok_or(ErrorCode::UnknownTopicOrPartition)?;
        let bounds = partition.replica.admit_fetch(at, epoch)?;
        Ok(Answer::Offset {
            offset: bounds.log_start,
            epoch: partition.replica.leader().1,
        })
    }

    fn latest(
        &mut self,
        env: &mut Env,
        key: TopicIdPartition,
        epoch: Option<LeaderEpoch>,
    ) -> Result<Answer, ErrorCode> {
        let at = self.moment(env);
        let id = self.id();
        let life = self.life.as_ref().ok_or(ErrorCode::NotLeaderOrFollower)?;
        let partition = life
            .partitions
            .get(&key)
            .ok_or(ErrorCode::UnknownTopicOrPartition)?;
        let offset = partition.replica.latest_offset(at, epoch)?;
        let epoch = partition.replica.leader().1;
        let verdict = env.judge.facts(key).answer_latest(epoch, offset);
        env.judge.take(format_args!("broker {id}, {key}"), verdict);
        Ok(Answer::Offset { offset, epoch })
    }

    fn delete_records(&mut self, env: &mut Env, key: TopicIdPartition) -> Result<Answer, ErrorCode> {
        let at = self.moment(env);
        let life = self.life.as_ref().ok_or(ErrorCode::NotLeaderOrFollower)?;
        let partition = life
            .partitions
            .get(&key)
            .ok_or(ErrorCode::UnknownTopicOrPartition)?;
        partition.replica.admit_fetch(at, None)?;
        let end = partition.replica.deletable_end();
        if let Some(log) = self.disk.logs.get_mut(&key)
            && end > log.start()
        {
            log.advance_start(end);
            self.step(env, key, Event::LogAdvanced);
        }
        Ok(Answer::Deleted)
    }
}
