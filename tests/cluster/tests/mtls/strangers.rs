//! Who has no certificate of the services' authority, or none that names a role, gets no connection.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use strom_client::Peers;
use strom_cluster::until;
use strom_proto::v1::DescribeQuorumRequest;
use strom_testkit::{Authority, Cluster, Member};
use strom_types::Identity;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::Code;

use super::callers::{controller, peers};
use super::{builder, refused, told};

const MEMBERS: [Member; 2] = [Member::Controller(0), Member::Broker(0)];

/// Waits for the refusal, and for one line of it however often it is tried.
async fn assert_refused(cluster: &Cluster, member: Member, reason: &str, count: f64, lines: usize) {
    let what = format!("{count} refusals for {reason} by {member:?}");
    until(&what, || async {
        (refused(cluster, member, reason) >= count).then_some(())
    })
    .await;
    assert_eq!(told(cluster).len(), lines, "{:#?}", told(cluster));
}

async fn assert_no_answer(cluster: &Cluster, peers: &Peers) {
    let failed = controller(cluster, peers)
        .describe_quorum(DescribeQuorumRequest {})
        .await
        .unwrap_err();
    assert!(
        matches!(
            failed.code(),
            Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Internal
        ),
        "{failed:?}"
    );
    assert!(failed.details().is_empty(), "{failed:?}");
}

#[tokio::test]
async fn no_certificate() {
    let cluster = builder().start().await;
    for (n, member) in MEMBERS.into_iter().enumerate() {
        for _ in 0..3 {
            assert_closed_without_certificate(&cluster, member).await;
        }
        assert_refused(&cluster, member, "handshake", 3.0, n + 1).await;
    }
}

/// A client that trusts the server, and has nothing to show.
async fn assert_closed_without_certificate(cluster: &Cluster, member: Member) {
    // Signed for a host, so that the client's own check passes: what is tested is the server's.
    let mut authorities = RootCertStore::empty();
    let trusted = cluster.authority().issue("nobody", &[]).authority;
    authorities
        .add(CertificateDer::from_pem_file(trusted).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier =
        rustls::client::WebPkiServerVerifier::builder_with_provider(authorities.into(), provider.clone());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_webpki_verifier(verifier.build().unwrap())
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let socket = TcpStream::connect(cluster.internal_address(member))
        .await
        .unwrap();
    let name = ServerName::try_from("service.test").unwrap();
    let Ok(mut stream) = TlsConnector::from(Arc::new(config)).connect(name, socket).await else {
        return;
    };
    // The client's side of TLS 1.3 ends before the server has seen what the client has.
    let _ = stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    let read = stream.read(&mut [0; 64]).await;
    assert!(!matches!(read, Ok(1..)), "the server has answered: {read:?}");
}

#[tokio::test]
async fn another_authority() {
    let cluster = builder().start().await;
    let other = Authority::new(cluster.scratch_dir(), "other");
    let mut stranger = other.issue("stranger", &[Identity::Gateway]);
    // It does trust the servers.
    stranger.authority = cluster.authority().issue("nobody", &[]).authority;
    for _ in 0..3 {
        assert_no_answer(&cluster, &Peers::secured(Some(stranger.tls()))).await;
    }
    assert_refused(&cluster, Member::Controller(0), "handshake", 3.0, 1).await;
}

#[tokio::test]
async fn an_expired_certificate() {
    let cluster = builder().start().await;
    let expired = cluster
        .authority()
        .issue_with("expired", &[Identity::Gateway], |params| {
            params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        });
    assert_no_answer(&cluster, &Peers::secured(Some(expired.tls()))).await;
    assert_refused(&cluster, Member::Controller(0), "handshake", 1.0, 1).await;
}

#[tokio::test]
async fn plain_text() {
    let cluster = builder().start().await;
    assert_no_answer(&cluster, &Peers::new()).await;
    assert_refused(&cluster, Member::Controller(0), "handshake", 1.0, 1).await;
}

#[tokio::test]
async fn a_certificate_that_names_no_role() {
    let cluster = builder().start().await;
    assert_no_answer(&cluster, &peers(&cluster, &[])).await;
    assert_refused(&cluster, Member::Controller(0), "identity", 1.0, 1).await;
}

/// Nor is it told of: orchestrators look whether the port is open.
#[tokio::test]
async fn a_probe_of_the_port_is_no_refusal() {
    let cluster = builder().start().await;
    drop(
        TcpStream::connect(cluster.internal_address(Member::Broker(0)))
            .await
            .unwrap(),
    );
    assert_no_answer(&cluster, &Peers::new()).await;
    assert_refused(&cluster, Member::Controller(0), "handshake", 1.0, 1).await;
    assert!(refused(&cluster, Member::Broker(0), "handshake") < 1.0);
}
