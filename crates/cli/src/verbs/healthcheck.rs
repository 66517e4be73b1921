//! `strom healthcheck`: one HTTP GET to a node's admin port, without an async runtime, so that a probe costs little.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use crate::args::Span;
use crate::exit::Error;
use crate::kafka::Address;
use crate::output::{Block, Format, Output, View};

/// More than a probe says; the rest is not read.
const REPLY_BYTES_MAX: u64 = 64 * 1024;

/// Ask a node whether it is ready: exit code 0 if so, 3 if not
#[derive(Args, Clone, Debug)]
pub struct HealthcheckArgs {
    /// The node's admin address
    #[arg(
        long,
        value_name = "HOST:PORT",
        env = "STROM_ADMIN",
        hide_env_values = true,
        default_value = "127.0.0.1:9644"
    )]
    admin: Address,
    /// What to ask: /readyz, /livez or /startupz
    #[arg(long, value_name = "PATH", default_value = "/readyz")]
    path: String,
    /// How long to wait for the answer
    #[arg(long, value_name = "TIME", default_value = "2s")]
    timeout: Span,
    /// How to show the answer
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
    /// Say nothing, only set the exit code
    #[arg(long, short)]
    quiet: bool,
}

#[derive(Serialize)]
struct Health {
    admin: String,
    path: String,
    healthy: bool,
    status: u16,
    detail: String,
}

impl View for Health {
    fn blocks(&self) -> Vec<Block> {
        let state = if self.healthy { "ok" } else { "not ok" };
        vec![Block::Line(format!(
            "{} {}: {state}: {}",
            self.admin, self.path, self.detail
        ))]
    }
}

pub(crate) fn run(args: &HealthcheckArgs, output: &mut Output) -> Result<(), Error> {
    output.format = args.output;
    output.quiet = args.quiet;
    if !args.path.starts_with('/') || args.path.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(Error::Usage(format!(
            "--path {:?}: expected a path like /readyz",
            args.path
        )));
    }
    let (status, detail) = get(&args.admin, &args.path, args.timeout.0).map_err(|error| {
        Error::Unhealthy(format!(
            "{} does not answer on its admin port: {error}",
            args.admin
        ))
    })?;
    let healthy = (200..300).contains(&status);
    if !args.quiet {
        output.show(&Health {
            admin: args.admin.to_string(),
            path: args.path.clone(),
            healthy,
            status,
            detail: detail.clone(),
        })?;
    }
    if healthy {
        Ok(())
    } else {
        Err(Error::Unhealthy(format!(
            "{} says {status}: {detail}",
            args.admin
        )))
    }
}

/// The status and the body of `GET path`.
fn get(address: &Address, path: &str, limit: Duration) -> io::Result<(u16, String)> {
    let until = Instant::now() + limit;
    let left = || match until.saturating_duration_since(Instant::now()) {
        Duration::ZERO => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("no answer within {limit:?}"),
        )),
        left => Ok(left),
    };
    let mut refused = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for candidate in (address.host.as_str(), address.port).to_socket_addrs()? {
        let mut stream = match TcpStream::connect_timeout(&candidate, left()?) {
            Ok(stream) => stream,
            Err(error) => {
                refused = error;
                continue;
            }
        };
        stream.set_write_timeout(Some(left()?))?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes())?;
        return parse(&read_all(&mut stream, left)?);
    }
    Err(refused)
}

fn read_all(stream: &mut TcpStream, left: impl Fn() -> io::Result<Duration>) -> io::Result<Vec<u8>> {
    let mut reply = Vec::new();
    let mut buffer = [0; 4096];
    while (reply.len() as u64) < REPLY_BYTES_MAX {
        stream.set_read_timeout(Some(left()?))?;
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => reply.extend_from_slice(buffer.get(..count).unwrap_or_default()),
            // The deadline is checked on the way in again.
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                left()?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(reply)
}

/// Enough of HTTP/1.1 for a probe: the status line, and the body in one piece.
fn parse(reply: &[u8]) -> io::Result<(u16, String)> {
    let text = String::from_utf8_lossy(reply);
    let wrong = || io::Error::new(io::ErrorKind::InvalidData, "the reply is not HTTP");
    let mut words = text.lines().next().unwrap_or_default().split(' ');
    if !words.next().is_some_and(|version| version.starts_with("HTTP/1.")) {
        return Err(wrong());
    }
    let status = words
        .next()
        .and_then(|word| word.parse().ok())
        .ok_or_else(wrong)?;
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    // Of a chunked body, the first chunk: probes say one short thing.
    let body = if chunked {
        body.split("\r\n").nth(1).unwrap_or_default()
    } else {
        body
    };
    let reason = words.collect::<Vec<_>>().join(" ");
    let body = body.trim();
    Ok((status, if body.is_empty() { reason } else { body.to_owned() }))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    #[test]
    fn replies_are_read() {
        let parsed = |text: &str| parse(text.as_bytes()).ok();
        assert_eq!(
            parsed("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"),
            Some((200, "ok".to_owned()))
        );
        assert_eq!(
            parsed("HTTP/1.1 503 Service Unavailable\r\n\r\n"),
            Some((503, "Service Unavailable".to_owned()))
        );
        assert_eq!(
            parsed("HTTP/1.1 503 x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nraft?\r\n0\r\n\r\n"),
            Some((503, "raft?".to_owned()))
        );
        for bad in ["", "SSH-2.0-x", "HTTP/1.1", "HTTP/1.1 abc", "\0\0\0\x05"] {
            assert_eq!(parsed(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_silent_server_is_given_up_in_time() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let holder = thread::spawn(move || listener.accept());
        let address = Address {
            host: "127.0.0.1".to_owned(),
            port,
        };
        let error = get(&address, "/readyz", Duration::from_millis(100)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(holder.join());
    }
}
