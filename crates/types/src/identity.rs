//! What a service is to the other services, as its certificate says.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::BrokerId;

const SCHEME: &str = "strom://";

/// What a process may be.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Role {
    Controller,
    Broker,
    Gateway,
}

/// A role, and which broker. As text, and as URI in a certificate's subject alternative names: `strom://controller`,
/// `strom://broker/3`, `strom://gateway`. A process of several roles has several.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Identity {
    Controller,
    Broker(BrokerId),
    Gateway,
}

#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("{0:?} is none of strom://controller, strom://broker/ID and strom://gateway")]
pub struct UnknownIdentity(pub String);

impl Identity {
    pub fn role(self) -> Role {
        match self {
            Identity::Controller => Role::Controller,
            Identity::Broker(_) => Role::Broker,
            Identity::Gateway => Role::Gateway,
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Identity::Controller => write!(f, "{SCHEME}controller"),
            Identity::Broker(id) => write!(f, "{SCHEME}broker/{id}"),
            Identity::Gateway => write!(f, "{SCHEME}gateway"),
        }
    }
}

impl FromStr for Identity {
    type Err = UnknownIdentity;

    /// Takes only what [`Display`](fmt::Display) writes: one broker has one spelling.
    fn from_str(text: &str) -> Result<Self, UnknownIdentity> {
        let identity = match text.strip_prefix(SCHEME) {
            Some("controller") => Some(Identity::Controller),
            Some("gateway") => Some(Identity::Gateway),
            Some(path) => path
                .strip_prefix("broker/")
                .and_then(|id| id.parse().ok())
                .filter(|id| *id >= 0)
                .map(|id| Identity::Broker(BrokerId(id))),
            None => None,
        };
        identity
            .filter(|identity| identity.to_string() == text)
            .ok_or_else(|| UnknownIdentity(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_has_one_spelling() {
        for identity in [
            Identity::Controller,
            Identity::Gateway,
            Identity::Broker(BrokerId(0)),
            Identity::Broker(BrokerId(i32::MAX)),
        ] {
            assert_eq!(identity.to_string().parse(), Ok(identity));
        }
        for other in [
            "",
            "controller",
            "strom://",
            "strom://Controller",
            "strom://controller/",
            "strom://broker",
            "strom://broker/",
            "strom://broker/-1",
            "strom://broker/+1",
            "strom://broker/01",
            "strom://broker/2147483648",
            "strom://broker/1/2",
            "spiffe://broker/1",
        ] {
            assert_eq!(other.parse::<Identity>(), Err(UnknownIdentity(other.into())));
        }
    }
}
