//! The address of an internal gRPC server: `host:port` or `unix:///path`.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use thiserror::Error;

use crate::listeners::{HostPort, parse_host_port};

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Endpoint {
    Tcp(HostPort),
    /// An absolute path.
    Unix(PathBuf),
}

#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("{0:?} is no address: expected host:port or unix:///path")]
pub struct EndpointError(pub String);

impl Endpoint {
    pub fn tcp(host: impl Into<String>, port: u16) -> Self {
        Endpoint::Tcp(HostPort {
            host: host.into(),
            port,
        })
    }

    /// Whether what is sent there stays on this machine.
    pub fn is_local(&self) -> bool {
        match self {
            Endpoint::Unix(_) => true,
            Endpoint::Tcp(address) => {
                let ip: Result<IpAddr, _> = address.host.parse();
                ip.map_or(address.host == "localhost", |ip| ip.is_loopback())
            }
        }
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let wrong = || EndpointError(text.to_owned());
        if let Some(path) = text.strip_prefix("unix://") {
            return match path.strip_prefix('/') {
                Some(rest) if !rest.is_empty() => Ok(Endpoint::Unix(PathBuf::from(path))),
                _ => Err(wrong()),
            };
        }
        let address = text.strip_prefix("http://").unwrap_or(text);
        match parse_host_port(address) {
            Some(address) if !address.host.is_empty() => Ok(Endpoint::Tcp(address)),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Tcp(address) => address.fmt(f),
            Endpoint::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_on_this_machine() {
        let local = |text: &str| text.parse::<Endpoint>().unwrap().is_local();
        for here in [
            "localhost:1",
            "127.0.0.1:1",
            "127.8.9.1:1",
            "[::1]:1",
            "unix:///x",
        ] {
            assert!(local(here), "{here}");
        }
        for there in [
            "0.0.0.0:1",
            "[::]:1",
            "10.0.0.1:1",
            "localhost.example:1",
            "broker-0:1",
        ] {
            assert!(!local(there), "{there}");
        }
    }

    #[test]
    fn addresses_read_back() {
        for text in [
            "localhost:9190",
            "[::1]:9190",
            "10.0.0.1:1",
            "unix:///run/strom/broker.sock",
        ] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
        assert_eq!("http://a:1".parse::<Endpoint>(), Ok(Endpoint::tcp("a", 1)));
        for bad in [
            "",
            "localhost",
            "localhost:",
            "localhost:99999",
            ":9190",
            "::1:9190",
            "unix://",
            "unix://x",
            "unix:///",
            "a b:1",
            "a/b:1",
        ] {
            assert_eq!(
                bad.parse::<Endpoint>(),
                Err(EndpointError(bad.to_owned())),
                "{bad}"
            );
        }
    }
}
