//! Everything that travels: raft envelopes, controller calls, replication, and what clients ask and are answered.

use strom_groups as groups;
use strom_proto::v1;
use strom_raft_node::{IncomingSnapshot, RaftId};
use strom_replication::{Acks, EpochEnd, FetchReply, FollowerFetch};
use strom_types::{BrokerEpoch, BrokerId, ErrorCode, LeaderEpoch, Offset, TopicIdPartition};

use crate::disk::Entry;

/// A process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Addr {
    Controller(usize),
    Broker(usize),
    Gateway(usize),
    Client(usize),
}

#[derive(Clone, Debug)]
pub(crate) enum Body {
    Raft(v1::RaftEnvelope),
    Snapshot(IncomingSnapshot),
    /// To the sender of a snapshot: what became of it.
    SnapshotFate {
        peer: RaftId,
        delivered: bool,
    },
    Control {
        call: u64,
        request: Control,
    },
    Controlled {
        call: u64,
        reply: Controlled,
    },
    /// Follower to leader; the topic is the fetch's.
    Position {
        partition: i32,
        fetch: FollowerFetch,
        restart: bool,
    },
    /// Leader to follower; `entries` are those of a records reply.
    Leader {
        key: TopicIdPartition,
        reply: FetchReply,
        entries: Vec<Entry>,
    },
    Ask {
        call: u64,
        ask: Ask,
    },
    Answer {
        call: u64,
        answer: Answer,
    },
}

impl Body {
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Body::Raft(_) => "raft",
            Body::Snapshot(_) => "snapshot",
            Body::SnapshotFate { .. } => "snapshot-fate",
            Body::Control { request, .. } => request.kind(),
            Body::Controlled { .. } => "controlled",
            Body::Position { .. } => "position",
            Body::Leader { .. } => "leader",
            Body::Ask { ask, .. } => ask.kind(),
            Body::Answer { .. } => "answer",
        }
    }

    /// Clients' requests travel on connections: in order, never twice. All else may be reordered and repeated.
    pub(crate) fn is_ordered(&self) -> bool {
        matches!(self, Body::Ask { .. } | Body::Answer { .. })
    }
}

/// What controllers are asked.
#[derive(Clone, Debug)]
pub(crate) enum Control {
    Register(v1::RegisterBrokerRequest),
    Heartbeat(v1::BrokerHeartbeatRequest),
    AlterPartition(v1::AlterPartitionRequest),
    AllocateProducerIds(v1::AllocateProducerIdsRequest),
    CreateTopics(v1::CreateTopicsRequest),
    ElectLeaders(v1::ElectLeadersRequest),
    /// Entries after this index.
    Watch {
        applied: u64,
    },
}

impl Control {
    fn kind(&self) -> &'static str {
        match self {
            Control::Register(_) => "register",
            Control::Heartbeat(_) => "heartbeat",
            Control::AlterPartition(_) => "alter-partition",
            Control::AllocateProducerIds(_) => "allocate-ids",
            Control::CreateTopics(_) => "create-topics",
            Control::ElectLeaders(_) => "elect-leaders",
            Control::Watch { .. } => "watch",
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) enum Controlled {
    Reply(strom_metadata::Reply),
    Refused(ErrorCode),
    Heartbeat(v1::BrokerHeartbeatReply),
    /// Entries that follow `from`, in order.
    Entries {
        from: u64,
        entries: Vec<(u64, v1::MetadataBatch)>,
    },
    /// The watcher is too far behind, or new.
    Image {
        index: u64,
        records: Vec<v1::MetadataRecord>,
    },
}

/// What clients ask gateways, and gateways brokers.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "messages are moved, seldom copied")]
pub(crate) enum Ask {
    Produce {
        key: TopicIdPartition,
        acks: Acks,
        id: u64,
        producer: Option<(i64, i32)>,
    },
    Fetch {
        key: TopicIdPartition,
        offset: Offset,
        epoch: Option<LeaderEpoch>,
        last_epoch: LeaderEpoch,
    },
    Earliest {
        key: TopicIdPartition,
        epoch: Option<LeaderEpoch>,
    },
    Latest {
        key: TopicIdPartition,
        epoch: Option<LeaderEpoch>,
    },
    DeleteRecords {
        key: TopicIdPartition,
    },
    ProducerId,
    /// The leader epoch as the gateway knows it.
    Metadata {
        key: TopicIdPartition,
    },
    Group {
        group: String,
        ask: GroupAsk,
    },
}

#[derive(Clone, Debug)]
pub(crate) enum GroupAsk {
    Join(groups::JoinGroup),
    Sync(groups::SyncGroup),
    Heartbeat(groups::Heartbeat),
    Leave(groups::LeaveGroup),
    Commit(groups::OffsetCommit),
    Offsets(Vec<groups::TopicPartition>),
}

impl Ask {
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Ask::Produce { .. } => "produce",
            Ask::Fetch { .. } => "fetch",
            Ask::Earliest { .. } => "earliest",
            Ask::Latest { .. } => "latest",
            Ask::DeleteRecords { .. } => "delete-records",
            Ask::ProducerId => "producer-id",
            Ask::Metadata { .. } => "metadata",
            Ask::Group { ask, .. } => match ask {
                GroupAsk::Join(_) => "join",
                GroupAsk::Sync(_) => "sync",
                GroupAsk::Heartbeat(_) => "group-heartbeat",
                GroupAsk::Leave(_) => "leave",
                GroupAsk::Commit(_) => "commit",
                GroupAsk::Offsets(_) => "offsets",
            },
        }
    }

    /// The partition whose leader answers.
    pub(crate) fn partition(&self) -> Option<TopicIdPartition> {
        match self {
            Ask::Produce { key, .. }
            | Ask::Fetch { key, .. }
            | Ask::Earliest { key, .. }
            | Ask::Latest { key, .. }
            | Ask::DeleteRecords { key } => Some(*key),
            Ask::ProducerId | Ask::Metadata { .. } | Ask::Group { .. } => None,
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// `epoch` = the leader epoch of the broker that says so, if one does.
    Error {
        code: ErrorCode,
        epoch: LeaderEpoch,
    },
    Produced {
        offset: Offset,
        epoch: LeaderEpoch,
    },
    Fetched {
        from: Offset,
        entries: Vec<Entry>,
        epoch: LeaderEpoch,
    },
    Diverging(EpochEnd),
    Offset {
        offset: Offset,
        epoch: LeaderEpoch,
    },
    Deleted,
    ProducerId(i64),
    Epoch(LeaderEpoch),
    Group(groups::Reply),
    /// By partition; -1 = none.
    Offsets(Vec<(i32, Offset)>),
}

impl Answer {
    pub(crate) fn error(code: ErrorCode) -> Answer {
        Answer::Error {
            code,
            epoch: LeaderEpoch::NONE,
        }
    }
}

/// The process life of a broker as fast death needs it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Death {
    pub broker: BrokerId,
    pub epoch: BrokerEpoch,
}
