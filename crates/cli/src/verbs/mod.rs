//! The verbs, one file or folder per group.

pub(crate) mod api_versions;
pub(crate) mod bench;
pub(crate) mod broker;
pub(crate) mod cluster;
pub(crate) mod config;
pub(crate) mod consume;
pub(crate) mod group;
pub(crate) mod healthcheck;
mod outcome;
pub(crate) mod produce;
pub(crate) mod quorum;
pub(crate) mod topic;
