//! Requests, responses, headers, consumer-protocol payloads and markers, generated from `proto/kafka/wire`.
//!
//! A message lies in a module of its own with the structs nested in it (`messages::produce_request`); the message
//! itself is re-exported here. Fields that a version lacks decode to their defaults; encoding a value that the
//! version cannot carry is an error unless Kafka marks the field ignorable.

#![allow(unused_imports, unused_variables, clippy::all)]

include!(concat!(env!("OUT_DIR"), "/messages.rs"));
