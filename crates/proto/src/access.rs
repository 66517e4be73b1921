//! Which roles may call which internal method: the one table, asked by every listener that knows its callers.

use strom_types::Role;

use Role::{Broker, Controller, Gateway};

/// Every method of `/proto`, as `Service/Method`. A method that is missing is nobody's.
const TABLE: &[(&str, &[Role])] = &[
    // Record data of clients, by way of the gateways.
    ("BrokerData/Produce", &[Gateway]),
    ("BrokerData/Fetch", &[Gateway]),
    ("BrokerControl/ListOffsets", &[Gateway]),
    ("BrokerControl/OffsetsForLeaderEpoch", &[Gateway]),
    ("BrokerControl/DeleteRecords", &[Gateway]),
    ("BrokerControl/DescribeLogDirs", &[Gateway]),
    ("BrokerControl/DescribeProducers", &[Gateway]),
    ("BrokerControl/InitProducerId", &[Gateway]),
    ("BrokerControl/DescribeConfig", &[Gateway]),
    ("BrokerControl/AwaitMetadata", &[Gateway]),
    ("GroupCoordinator/JoinGroup", &[Gateway]),
    ("GroupCoordinator/SyncGroup", &[Gateway]),
    ("GroupCoordinator/Heartbeat", &[Gateway]),
    ("GroupCoordinator/LeaveGroup", &[Gateway]),
    ("GroupCoordinator/OffsetCommit", &[Gateway]),
    ("GroupCoordinator/OffsetFetch", &[Gateway]),
    ("GroupCoordinator/OffsetDelete", &[Gateway]),
    ("GroupCoordinator/DescribeGroups", &[Gateway]),
    ("GroupCoordinator/ListGroups", &[Gateway]),
    ("GroupCoordinator/DeleteGroups", &[Gateway]),
    // Between brokers; the hello names the follower, which must be the caller.
    ("Replication/Replicate", &[Broker]),
    // What only a broker may say, and each only of itself.
    ("Controller/RegisterBroker", &[Broker]),
    ("Controller/BrokerHeartbeat", &[Broker]),
    ("Controller/AlterPartition", &[Broker]),
    ("Controller/AllocateProducerIds", &[Broker]),
    // Brokers and gateways alike live by the metadata.
    ("Controller/WatchMetadata", &[Broker, Gateway]),
    // What clients ask for.
    ("Controller/RegisterGateway", &[Gateway]),
    ("Controller/UnregisterBroker", &[Gateway]),
    ("Controller/CreateTopics", &[Gateway]),
    ("Controller/DeleteTopics", &[Gateway]),
    ("Controller/CreatePartitions", &[Gateway]),
    ("Controller/AlterConfigs", &[Gateway]),
    ("Controller/ElectLeaders", &[Gateway]),
    ("Controller/DescribeQuorum", &[Gateway]),
    // Between controllers.
    ("Raft/Send", &[Controller]),
    ("Raft/InstallSnapshot", &[Controller]),
];

/// The roles that may call the method at `path` (`/strom.v1.Service/Method`).
pub fn callers(path: &str) -> &'static [Role] {
    let method = path.strip_prefix("/strom.v1.").unwrap_or_default();
    let row = TABLE.iter().find(|(known, _)| *known == method);
    row.map_or(&[], |(_, roles)| roles)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_table_has_every_method_once() {
        let mut methods = BTreeSet::new();
        for file in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../../proto")).unwrap() {
            let path = file.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "proto") {
                continue;
            }
            let mut service = String::new();
            for line in std::fs::read_to_string(path).unwrap().lines() {
                let mut words = line
                    .split(|c: char| !c.is_alphanumeric())
                    .filter(|w| !w.is_empty());
                match (words.next(), words.next()) {
                    (Some("service"), Some(name)) => service = name.to_owned(),
                    (Some("rpc"), Some(name)) => assert!(methods.insert(format!("{service}/{name}"))),
                    _ => {}
                }
            }
        }
        let table: BTreeSet<String> = TABLE.iter().map(|(method, _)| (*method).to_owned()).collect();
        assert_eq!(table, methods);
        assert_eq!(table.len(), TABLE.len());
    }

    #[test]
    fn a_method_is_found_by_its_whole_path() {
        assert_eq!(callers("/strom.v1.Controller/AlterPartition"), [Broker]);
        for unknown in [
            "",
            "/",
            "Controller/AlterPartition",
            "/strom.v1.Controller/",
            "/strom.v1.Controller/AlterPartition/",
            "/strom.v2.Controller/AlterPartition",
        ] {
            assert_eq!(callers(unknown), [], "{unknown}");
        }
    }
}
