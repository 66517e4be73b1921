//! The two ends of a connection between services alone: whom a client takes for a server, and certificates that are
//! replaced while both run.
#![allow(clippy::unwrap_used)]

use std::fs::copy;

use strom_client::Peers;
use strom_proto::access;
use strom_proto::v1::raft_client::RaftClient;
use strom_runtime::admin::BuildInfo;
use strom_runtime::config::{Sources, load};
use strom_runtime::{Clock, Endpoint, GrpcListener, Guard, InternalTls, Metrics, Services, Shutdown};
use strom_testkit::{Authority, Credentials};
use strom_types::{BrokerId, Identity};
use tempfile::TempDir;
use tokio::task::JoinHandle;

/// A listener with nothing behind it.
async fn serve(tls: InternalTls) -> (String, JoinHandle<()>) {
    let build = BuildInfo {
        version: "test",
        roles: String::new(),
    };
    let guard = Guard::new(tls, access::callers, &Metrics::new(&Clock::system(), build));
    let listener = GrpcListener::bind(&Endpoint::tcp("127.0.0.1", 0)).await.unwrap();
    let GrpcListener::Tcp(socket) = &listener else {
        panic!("a TCP listener");
    };
    let address = socket.local_addr().unwrap().to_string();
    let served = tokio::spawn(async move {
        listener
            .serve(&Services::default(), Some(guard), Shutdown::new())
            .await
            .unwrap();
    });
    (address, served)
}

/// What a controller hears there.
async fn call(peers: &Peers, address: &str) -> String {
    let mut raft = RaftClient::new(peers.control(address).unwrap());
    let outcome = raft.send(tokio_stream::empty()).await;
    format!("{:?}", outcome.unwrap_err())
}

fn replace(old: &Credentials, new: &Credentials) {
    for (old, new) in [
        (&old.certificate, &new.certificate),
        (&old.key, &new.key),
        (&old.authority, &new.authority),
    ] {
        copy(new, old).unwrap();
    }
}

#[tokio::test]
async fn new_connections_go_by_the_newest_files() {
    let dir = TempDir::new().unwrap();
    let authority = Authority::new(dir.path(), "first");
    let server = authority.issue("server", &[Identity::Controller]);
    let server_tls = server.tls();
    let (address, served) = serve(server_tls.clone()).await;
    let old = || Peers::secured(Some(authority.issue("old", &[Identity::Controller]).tls()));
    let met = |outcome: &str| outcome.contains("does not run here");
    assert!(met(&call(&old(), &address).await));
    assert!(!server_tls.reload().unwrap(), "nothing has changed");

    let other_dir = TempDir::new().unwrap();
    let next = Authority::new(other_dir.path(), "next");
    replace(&server, &next.issue("server", &[Identity::Controller]));
    assert!(server_tls.reload().unwrap());
    let new = Peers::secured(Some(next.issue("new", &[Identity::Controller]).tls()));
    assert!(met(&call(&new, &address).await));
    // It trusts the new authority, whose file this is now, and is vouched for by the old one.
    assert!(!met(&call(&old(), &address).await));

    // What is no good changes nothing.
    std::fs::write(&server.certificate, "no certificate").unwrap();
    server_tls.reload().unwrap_err();
    let again = Peers::secured(Some(next.issue("again", &[Identity::Controller]).tls()));
    assert!(met(&call(&again, &address).await));
    served.abort();
}

/// A gateway serves no internal calls: its certificate at a service's address is somebody's who has taken it there.
#[tokio::test]
async fn a_server_must_be_a_controller_or_a_broker() {
    let dir = TempDir::new().unwrap();
    let authority = Authority::new(dir.path(), "authority");
    for (identity, good) in [(Identity::Gateway, false), (Identity::Broker(BrokerId(3)), true)] {
        let server = authority.issue("server", &[identity]);
        let (address, served) = serve(server.tls()).await;
        let peers = Peers::secured(Some(authority.issue("caller", &[Identity::Controller]).tls()));
        let outcome = call(&peers, &address).await;
        // What answers has no such service, which the caller could learn only after the handshake.
        assert_eq!(
            outcome.contains("does not run here"),
            good,
            "{identity}: {outcome}"
        );
        served.abort();
    }
}

#[test]
fn a_process_must_be_named_by_its_own_certificate() {
    let dir = TempDir::new().unwrap();
    let authority = Authority::new(dir.path(), "authority");
    let two = [Identity::Controller, Identity::Broker(BrokerId(3))];
    let settings = load(&Sources {
        flags: authority.issue("node", &two).settings(),
        ..Sources::default()
    })
    .unwrap();
    for (own, good) in [
        (two.to_vec(), true),
        (vec![Identity::Broker(BrokerId(3))], true),
        (vec![Identity::Broker(BrokerId(4))], false),
        (vec![Identity::Controller, Identity::Gateway], false),
    ] {
        let loaded = InternalTls::from_settings(&settings, own.clone());
        assert_eq!(loaded.is_ok(), good, "{own:?}");
    }
}
