//! The command language of the scenario files.
//!
//! `join GROUP WHO [id= inst= proto=a,b type= topics=t,u session= rebalance= reqid skip meta=]`, `sync GROUP WHO id=
//! gen= [inst= give=member:text,…]`, `hb GROUP WHO id= gen= [inst=]`, `leave GROUP WHO id[/inst] …`, `commit GROUP WHO
//! [id= gen= inst= keep= meta=N] topic:partition=offset …`, `forget GROUP WHO topic:partition …`, `drop WHO GROUP …`,
//! `topics-gone TOPIC …`, `fetch GROUP [topic:partition …]`, `describe GROUP`, `list [state|type=…]`, `ok` (commit the
//! oldest append), `fail ERROR`, `auto` (commit all at once from now on), `after MS`, `reload`, `unload`, `config k=v`.
//! WHO is the client's id and the label of its answer; ids are `WHO-N` with N counting joins.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use strom_groups::{
    Config, Effect, Event, GroupFilter, Heartbeat, JoinGroup, LeaveGroup, LeavingMember, MemberAssignment,
    OffsetCommit, OffsetCommitPartition, OffsetDelete, Protocol, RequestId, SyncGroup, TopicPartition,
};
use strom_types::{ErrorCode, LeaderEpoch, TopicId};

use super::print::{instance, print_record, print_reply, text};
use super::{Shell, subscription};

pub struct Runner {
    shell: Shell,
    labels: BTreeMap<RequestId, String>,
    joins: u32,
    auto: bool,
}

/// A command's words: positional ones and `key=value` ones. Flags have an empty value.
struct Words<'a> {
    plain: Vec<&'a str>,
    named: BTreeMap<&'a str, &'a str>,
}

const FLAGS: [&str; 2] = ["reqid", "skip"];

impl<'a> Words<'a> {
    fn parse(command: &'a str) -> Self {
        let mut words = Words {
            plain: Vec::new(),
            named: BTreeMap::new(),
        };
        for word in command.split_whitespace() {
            match word.split_once('=') {
                // `topic:partition=offset` is positional.
                Some((key, value)) if !key.contains(':') => {
                    words.named.insert(key, value);
                }
                _ if FLAGS.contains(&word) => {
                    words.named.insert(word, "");
                }
                _ => words.plain.push(word),
            }
        }
        words
    }

    fn text(&self, key: &str) -> String {
        self.named.get(key).copied().unwrap_or("").to_owned()
    }

    fn option(&self, key: &str) -> Option<String> {
        self.named.get(key).map(|value| (*value).to_owned())
    }

    fn number<T: std::str::FromStr>(&self, key: &str, default: T) -> T {
        match self.named.get(key) {
            Some(value) => value.parse().unwrap_or_else(|_| panic!("{key}={value}")),
            None => default,
        }
    }

    fn list(&self, key: &str, default: &'a str) -> Vec<&'a str> {
        let value = self.named.get(key).copied().unwrap_or(default);
        value.split(',').filter(|item| !item.is_empty()).collect()
    }

    fn flag(&self, key: &str) -> bool {
        self.named.contains_key(key)
    }
}

fn topic_partition(text: &str) -> TopicPartition {
    let (topic, partition) = text.split_once(':').expect("topic:partition");
    TopicPartition {
        topic: topic.to_owned(),
        partition: partition.parse().expect("partition"),
    }
}

fn error_named(name: &str) -> ErrorCode {
    *ErrorCode::ALL
        .iter()
        .find(|code| code.name() == name)
        .unwrap_or_else(|| panic!("no error {name}"))
}

impl Runner {
    pub fn new() -> Runner {
        let config = Config {
            group_initial_rebalance_delay_ms: 0,
            ..Config::default()
        };
        Runner {
            shell: Shell::new(config),
            labels: BTreeMap::new(),
            joins: 0,
            auto: false,
        }
    }

