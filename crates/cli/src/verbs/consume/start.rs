//! Where a consumer begins.

use std::str::FromStr;

use strom_types::Offset;

use crate::datetime::Timestamp;
use crate::kafka::offsets::{EARLIEST, LATEST, Offsets, Wanted};
use crate::kafka::{Client, KafkaError, TopicPartition};

/// The value of `--from`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    Earliest,
    Latest,
    Offset(Offset),
    /// So many records before the end.
    Last(i64),
    /// The first record at or after this time; the end if there is none.
    Time(Timestamp),
}

impl FromStr for Start {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?}: expected start, end, an offset, -N or @TIME");
        match text {
            "start" | "beginning" | "earliest" => return Ok(Self::Earliest),
            "end" | "latest" => return Ok(Self::Latest),
            _ => {}
        }
        // kcat writes s@ for a start time.
        if let Some(time) = text.strip_prefix('@').or_else(|| text.strip_prefix("s@")) {
            return time.parse().map(Self::Time).map_err(|error| error.to_string());
        }
        if let Some(count) = text.strip_prefix('-') {
            return count
                .parse::<u32>()
                .map(|count| Self::Last(i64::from(count)))
                .map_err(|_| wrong());
        }
        text.parse::<u64>()
            .ok()
            .and_then(|offset| i64::try_from(offset).ok())
            .map(Self::Offset)
            .ok_or_else(wrong)
    }
}

impl Start {
    /// The offsets to begin at.
    pub(super) async fn resolve(
        self,
        keys: &[TopicPartition],
        read_committed: bool,
        client: &Client,
    ) -> Result<Offsets, KafkaError> {
        let at = |timestamp: i64| {
            keys.iter()
                .map(|key| (key.clone(), timestamp))
                .collect::<Wanted>()
        };
        Ok(match self {
            Self::Offset(offset) => keys.iter().map(|key| (key.clone(), offset)).collect(),
            Self::Earliest => client.list_offsets(&at(EARLIEST), read_committed).await?,
            Self::Latest => client.list_offsets(&at(LATEST), read_committed).await?,
            Self::Last(count) => {
                let starts = client.list_offsets(&at(EARLIEST), read_committed).await?;
                let mut ends = client.list_offsets(&at(LATEST), read_committed).await?;
                for (key, end) in &mut ends {
                    *end = end
                        .saturating_sub(count)
                        .max(starts.get(key).copied().unwrap_or(0));
                }
                ends
            }
            Self::Time(Timestamp(ms)) => {
                let ends = client.list_offsets(&at(LATEST), read_committed).await?;
                let mut found = client.list_offsets(&at(ms), read_committed).await?;
                for (key, offset) in &mut found {
                    if *offset < 0 {
                        *offset = ends.get(key).copied().unwrap_or(0);
                    }
                }
                found
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_numbers_and_times_are_read() {
        for (text, start) in [
            ("start", Start::Earliest),
            ("earliest", Start::Earliest),
            ("end", Start::Latest),
            ("latest", Start::Latest),
            ("42", Start::Offset(42)),
            ("-10", Start::Last(10)),
            ("@1500", Start::Time(Timestamp(1500))),
            ("s@1500", Start::Time(Timestamp(1500))),
            ("@1970-01-01T00:00:01Z", Start::Time(Timestamp(1000))),
        ] {
            assert_eq!(text.parse(), Ok(start), "{text}");
        }
        for bad in ["", "-", "--1", "x", "@", "@soon", "1.5", "99999999999999999999"] {
            assert!(bad.parse::<Start>().is_err(), "{bad:?}");
        }
    }
}
