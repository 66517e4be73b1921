//! Compiles /proto into messages and stubs, without a protoc on the machine.

use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto");
    let files = [
        "errors",
        "metadata",
        "controller",
        "raft",
        "broker",
        "group",
        "replication",
    ];
    let paths: Vec<_> = files
        .iter()
        .map(|name| root.join(format!("{name}.proto")))
        .collect();
    for path in &paths {
        println!("cargo:rerun-if-changed={}", path.display());
    }
    let descriptors = protox::compile(&paths, [&root])?;
    tonic_prost_build::configure()
        .bytes(".")
        .btree_map(".")
        .compile_fds(descriptors)?;
    Ok(())
}
