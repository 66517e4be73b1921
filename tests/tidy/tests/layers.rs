//! The layer rule: a crate depends only on the crates this table names, and pure crates on nothing that acts.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{CargoOpt, DependencyKind, MetadataCommand};

/// Who may depend on whom, lowest layer first. Every edge points to an earlier row.
const EDGES: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("config", &[]),
    ("records", &["types"]),
    ("kafka-codec", &[]),
    ("proto", &["types"]),
    ("runtime", &["types", "config"]),
    ("metadata", &["types", "config", "proto"]),
    ("replication", &["types"]),
    ("groups", &["types"]),
    ("raft-node", &["types", "proto", "runtime"]),
    ("log", &["types", "records", "runtime"]),
    ("client", &["types", "proto", "runtime", "metadata"]),
    (
        "controller",
        &[
            "types",
            "config",
            "proto",
            "runtime",
            "metadata",
            "raft-node",
            "client",
        ],
    ),
    // kafka-codec: only for the record schemas of __consumer_offsets.
    (
        "broker",
        &[
            "types",
            "config",
            "records",
            "kafka-codec",
            "proto",
            "runtime",
            "metadata",
            "replication",
            "groups",
            "log",
            "client",
        ],
    ),
    (
        "gateway",
        &[
            "types",
            "config",
            "records",
            "kafka-codec",
            "proto",
            "runtime",
            "metadata",
            "client",
        ],
    ),
    (
        "cli",
        &[
            "types",
            "config",
            "records",
            "kafka-codec",
            "client",
            "proto",
            "runtime",
        ],
    ),
    (
        "strom",
        &[
            "types",
            "config",
            "controller",
            "broker",
            "gateway",
            "cli",
            "runtime",
            "client",
            "proto",
        ],
    ),
    (
        "sim",
        &[
            "types",
            "config",
            "proto",
            "metadata",
            "replication",
            "groups",
            "raft-node",
        ],
    ),
    (
        "testkit",
        &[
            "types",
            "config",
            "controller",
            "broker",
            "gateway",
            "client",
            "proto",
            "runtime",
        ],
    ),
];

/// Pure crates compute; whatever acts on the world is out of their reach.
const PURE: &[&str] = &[
    "types",
    "config",
    "records",
    "kafka-codec",
    "metadata",
    "replication",
    "groups",
];
const ACTORS: &[&str] = &[
    "tokio", "rocksdb", "raft", "rand", "rustix", "tracing", "axum", "hyper",
];

/// Dependencies that stay behind the one crate that owns them.
const OWNED: &[(&str, &str)] = &[
    ("raft", "raft-node"),
    ("rocksdb", "raft-node"),
    ("crc32c", "records raft-node log"),
    ("axum", "runtime"),
];

fn normal_dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml");
    let metadata = MetadataCommand::new()
        .manifest_path(manifest)
        .features(CargoOpt::AllFeatures)
        .no_deps()
        .exec();
    let metadata = metadata.expect("cargo metadata");
    let crates = metadata
        .packages
        .iter()
        .filter(|p| p.manifest_path.as_str().contains("/crates/"));
    crates
        .map(|package| {
            let dependencies = package
                .dependencies
                .iter()
                .filter(|d| d.kind == DependencyKind::Normal);
            (
                folder(&package.name),
                dependencies.map(|d| d.name.clone()).collect(),
            )
        })
        .collect()
}

fn folder(package: &str) -> String {
    package.strip_prefix("strom-").unwrap_or(package).to_owned()
}

#[test]
fn edges_only_point_downward() {
    let allowed: BTreeMap<&str, &[&str]> = EDGES.iter().copied().collect();
    let order: Vec<&str> = EDGES.iter().map(|(name, _)| *name).collect();
    for (name, edges) in EDGES {
        let own = order.iter().position(|o| o == name);
        for edge in *edges {
            assert!(
                order.iter().position(|o| o == edge) < own,
                "the table lets {name} depend upward on {edge}"
            );
        }
    }
    for (name, dependencies) in normal_dependencies() {
        let edges = allowed
            .get(name.as_str())
            .unwrap_or_else(|| panic!("crate {name} is not in the table"));
        for dependency in dependencies.iter().filter(|d| d.starts_with("strom-")) {
            let dependency = folder(dependency);
            assert!(
                edges.contains(&dependency.as_str()),
                "{name} must not depend on {dependency}"
            );
        }
    }
}

#[test]
fn pure_crates_do_not_act() {
    let all = normal_dependencies();
    for name in PURE {
        for dependency in all.get(*name).into_iter().flatten() {
            assert!(
                !ACTORS.contains(&dependency.as_str()),
                "{name} is pure and must not depend on {dependency}"
            );
        }
    }
}

#[test]
fn owned_dependencies_stay_with_their_owner() {
    for (name, dependencies) in normal_dependencies() {
        for (dependency, owners) in OWNED {
            if dependencies.contains(*dependency) {
                assert!(
                    owners.split(' ').any(|o| o == name),
                    "{dependency} is reached only through {owners}"
                );
            }
        }
    }
}
