//! Replies and records as the scenario files show them.

use std::sync::Arc;

use bytes::Bytes;
use strom_groups::{Record, Reply};
use strom_types::ErrorCode;

pub fn instance(id: Option<&Arc<str>>) -> String {
    id.map_or_else(String::new, |id| format!("/{id}"))
}

pub fn text(bytes: &Bytes) -> String {
    format!("{:?}", String::from_utf8_lossy(bytes))
}

fn codes(errors: &[ErrorCode]) -> String {
    let names: Vec<&str> = errors.iter().map(|error| error.name()).collect();
    names.join(" ")
}

pub fn print_reply(reply: &Reply) -> String {
    match reply {
        Reply::JoinGroup(r) if r.error != ErrorCode::None => format!("join {} id={}", r.error, r.member_id),
        Reply::JoinGroup(r) => {
            let members: Vec<String> = r
                .members
                .iter()
                .map(|m| format!("{}{}", m.member_id, instance(m.group_instance_id.as_ref())))
                .collect();
            let skip = if r.skip_assignment { " skip" } else { "" };
            format!(
                "join id={} gen={} {} leader={} [{}]{skip}",
                r.member_id,
                r.generation,
                r.protocol_name.as_deref().unwrap_or("-"),
                r.leader,
                members.join(" ")
            )
        }
        Reply::SyncGroup(r) if r.error != ErrorCode::None => format!("sync {}", r.error),
        Reply::SyncGroup(r) => format!(
            "sync {} {}",
            r.protocol_name.as_deref().unwrap_or("-"),
            text(&r.assignment)
        ),
        Reply::Heartbeat(error) => format!("heartbeat {error}"),
        Reply::LeaveGroup(r) => {
            let errors: Vec<ErrorCode> = r.members.iter().map(|m| m.error).collect();
            format!("leave {} [{}]", r.error, codes(&errors))
        }
        Reply::OffsetCommit(errors) => format!("commit {}", codes(errors)),
        Reply::OffsetDelete(r) => format!("forget {} [{}]", r.error, codes(&r.partition_errors)),
        Reply::DeleteGroups(errors) => format!("drop {}", codes(errors)),
    }
}

pub fn print_record(record: &Record) -> String {
    match record {
        Record::OffsetCommit { key, value } => {
            let expires = match value.expire_timestamp {
                Some(at) => format!(" until {}", at.0 - value.commit_timestamp.0),
                None => String::new(),
            };
            format!(
                "{}/{}:{}={}{expires}",
                key.group, key.topic, key.partition, value.offset
            )
        }
        Record::OffsetTombstone { key } => format!("{}/{}:{} gone", key.group, key.topic, key.partition),
        Record::GroupMetadata { group, value } => {
            let members: Vec<String> = value
                .members
                .iter()
                .map(|m| {
                    let id = instance(m.group_instance_id.as_ref());
                    format!("{}{id}={}", m.member_id, text(&m.assignment))
                })
                .collect();
            format!(
                "{group} gen={} {} {} leader={} [{}]",
                value.generation,
                value.protocol_type,
                value.protocol.as_deref().unwrap_or("-"),
                value.leader.as_deref().unwrap_or("-"),
                members.join(" ")
            )
        }
        Record::GroupTombstone { group } => format!("{group} gone"),
    }
}
