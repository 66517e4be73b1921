//! Incremental fetch sessions (KIP-227): what a client wants is remembered, so that it names only changes.
//!
//! Sessions live in this gateway alone. A client that comes to another gateway is told that its session is not known
//! and starts a full fetch, as after a broker change in Kafka.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use parking_lot::Mutex;
use strom_kafka_codec::ByteStr;
use strom_kafka_codec::messages::FetchRequest;
use strom_kafka_codec::messages::fetch_request::FetchPartition;
use strom_kafka_codec::messages::fetch_response::PartitionData;
use strom_types::{ErrorCode, Mono, TopicId};
use uuid::Uuid;

const NO_SESSION: i32 = 0;
const INITIAL_EPOCH: i32 = 0;
const FINAL_EPOCH: i32 = -1;
/// A session may be evicted for a new one once it has rested this long
/// (`min.incremental.fetch.session.eviction.ms`).
const EVICTABLE_AFTER: Duration = Duration::from_secs(120);
/// Topic ids in Fetch (KIP-516).
pub(crate) const TOPIC_IDS_SINCE_VERSION: i16 = 13;

/// A partition as the client named it: by id from v13 on, by name before.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct WantKey {
    pub topic_id: TopicId,
    pub topic: ByteStr,
    pub partition: i32,
}

/// One partition to be fetched.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Want {
    pub key: WantKey,
    pub fetch: FetchPartition,
}

/// How one fetch is to be answered.
#[derive(Debug)]
pub(crate) struct SessionFetch {
    pub session_id: i32,
    pub wants: Vec<Want>,
    /// Only partitions with news are named in the reply.
    incremental: bool,
}

/// What the client was last told of a partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Told {
    high_watermark: i64,
    last_stable_offset: i64,
    log_start_offset: i64,
}

#[derive(Debug)]
struct Entry {
    fetch: FetchPartition,
    told: Option<Told>,
}

#[derive(Debug)]
struct Session {
    uses_topic_ids: bool,
    /// The epoch that the next request must carry.
    epoch: i32,
    entries: BTreeMap<WantKey, Entry>,
    /// The last partition that gave data: the next fetch begins behind it, so that none starves.
    served: Option<WantKey>,
    last_used: Mono,
}

/// All sessions of this gateway, bounded in number.
pub(crate) struct FetchSessions {
    slots_max: usize,
    sessions: Mutex<HashMap<i32, Session>>,
}

