//! `listeners`, `advertised.listeners`, `listener.security.protocol.map`: where Kafka clients connect.

use std::fmt;

use thiserror::Error;

use crate::config::Settings;

/// A host and a port. IPv6 addresses are kept without their brackets.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct HostPort {
    pub host: String,
    pub port: u16,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// One Kafka listener.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listener {
    /// Upper case, as Kafka normalizes it.
    pub name: String,
    /// Where to bind; `0.0.0.0` where the configuration leaves the host out.
    pub bind: HostPort,
    /// What clients are told; `None` where neither `advertised.listeners` nor a host that others can reach is
    /// given: then the address that the client itself connected to is the best there is.
    pub advertised: Option<HostPort>,
}

/// The listeners of a process, by role.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Listeners {
    pub clients: Vec<Listener>,
    /// Those in `controller.listener.names`: Kafka's way to its controllers, not opened by Strom.
    pub controllers: Vec<Listener>,
}

#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum ListenerError {
    #[error("{key}: {entry:?} is not of the form NAME://host:port")]
    Form { key: &'static str, entry: String },
    #[error("{key}: each listener must have a different name: {name} is there twice")]
    SameName { key: &'static str, name: String },
    #[error("listeners: each listener must have a different port: {port} is there twice")]
    SamePort { port: u16 },
    #[error("listener.security.protocol.map: {entry:?} is not of the form NAME:PROTOCOL")]
    Map { entry: String },
    #[error("listener.security.protocol.map has no protocol for the listener {name}")]
    NoProtocol { name: String },
    #[error(
        "the listener {name} asks for {protocol}, which this version does not serve: use PLAINTEXT, and keep \
         the listener on a network that you trust"
    )]
    Unsupported { name: String, protocol: String },
    #[error("advertised.listeners: {name} is no listener of this process")]
    NotListening { name: String },
    #[error("advertised.listeners: nobody can connect to {address}; name the address that clients use")]
    NotRoutable { address: HostPort },
}

impl Listeners {
    /// Reads and checks the four keys, with Kafka's rules.
    pub fn from_settings(settings: &Settings) -> Result<Self, ListenerError> {
        let listeners = parse_all("listeners", &settings.list("listeners"))?;
        let advertised = parse_all("advertised.listeners", &settings.list("advertised.listeners"))?;
        let protocols = parse_map(settings)?;
        let controllers: Vec<String> = settings
            .list("controller.listener.names")
            .iter()
            .map(|name| name.to_ascii_uppercase())
            .collect();
        for (name, address) in &advertised {
            if !listeners.iter().any(|(known, _)| known == name) {
                return Err(ListenerError::NotListening { name: name.clone() });
            }
            if is_wildcard(&address.host) {
                let address = address.clone();
                return Err(ListenerError::NotRoutable { address });
            }
        }
        let mut all = Listeners::default();
        for (name, bind) in listeners {
            check_protocol(&name, &protocols)?;
            let told = advertised.iter().find(|(of, _)| *of == name);
            let own = (!is_wildcard(&bind.host)).then_some(&bind);
            let listener = Listener {
                advertised: told.map(|(_, address)| address).or(own).cloned(),
                bind: HostPort {
                    host: Some(bind.host.clone())
                        .filter(|host| !host.is_empty())
                        .unwrap_or_else(|| "0.0.0.0".to_owned()),
                    port: bind.port,
                },
                name,
            };
            if controllers.contains(&listener.name) {
                all.controllers.push(listener);
            } else {
                all.clients.push(listener);
            }
        }
        Ok(all)
    }
}

fn is_wildcard(host: &str) -> bool {
    ["", "0.0.0.0", "::"].contains(&host)
}

type Named = (String, HostPort);

fn parse_all(key: &'static str, entries: &[String]) -> Result<Vec<Named>, ListenerError> {
    let mut all: Vec<Named> = Vec::new();
    for entry in entries.iter().filter(|entry| !entry.is_empty()) {
        let form = || ListenerError::Form {
            key,
            entry: entry.clone(),
        };
        let (name, address) = entry.split_once("://").ok_or_else(form)?;
        let address = parse_host_port(address).ok_or_else(form)?;
        let name = name.to_ascii_uppercase();
        if name.is_empty() {
            return Err(form());
        }
        if all.iter().any(|(other, _)| *other == name) {
            return Err(ListenerError::SameName { key, name });
        }
        // Port 0 is chosen by the system, so two of them differ.
        if key == "listeners"
            && address.port != 0
            && all
                .iter()
                .any(|(_, other)| other.port == address.port && other.host == address.host)
        {
            return Err(ListenerError::SamePort { port: address.port });
        }
        all.push((name, address));
    }
    Ok(all)
}

/// `host:port`, `[v6]:port`, or `:port`.
pub(crate) fn parse_host_port(text: &str) -> Option<HostPort> {
    let (host, port) = text.rsplit_once(':')?;
    let host = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']')?,
        None if host.contains(':') => return None,
        None => host,
    };
    if host.chars().any(|letter| letter.is_whitespace() || letter == '/') {
        return None;
    }
    Some(HostPort {
        host: host.to_owned(),
        port: port.parse().ok()?,
    })
}

fn parse_map(settings: &Settings) -> Result<Vec<(String, String)>, ListenerError> {
    let text = settings
        .text("listener.security.protocol.map")
        .unwrap_or_default();
    text.split(',')
        .map(str::trim)
        .filter(|entry| !entry.is_empty())
        .map(|entry| match entry.split_once(':') {
            Some((name, protocol)) => {
                let upper = |text: &str| text.trim().to_ascii_uppercase();
                Ok((upper(name), upper(protocol)))
            }
            None => Err(ListenerError::Map {
                entry: entry.to_owned(),
            }),
        })
        .collect()
}

fn check_protocol(name: &str, protocols: &[(String, String)]) -> Result<(), ListenerError> {
    match protocols.iter().find(|(of, _)| of == name) {
        Some((_, protocol)) if protocol == "PLAINTEXT" => Ok(()),
        Some((_, protocol)) => Err(ListenerError::Unsupported {
            name: name.to_owned(),
            protocol: protocol.clone(),
        }),
        None => Err(ListenerError::NoProtocol {
            name: name.to_owned(),
        }),
    }
}
