//! A small Kafka client for operators: it speaks to any Kafka, one verb at a time.

pub(crate) mod address;
mod client;
pub(crate) mod configs;
mod connection;
mod deadline;
pub(crate) mod error;
pub(crate) mod fetch;
pub(crate) mod isolation;
pub(crate) mod membership;
pub(crate) mod offsets;
pub(crate) mod partitioner;
pub(crate) mod producer;
mod range_assignor;
mod replies;
mod sender;
pub(crate) mod topics;
mod versions;

pub(crate) use address::{Address, Bootstrap};
pub(crate) use client::{Client, Options, Target};
pub(crate) use connection::Connection;
pub(crate) use deadline::Deadline;
pub(crate) use error::KafkaError;
pub(crate) use topics::{TopicPartition, TopicView};
pub(crate) use versions::spoken;
