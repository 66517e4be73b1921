//! Evidence that a broker's process is gone: its heartbeat stream broke and its address refuses connections.

use std::io;
use std::time::Duration;

use strom_runtime::Endpoint;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{sleep, timeout};

const TRIES: u32 = 10;
const PAUSE: Duration = Duration::from_millis(50);
const CONNECT_MAX: Duration = Duration::from_secs(1);

/// Whether the process behind `endpoint` is surely gone. Tries for about half a second, since a dying process closes
/// its sockets one after the other. Time-outs, resets and unreachable hosts prove nothing.
pub(crate) async fn is_dead(endpoint: &str) -> bool {
    // Services of this process (`local:…`) have no address; they die with it.
    let Ok(endpoint) = endpoint.parse::<Endpoint>() else {
        return false;
    };
    for _ in 0..TRIES {
        if refuses(&endpoint).await {
            return true;
        }
        sleep(PAUSE).await;
    }
    false
}

async fn refuses(endpoint: &Endpoint) -> bool {
    let attempt = async {
        match endpoint {
            Endpoint::Tcp(address) => TcpStream::connect((address.host.as_str(), address.port))
                .await
                .map(drop),
            Endpoint::Unix(path) => UnixStream::connect(path).await.map(drop),
        }
    };
    match timeout(CONNECT_MAX, attempt).await {
        Ok(Err(error)) => match endpoint {
            Endpoint::Tcp(_) => error.kind() == io::ErrorKind::ConnectionRefused,
            // An orderly end removes the socket's file.
            Endpoint::Unix(_) => matches!(
                error.kind(),
                io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound
            ),
        },
        Ok(Ok(())) | Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, UnixListener};

    use super::*;

    #[tokio::test]
    async fn only_a_refusal_is_proof() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let address = listener.local_addr().expect("bound").to_string();
        assert!(!is_dead(&address).await);
        drop(listener);
        assert!(is_dead(&address).await);
        for unknown in ["local:broker", "no.such.host.invalid:1", ""] {
            assert!(!is_dead(unknown).await, "{unknown}");
        }
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("b.sock");
        let endpoint = format!("unix://{}", path.display());
        let listener = UnixListener::bind(&path).expect("binds");
        assert!(!is_dead(&endpoint).await);
        drop(listener);
        assert!(is_dead(&endpoint).await);
        std::fs::remove_file(&path).expect("was there");
        assert!(is_dead(&endpoint).await);
    }
}
