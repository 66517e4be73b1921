//! Real request frames through the handlers, against a controller made of the real commands and scripted brokers.

mod admin;
mod broker;
mod cluster;
mod configs;
mod controller;
mod every_version;
mod group_service;
mod groups;
mod metadata;
mod partitions;
mod sockets;
