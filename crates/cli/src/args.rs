//! Flags that several verbs share, and how their values are read.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;

use crate::kafka::{Bootstrap, Client, Options};
use crate::output::{Format, Output};

/// What the CLI calls itself towards servers.
pub(crate) const CLIENT_ID: &str = "strom-cli";

/// How to reach the cluster and how to show what it says.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Connection and output")]
pub(crate) struct Connect {
    /// Kafka servers to ask first, comma-separated
    #[arg(
        long,
        short = 'b',
        visible_alias = "bootstrap",
        value_name = "HOST:PORT",
        env = "STROM_BOOTSTRAP_SERVERS",
        hide_env_values = true,
        default_value = "127.0.0.1:9092",
        global = true
    )]
    bootstrap_server: Bootstrap,
    /// How to show data
    #[arg(long, short, value_enum, default_value_t, global = true)]
    output: Format,
    /// How long one operation may take, retries included (250ms, 30s, 2m)
    #[arg(long, value_name = "TIME", default_value = "30s", global = true)]
    timeout: Span,
    /// Say nothing but data and errors
    #[arg(long, short, global = true)]
    quiet: bool,
}

impl Connect {
    pub(crate) fn client(&self) -> Client {
        self.client_within(self.timeout.0)
    }

    /// A client whose operations take no longer than `limit`, nor longer than was asked for.
    pub(crate) fn client_within(&self, limit: Duration) -> Client {
        Client::new(Options {
            bootstrap: self.bootstrap_server.clone(),
            client_id: CLIENT_ID.to_owned(),
            timeout: self.timeout.0.min(limit),
        })
    }

    pub(crate) fn bootstrap(&self) -> &Bootstrap {
        &self.bootstrap_server
    }

    pub(crate) fn apply(&self, output: &mut Output) {
        output.format = self.output;
        output.quiet = self.quiet;
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.timeout.0
    }

    pub(crate) fn servers(&self) -> String {
        self.bootstrap_server.to_string()
    }
}

/// A length of time: a number with `ms`, `s`, `m` or `h`; without a unit, milliseconds, as in Kafka's settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span(pub(crate) Duration);

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, unit_ms) = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)]
            .into_iter()
            .find_map(|(unit, ms)| text.strip_suffix(unit).map(|number| (number, ms)))
            .unwrap_or((text, 1));
        let value: u64 = number
            .parse()
            .map_err(|_| format!("{text:?} is no time: expected e.g. 250ms, 30s, 2m"))?;
        let ms = value
            .checked_mul(unit_ms)
            .filter(|&ms| ms > 0 && ms <= 30 * 86_400_000);
        ms.map(|ms| Self(Duration::from_millis(ms)))
            .ok_or_else(|| format!("{text:?} is out of range"))
    }
}

/// A number of bytes: plain, or with `k`, `m`, `g` or `KiB`, `MiB`, `GiB` (powers of 1024).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) usize);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no size: expected e.g. 100, 16k, 1MiB");
        let lower = text.to_ascii_lowercase();
        let bare = lower.trim_end_matches("ib").trim_end_matches('b');
        let (number, shift) = match bare.chars().last() {
            Some('k') => (bare.trim_end_matches('k'), 10),
            Some('m') => (bare.trim_end_matches('m'), 20),
            Some('g') => (bare.trim_end_matches('g'), 30),
            _ => (bare, 0),
        };
        let value: usize = number.parse().map_err(|_| wrong())?;
        let bytes = value.checked_mul(1 << shift).filter(|&bytes| bytes <= 1 << 30);
        bytes
            .map(Self)
            .ok_or_else(|| format!("{text:?} is more than 1 GiB"))
    }
}

/// `key=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) key: String,
    pub(crate) value: String,
}

impl FromStr for Pair {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = text
            .split_once('=')
            .ok_or_else(|| format!("{text:?}: expected KEY=VALUE"))?;
        if key.trim().is_empty() {
            return Err(format!("{text:?}: the key is empty"));
        }
        // Kafka's tools write lists as [a,b].
        let value = value
            .strip_prefix('[')
            .and_then(|v| v.strip_suffix(']'))
            .unwrap_or(value);
        Ok(Self {
            key: key.trim().to_owned(),
            value: value.to_owned(),
        })
    }
}

impl fmt::Display for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.key, self.value)
    }
}

/// Topics, given as words or, as with Kafka's tools, by `--topic`.
#[derive(Args, Clone, Debug)]
#[group(required = true, multiple = true)]
pub(crate) struct TopicNames {
    /// Topic names
    #[arg(value_name = "TOPIC")]
    names: Vec<String>,
    /// The same, as Kafka's tools write it
    #[arg(long = "topic", short = 't', value_name = "TOPIC", value_delimiter = ',')]
    topics: Vec<String>,
}

impl TopicNames {
    /// All names, each once, in the order given.
    pub(crate) fn list(&self) -> Vec<String> {
        let mut list: Vec<String> = Vec::new();
        for name in self.names.iter().chain(&self.topics) {
            if !list.contains(name) {
                list.push(name.clone());
            }
        }
        list
    }
}

/// One topic, given as a word or by `--topic`.
#[derive(Args, Clone, Debug)]
#[group(required = true, multiple = false)]
pub(crate) struct TopicName {
    /// Topic name
    #[arg(value_name = "TOPIC")]
    name: Option<String>,
    /// The same, as Kafka's tools write it
    #[arg(long = "topic", short = 't', value_name = "TOPIC")]
    topic: Option<String>,
}

impl TopicName {
    pub(crate) fn get(&self) -> &str {
        self.name.as_deref().or(self.topic.as_deref()).unwrap_or_default()
    }
}

/// Groups, given as words or by `--group`.
#[derive(Args, Clone, Debug)]
#[group(required = true, multiple = true)]
pub(crate) struct GroupNames {
    /// Group ids
    #[arg(value_name = "GROUP")]
    names: Vec<String>,
    /// The same, as Kafka's tools write it
    #[arg(long = "group", short = 'g', value_name = "GROUP")]
    groups: Vec<String>,
}

impl GroupNames {
    pub(crate) fn list(&self) -> Vec<String> {
        self.names.iter().chain(&self.groups).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_sizes_and_pairs_are_read() {
        for (text, ms) in [
            ("250ms", 250),
            ("30s", 30_000),
            ("2m", 120_000),
            ("1h", 3_600_000),
            ("77", 77),
        ] {
            assert_eq!(text.parse(), Ok(Span(Duration::from_millis(ms))), "{text}");
        }
        for (text, bytes) in [
            ("100", 100),
            ("16k", 16_384),
            ("1MiB", 1 << 20),
            ("2kb", 2048),
            ("1g", 1 << 30),
        ] {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
        for bad in ["", "x", "-1", "0", "1d", "99999h", "s"] {
            assert!(bad.parse::<Span>().is_err(), "{bad:?}");
        }
        for bad in ["", "k", "-1", "2g", "1.5m"] {
            assert!(bad.parse::<Size>().is_err(), "{bad:?}");
        }
        let pair: Pair = "cleanup.policy=[compact,delete]".parse().unwrap();
        assert_eq!(pair.to_string(), "cleanup.policy=compact,delete");
        assert_eq!("a=b=c".parse::<Pair>().unwrap().value, "b=c");
        assert!("novalue".parse::<Pair>().is_err() && "=v".parse::<Pair>().is_err());
    }
}
