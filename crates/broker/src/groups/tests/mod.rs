//! Coordinators over real logs and replicas, without controllers or a network.

mod client;
mod faults;
mod node;
mod restart;
mod serving;
