//! Callers made up by the tests.

use strom_client::Peers;
use strom_proto::v1::controller_client::ControllerClient;
use strom_testkit::{Cluster, Member};
use strom_types::Identity;

/// A caller whom the cluster's authority vouches for.
pub(super) fn peers(cluster: &Cluster, identities: &[Identity]) -> Peers {
    let credentials = cluster.authority().issue("caller", identities);
    Peers::secured(Some(credentials.tls()))
}

pub(super) type Controller = ControllerClient<strom_client::Transport>;

pub(super) fn controller(cluster: &Cluster, peers: &Peers) -> Controller {
    let address = cluster.internal_address(Member::Controller(0));
    ControllerClient::new(peers.control(&address).unwrap())
}
