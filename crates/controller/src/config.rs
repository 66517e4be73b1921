//! What a controller is told at its start.

use std::path::PathBuf;
use std::time::Duration;

use strom_metadata::{ControllerSettings, CoreConfig};
use strom_runtime::Settings;
use strom_types::NodeId;

/// See docs/configuration.md for the keys.
#[derive(Clone, Debug)]
pub struct ControllerConfig {
    pub node_id: NodeId,
    /// Made up at the first start when unset; must be set when there are several controllers.
    pub cluster_id: Option<String>,
    pub data_dir: PathBuf,
    /// All controllers with the endpoints at which the others and the brokers reach them, this one among them.
    pub voters: Vec<(NodeId, String)>,
    pub core: CoreConfig,
}

impl ControllerConfig {
    /// `voters` empty = this node alone.
    pub fn from_settings(
        settings: &Settings,
        node_id: NodeId,
        endpoint: String,
        data_dir: PathBuf,
        voters: Vec<(NodeId, String)>,
    ) -> Self {
        let voters = if voters.is_empty() {
            vec![(node_id, endpoint)]
        } else {
            voters
        };
        ControllerConfig {
            node_id,
            cluster_id: settings.text("strom.cluster.id").filter(|id| !id.is_empty()),
            data_dir,
            voters,
            core: core_config(settings),
        }
    }
}

fn core_config(settings: &Settings) -> CoreConfig {
    let defaults = CoreConfig::default();
    let interval = u64::try_from(settings.int("leader.imbalance.check.interval.seconds")).ok();
    CoreConfig {
        settings: ControllerSettings {
            static_configs: settings.static_layer().clone(),
            ..ControllerSettings::default()
        },
        session_timeout: settings
            .millis("strom.broker.session.timeout.ms")
            .unwrap_or(defaults.session_timeout),
        rebalance_interval: interval
            .map(Duration::from_secs)
            .filter(|_| settings.bool("auto.leader.rebalance.enable")),
        ..defaults
    }
}