    pub fn run(&mut self, command: &str) -> Vec<String> {
        self.shell.effects.clear();
        let words = Words::parse(command);
        let mut out = Vec::new();
        match words.plain.as_slice() {
            ["config"] => self.configure(&words),
            ["auto"] => self.auto = true,
            ["ok"] => {
                if !self.shell.append_one() {
                    out.push("  nothing in flight".to_owned());
                }
            }
            ["fail", error] => {
                if !self.shell.fail_one(error_named(error)) {
                    out.push("  nothing in flight".to_owned());
                }
            }
            ["after", ms] => self
                .shell
                .advance(Duration::from_millis(ms.parse().expect("milliseconds"))),
            ["reload"] => self.shell.reload(),
            ["unload"] => {
                let mut effects = Vec::new();
                self.shell.coordinator.unload(&mut effects);
                self.shell.effects = effects;
                assert_eq!(self.shell.coordinator.next_deadline(), None);
            }
            ["fetch", group, partitions @ ..] => out.extend(self.fetch(group, partitions)),
            ["describe", group] => out.extend(self.describe(group)),
            ["list"] => out.extend(self.list(&words)),
            ["topics-gone", topics @ ..] => {
                let topics = topics.iter().map(|topic| (*topic).to_owned()).collect();
                self.shell.step(Event::TopicsDeleted(topics));
            }
            ["drop", who, groups @ ..] => {
                let request = self.label(who);
                let groups = groups.iter().map(|group| (*group).to_owned()).collect();
                self.shell.step(Event::DeleteGroups(request, groups));
            }
            [verb, group, who, rest @ ..] => {
                let request = self.label(who);
                let event = self.request_event(verb, (group, who, rest), &words, request);
                self.shell.step(event);
            }
            other => panic!("unknown command {other:?}"),
        }
        if self.auto {
            self.shell.append_all();
        }
        let effects = std::mem::take(&mut self.shell.effects);
        out.extend(effects.iter().map(|effect| self.print(effect)));
        out
    }

    fn label(&mut self, who: &str) -> RequestId {
        let request = self.shell.request();
        self.labels.insert(request, who.to_owned());
        request
    }

    fn configure(&mut self, words: &Words<'_>) {
        let config = &mut self.shell.config;
        config.group_initial_rebalance_delay_ms = words.number("delay", 0);
        config.group_max_size = words.number("size", usize::MAX);
        config.limits.groups_max = words.number("groups", usize::MAX);
        config.limits.all_members_max = words.number("members", usize::MAX);
        config.limits.all_members_bytes_max = words.number("bytes", usize::MAX);
        config.limits.pending_records_max = words.number("pending", usize::MAX);
        config.offsets_retention_minutes = words.number("retention", 10_080);
        self.shell.reload();
    }

    fn request_event(
        &mut self,
        verb: &str,
        target: (&str, &str, &[&str]),
        words: &Words<'_>,
        request: RequestId,
    ) -> Event {
        let (group, who, rest) = target;
        let group_id = if group == "-" {
            String::new()
        } else {
            group.to_owned()
        };
        let member_id = words.text("id");
        let group_instance_id = words.option("inst");
        let generation = words.number("gen", -1);
        match verb {
            "join" => Event::JoinGroup(request, self.join(group_id, who, words)),
            "sync" => Event::SyncGroup(
                request,
                SyncGroup {
                    group_id,
                    member_id,
                    group_instance_id,
                    generation,
                    protocol_type: words.option("type"),
                    protocol_name: words.option("proto"),
                    assignments: words.list("give", "").into_iter().map(assignment).collect(),
                },
            ),
            "hb" => Event::Heartbeat(
                request,
                Heartbeat {
                    group_id,
                    member_id,
                    group_instance_id,
                    generation,
                },
            ),
            "leave" => {
                let members = rest.iter().map(|text| leaving(text)).collect();
                Event::LeaveGroup(request, LeaveGroup { group_id, members })
            }
            "commit" => Event::OffsetCommit(
                request,
                OffsetCommit {
                    group_id,
                    member_id,
                    group_instance_id,
                    generation,
                    partitions: rest.iter().map(|text| commit(text, words)).collect(),
                    retention_ms: words.number("keep", -1),
                },
            ),
            "forget" => {
                let partitions = rest.iter().map(|text| topic_partition(text)).collect();
                Event::OffsetDelete(request, OffsetDelete { group_id, partitions })
            }
            other => panic!("unknown command {other}"),
        }
    }