impl FetchSessions {
    pub(crate) fn new(slots_max: usize) -> Self {
        FetchSessions {
            slots_max,
            sessions: Mutex::default(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.sessions.lock().len()
    }

    /// Brings the request's session up to date and says what to fetch.
    pub(crate) fn begin(
        &self,
        now: Mono,
        version: i16,
        request: FetchRequest,
    ) -> Result<SessionFetch, ErrorCode> {
        let (id, epoch) = (request.session_id, request.session_epoch);
        let uses_topic_ids = version >= TOPIC_IDS_SINCE_VERSION;
        let mut sessions = self.sessions.lock();
        if epoch == INITIAL_EPOCH || epoch == FINAL_EPOCH {
            sessions.remove(&id);
            let wants = wants(request);
            if epoch == FINAL_EPOCH || wants.is_empty() {
                return Ok(SessionFetch {
                    session_id: NO_SESSION,
                    wants,
                    incremental: false,
                });
            }
            let session_id = self.create(&mut sessions, now, uses_topic_ids, &wants);
            return Ok(SessionFetch {
                session_id,
                wants,
                incremental: false,
            });
        }
        let session = sessions.get_mut(&id).ok_or(ErrorCode::FetchSessionIdNotFound)?;
        if session.epoch != epoch {
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        if session.uses_topic_ids != uses_topic_ids {
            return Err(ErrorCode::FetchSessionTopicIdError);
        }
        session.update(request);
        session.last_used = now;
        session.epoch = if epoch == i32::MAX { 1 } else { epoch + 1 };
        if session.entries.is_empty() {
            sessions.remove(&id);
            return Ok(SessionFetch {
                session_id: NO_SESSION,
                wants: Vec::new(),
                incremental: false,
            });
        }
        Ok(SessionFetch {
            session_id: id,
            wants: session.wants(),
            incremental: true,
        })
    }

    /// Leaves out of an incremental reply what the client knows already. `replies` stand in the order of the wants.
    pub(crate) fn filter(
        &self,
        fetch: &SessionFetch,
        replies: Vec<(WantKey, PartitionData)>,
    ) -> Vec<(WantKey, PartitionData)> {
        if fetch.session_id == NO_SESSION {
            return replies;
        }
        let mut sessions = self.sessions.lock();
        let Some(session) = sessions.get_mut(&fetch.session_id) else {
            return replies;
        };
        let mut news = Vec::with_capacity(replies.len());
        for (key, data) in replies {
            let has_data = data.records.as_ref().is_some_and(|records| !records.is_empty());
            if has_data {
                session.served = Some(key.clone());
            }
            let told = Told {
                high_watermark: data.high_watermark,
                last_stable_offset: data.last_stable_offset,
                log_start_offset: data.log_start_offset,
            };
            let is_news = match session.entries.get_mut(&key) {
                None => true,
                Some(entry) if data.error_code != 0 => {
                    // Told again until it is gone, and everything after it.
                    entry.told = None;
                    true
                }
                Some(entry) => entry.told.replace(told) != Some(told),
            };
            let special = data.preferred_read_replica >= 0 || data.diverging_epoch.epoch >= 0;
            if !fetch.incremental || has_data || is_news || special {
                news.push((key, data));
            }
        }
        news
    }

    /// A new session's id, or [`NO_SESSION`] when all slots are taken by sessions in use.
    fn create(
        &self,
        sessions: &mut HashMap<i32, Session>,
        now: Mono,
        uses_topic_ids: bool,
        wants: &[Want],
    ) -> i32 {
        if sessions.len() >= self.slots_max {
            let oldest = sessions.iter().min_by_key(|(_, session)| session.last_used);
            match oldest.map(|(id, session)| (*id, now.since(session.last_used))) {
                Some((id, rest)) if rest >= EVICTABLE_AFTER => drop(sessions.remove(&id)),
                _ => return NO_SESSION,
            }
        }
        let id = loop {
            let [a, b, c, d, ..] = Uuid::new_v4().into_bytes();
            let id = i32::from_be_bytes([a & 0x7f, b, c, d]);
            if id != NO_SESSION && !sessions.contains_key(&id) {
                break id;
            }
        };
        let entry = |want: &Want| {
            (
                want.key.detached(),
                Entry {
                    fetch: want.fetch.clone(),
                    told: None,
                },
            )
        };
        let session = Session {
            uses_topic_ids,
            epoch: 1,
            entries: wants.iter().map(entry).collect(),
            served: None,
            last_used: now,
        };
        sessions.insert(id, session);
        id
    }
}

impl Session {
    fn update(&mut self, request: FetchRequest) {
        for topic in &request.forgotten_topics_data {
            for partition in &topic.partitions {
                self.entries.remove(&WantKey {
                    topic_id: TopicId(topic.topic_id),
                    topic: topic.topic.clone(),
                    partition: *partition,
                });
            }
        }
        for Want { key, fetch } in wants(request) {
            match self.entries.get_mut(&key) {
                Some(entry) => entry.fetch = fetch,
                None => drop(self.entries.insert(key.detached(), Entry { fetch, told: None })),
            }
        }
    }

    /// All partitions, beginning behind the one that gave data last.
    fn wants(&self) -> Vec<Want> {
        let want = |(key, entry): (&WantKey, &Entry)| Want {
            key: key.clone(),
            fetch: entry.fetch.clone(),
        };
        match &self.served {
            None => self.entries.iter().map(want).collect(),
            Some(served) => {
                use std::ops::Bound::{Excluded, Unbounded};
                let behind = self.entries.range((Excluded(served), Unbounded));
                behind.chain(self.entries.range(..=served)).map(want).collect()
            }
        }
    }
}

impl WantKey {
    /// A copy that does not keep the request's frame in memory.
    fn detached(&self) -> WantKey {
        WantKey {
            topic_id: self.topic_id,
            topic: self.topic.detached(),
            partition: self.partition,
        }
    }
}

fn wants(request: FetchRequest) -> Vec<Want> {
    let mut wants = Vec::new();
    for topic in request.topics {
        for fetch in topic.partitions {
            let key = WantKey {
                topic_id: TopicId(topic.topic_id),
                topic: topic.topic.clone(),
                partition: fetch.partition,
            };
            wants.push(Want { key, fetch });
        }
    }
    wants
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use strom_kafka_codec::messages::fetch_request::{FetchTopic, ForgottenTopic};

    use super::*;

    fn request(id: i32, epoch: i32, partitions: &[i32]) -> FetchRequest {
        let fetch = |&partition: &i32| FetchPartition {
            partition,
            ..Default::default()
        };
        let topics = vec![FetchTopic {
            topic: "t".into(),
            partitions: partitions.iter().map(fetch).collect(),
            ..Default::default()
        }];
        FetchRequest {
            session_id: id,
            session_epoch: epoch,
            topics: if partitions.is_empty() { vec![] } else { topics },
            ..Default::default()
        }
    }

    fn partitions(fetch: &SessionFetch) -> Vec<i32> {
        fetch.wants.iter().map(|want| want.key.partition).collect()
    }

    fn reply(fetch: &SessionFetch, with_data: &[i32]) -> Vec<(WantKey, PartitionData)> {
        let data = |want: &Want| PartitionData {
            partition_index: want.key.partition,
            records: Some(if with_data.contains(&want.key.partition) {
                Bytes::from_static(b"x")
            } else {
                Bytes::new()
            }),
            ..Default::default()
        };
        fetch
            .wants
            .iter()
            .map(|want| (want.key.clone(), data(want)))
            .collect()
    }

    #[test]
    fn an_incremental_reply_names_only_news_and_turns_round() {
        let sessions = FetchSessions::new(10);
        let full = sessions.begin(Mono(0), 12, request(0, 0, &[0, 1, 2])).unwrap();
        assert!(full.session_id > 0);
        assert_eq!(
            sessions.filter(&full, reply(&full, &[])).len(),
            3,
            "a full reply names all"
        );
        let next = sessions
            .begin(Mono(0), 12, request(full.session_id, 1, &[]))
            .unwrap();
        assert_eq!(partitions(&next), [0, 1, 2]);
        let news = sessions.filter(&next, reply(&next, &[1]));
        assert_eq!(news.iter().map(|(key, _)| key.partition).collect::<Vec<_>>(), [1]);
        let mut forget = request(full.session_id, 2, &[]);
        forget.forgotten_topics_data = vec![ForgottenTopic {
            topic: "t".into(),
            partitions: vec![0],
            ..Default::default()
        }];
        let next = sessions.begin(Mono(0), 12, forget).unwrap();
        assert_eq!(
            partitions(&next),
            [2, 1],
            "it begins behind the partition served last"
        );
    }

    #[test]
    fn wrong_ids_epochs_and_key_forms_are_refused() {
        let sessions = FetchSessions::new(10);
        let id = sessions
            .begin(Mono(0), 12, request(0, 0, &[0]))
            .unwrap()
            .session_id;
        let refused = |version, id, epoch| {
            sessions
                .begin(Mono(0), version, request(id, epoch, &[]))
                .unwrap_err()
        };
        assert_eq!(refused(12, id ^ 1, 1), ErrorCode::FetchSessionIdNotFound);
        assert_eq!(refused(12, id, 5), ErrorCode::InvalidFetchSessionEpoch);
        assert_eq!(refused(13, id, 1), ErrorCode::FetchSessionTopicIdError);
        let closed = sessions
            .begin(Mono(0), 12, request(id, FINAL_EPOCH, &[0]))
            .unwrap();
        assert_eq!(closed.session_id, NO_SESSION);
        assert_eq!(sessions.len(), 0);
    }

    #[test]
    fn slots_are_bounded_and_go_to_new_clients_once_their_owners_rest() {
        let sessions = FetchSessions::new(1);
        let first = sessions.begin(Mono(0), 12, request(0, 0, &[0])).unwrap();
        assert_ne!(first.session_id, NO_SESSION);
        let second = sessions.begin(Mono(1), 12, request(0, 0, &[0])).unwrap();
        assert_eq!(second.session_id, NO_SESSION, "the only slot is in use");
        let later = Mono(0) + EVICTABLE_AFTER;
        assert_ne!(
            sessions.begin(later, 12, request(0, 0, &[0])).unwrap().session_id,
            NO_SESSION
        );
        assert_eq!(sessions.len(), 1);
    }
}
