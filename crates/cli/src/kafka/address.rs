//! `host:port`, and a comma-separated list of them.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// Kafka's usual client port, assumed where none is given.
const DEFAULT_PORT: u16 = 9092;

/// Where a broker listens. IPv6 hosts are held without brackets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Address {
    pub(crate) host: String,
    pub(crate) port: u16,
}

#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{0:?} is no address: expected HOST:PORT, e.g. 127.0.0.1:9092")]
pub(crate) struct AddressError(String);

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let wrong = || AddressError(text.to_owned());
        // `PLAINTEXT://host:port`, as in a broker's own settings.
        let plain = text
            .trim()
            .rsplit_once("://")
            .map_or(text.trim(), |(_, rest)| rest);
        let (host, port) = match plain.strip_prefix('[') {
            Some(rest) => {
                let (host, tail) = rest.split_once(']').ok_or_else(wrong)?;
                (host, tail.strip_prefix(':'))
            }
            None => match plain.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (plain, None),
            },
        };
        let port = port.map_or(Ok(DEFAULT_PORT), str::parse).map_err(|_| wrong())?;
        if host.is_empty() || host.contains(char::is_whitespace) || port == 0 {
            return Err(wrong());
        }
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// The servers to ask first, at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bootstrap(pub(crate) Vec<Address>);

impl FromStr for Bootstrap {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let parts = text.split(',').filter(|part| !part.trim().is_empty());
        let addresses: Vec<Address> = parts.map(str::parse).collect::<Result<_, _>>()?;
        if addresses.is_empty() {
            return Err(AddressError(text.to_owned()));
        }
        Ok(Self(addresses))
    }
}

impl fmt::Display for Bootstrap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, address) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{address}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_and_print() {
        for (text, shown) in [
            ("127.0.0.1:19092", "127.0.0.1:19092"),
            ("localhost", "localhost:9092"),
            ("[::1]:1234", "[::1]:1234"),
            ("PLAINTEXT://kafka:9093", "kafka:9093"),
            ("a:1, b:2 ,", "a:1,b:2"),
        ] {
            let read: Bootstrap = text.parse().unwrap();
            assert_eq!(read.to_string(), shown);
        }
        for bad in [
            "",
            ",",
            ":9092",
            "host:",
            "host:x",
            "host:70000",
            "host:0",
            "[::1",
            "a b:1",
        ] {
            assert!(bad.parse::<Bootstrap>().is_err(), "{bad:?}");
        }
    }
}
