//! A test fails when a process under it warns of something that the test did not expect.

use strom_testkit::Cluster;

/// Makes the gateway warn.
async fn send_garbage(cluster: &Cluster) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut socket = tokio::net::TcpStream::connect(cluster.gateway(0))
        .await
        .expect("a gateway");
    socket.write_all(&[0xff; 8]).await.expect("sent");
    let _ = socket.read(&mut [0; 8]).await;
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
    while cluster.logs().is_empty() {
        assert!(tokio::time::Instant::now() < deadline, "no warning came");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

#[tokio::test]
#[should_panic(expected = "unexpected logs")]
async fn an_unexpected_warning_fails_the_test() {
    let cluster = Cluster::builder().start().await;
    send_garbage(&cluster).await;
}

#[tokio::test]
async fn an_allowed_warning_passes() {
    let cluster = Cluster::builder()
        .allow_log("closed a client's connection")
        .start()
        .await;
    send_garbage(&cluster).await;
}