    fn join(&mut self, group_id: String, who: &str, words: &Words<'_>) -> JoinGroup {
        self.joins += 1;
        let topics = words.list("topics", "t");
        let metadata = match words.named.get("meta") {
            Some(length) => Bytes::from(vec![7; length.parse().expect("length")]),
            None => subscription(&topics),
        };
        let protocols = words.list("proto", "range").into_iter().map(|name| Protocol {
            name: name.to_owned(),
            metadata: metadata.clone(),
        });
        JoinGroup {
            group_id,
            member_id: words.text("id"),
            group_instance_id: words.option("inst"),
            client_id: who.to_owned(),
            client_host: "/host".to_owned(),
            protocol_type: words.option("type").unwrap_or_else(|| "consumer".to_owned()),
            protocols: protocols.collect(),
            session_timeout_ms: words.number("session", 10_000),
            rebalance_timeout_ms: words.number("rebalance", 60_000),
            require_known_member_id: words.flag("reqid"),
            supports_skipping_assignment: words.flag("skip"),
            member_id_suffix: self.joins.to_string(),
            reason: String::new(),
        }
    }

    fn fetch(&self, group: &str, partitions: &[&str]) -> Vec<String> {
        let coordinator = &self.shell.coordinator;
        let offsets = if partitions.is_empty() {
            coordinator.fetch_all_offsets(group)
        } else {
            let wanted: Vec<_> = partitions.iter().map(|text| topic_partition(text)).collect();
            coordinator.fetch_offsets(group, &wanted)
        };
        let lines = offsets.iter().map(|o| {
            let metadata = if o.metadata.len() > 20 {
                "(long)"
            } else {
                &*o.metadata
            };
            format!("  {}:{}={} {metadata}", o.topic, o.partition, o.offset)
                .trim_end()
                .to_owned()
        });
        lines.collect()
    }

    fn describe(&self, group: &str) -> Vec<String> {
        let d = self.shell.coordinator.describe(group);
        let head = format!(
            "  {} {} type={} proto={} {}",
            d.error, d.state, d.protocol_type, d.protocol, d.error_message
        );
        let members = d.members.iter().map(|m| {
            format!(
                "  {}{} client={} host={} topics={} has={}",
                m.member_id,
                instance(m.group_instance_id.as_ref()),
                m.client_id,
                m.client_host,
                strom_groups::parse_subscribed_topics(&m.metadata)
                    .map_or_else(|_| "?".to_owned(), |topics| topics.join("+")),
                text(&m.assignment)
            )
        });
        std::iter::once(head.trim_end().to_owned())
            .chain(members)
            .collect()
    }

    fn list(&self, words: &Words<'_>) -> Vec<String> {
        let owned = |key| words.list(key, "").into_iter().map(str::to_owned).collect();
        let filter = GroupFilter {
            states: owned("state"),
            types: owned("type"),
        };
        let groups = self.shell.coordinator.list(&filter);
        let lines = groups.iter().map(|g| {
            format!(
                "  {} {} type={} {}",
                g.group_id, g.state, g.protocol_type, g.group_type
            )
        });
        lines.collect()
    }

    fn print(&self, effect: &Effect) -> String {
        match effect {
            Effect::Reply { request, reply } => {
                format!("  {} <- {}", self.labels[request], print_reply(reply))
            }
            Effect::Append { token, records } => {
                let records: Vec<String> = records.iter().map(print_record).collect();
                format!("  append {token}: {}", records.join("; "))
            }
            Effect::Transition {
                group,
                from,
                to,
                generation,
                reason,
            } => format!("  {group}: {from} -> {to}, generation {generation} ({reason})"),
        }
    }
}

fn assignment(text: &str) -> MemberAssignment {
    let (member_id, assignment) = text.split_once(':').expect("member:assignment");
    MemberAssignment {
        member_id: member_id.to_owned(),
        assignment: Bytes::copy_from_slice(assignment.as_bytes()),
    }
}

fn leaving(text: &str) -> LeavingMember {
    let (member_id, inst) = match text.split_once('/') {
        Some((id, inst)) => (id, Some(inst.to_owned())),
        None => (text, None),
    };
    LeavingMember {
        member_id: member_id.to_owned(),
        group_instance_id: inst,
        reason: "test".to_owned(),
    }
}

fn commit(text: &str, words: &Words<'_>) -> OffsetCommitPartition {
    let (key, offset) = text.split_once('=').expect("topic:partition=offset");
    let TopicPartition { topic, partition } = topic_partition(key);
    OffsetCommitPartition {
        topic,
        topic_id: TopicId::ZERO,
        partition,
        offset: offset.parse().expect("offset"),
        leader_epoch: LeaderEpoch(3),
        metadata: "m".repeat(words.number("meta", 0)),
    }
}
