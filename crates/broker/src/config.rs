//! What a broker is told at its start.

use std::path::PathBuf;
use std::time::Duration;

use strom_config::{ConfigMap, Scope, registry};
use strom_runtime::Settings;
use strom_types::BrokerId;

/// Sizes are bytes. See docs/configuration.md for the keys.
#[derive(Clone, Debug)]
pub struct BrokerConfig {
    /// The static layer of the configuration: below the dynamic configs of the cluster.
    pub settings: Settings,
    pub broker_id: BrokerId,
    /// Expected cluster; `None` = whichever the controllers have.
    pub cluster_id: Option<String>,
    pub rack: Option<String>,
    /// What other services are told: host:port, unix:///path, or local:name within one process.
    pub endpoint: String,
    pub data_dir: PathBuf,
    pub disk_reserve_bytes: u64,
    /// `strom.log.wal.bytes`.
    pub wal_bytes_max: u64,
    /// Appended bytes that may wait for the disk.
    pub write_queue_bytes_max: usize,
    /// Recently appended bytes kept for readers.
    pub tail_cache_bytes_max: usize,
    /// `replica.lag.time.max.ms`.
    pub replica_lag_time_max: Duration,
    /// `replica.high.watermark.checkpoint.interval.ms`.
    pub checkpoint_interval: Duration,
    /// `producer.id.expiration.ms`.
    pub producer_id_expiration_ms: i64,
    /// How long a controlled shutdown may take before the broker stops without it.
    pub controlled_shutdown_max: Duration,
}

impl BrokerConfig {
    pub fn from_settings(
        settings: &Settings,
        broker_id: BrokerId,
        endpoint: String,
        data_dir: PathBuf,
    ) -> Self {
        BrokerConfig {
            settings: settings.clone(),
            broker_id,
            cluster_id: settings.text("strom.cluster.id"),
            rack: settings.text("broker.rack"),
            endpoint,
            data_dir,
            disk_reserve_bytes: u64::try_from(settings.int("strom.disk.reserve.bytes")).unwrap_or(0),
            wal_bytes_max: u64::try_from(settings.int("strom.log.wal.bytes")).unwrap_or(0),
            write_queue_bytes_max: 64 * 1024 * 1024,
            tail_cache_bytes_max: 32 * 1024 * 1024,
            replica_lag_time_max: settings
                .millis("replica.lag.time.max.ms")
                .unwrap_or(Duration::from_secs(10)),
            checkpoint_interval: settings
                .millis("replica.high.watermark.checkpoint.interval.ms")
                .unwrap_or(Duration::from_secs(5)),
            producer_id_expiration_ms: settings.int("producer.id.expiration.ms"),
            controlled_shutdown_max: settings
                .millis("strom.shutdown.timeout.ms")
                .unwrap_or(Duration::from_secs(5))
                // Of the quarter that a process of all roles has for its broker: the logs are to be closed, too.
                .mul_f64(0.2),
        }
    }

    /// The static layer as others may see it: with this broker's id under both its names, without secrets.
    pub(crate) fn shown_static_values(&self) -> ConfigMap {
        let mut values = self.settings.static_layer().clone();
        for (name, value) in &mut values {
            let key = registry().get(Scope::Broker, name);
            if key.is_none_or(|key| key.is_sensitive()) {
                value.clear();
            }
        }
        for name in ["node.id", "broker.id"] {
            values.insert(name.to_owned(), self.broker_id.to_string());
        }
        values
    }
}

#[cfg(test)]
mod tests {
    use strom_runtime::config::{Sources, load};

    use super::*;

    #[test]
    fn no_secret_is_shown() {
        let set = [("broker.rack", "r1"), ("ssl.keystore.password", "hunter2")];
        let flags = set.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let settings = load(&Sources {
            flags: flags.into(),
            ..Sources::default()
        });
        let config = BrokerConfig::from_settings(
            &settings.unwrap(),
            BrokerId(7),
            "local:broker".into(),
            "data".into(),
        );
        let shown = config.shown_static_values();
        let value = |name| shown.get(name).map(String::as_str);
        assert_eq!(value("broker.rack"), Some("r1"));
        assert_eq!(
            value("ssl.keystore.password"),
            Some(""),
            "that it is set, not what it is"
        );
        assert_eq!((value("node.id"), value("broker.id")), (Some("7"), Some("7")));
    }
}
