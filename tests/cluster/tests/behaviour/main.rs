//! What Kafka clients rely on, end to end: real roles, real clients, both ways of wiring where it matters.
#![allow(clippy::unwrap_used)]

/// A test for each wiring: `name::in_process` and `name::grpc` call `name(wiring)`.
macro_rules! in_both_wirings {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            #[tokio::test]
            async fn in_process() {
                super::$name(strom_testkit::Wiring::InProcess).await;
            }

            #[tokio::test]
            async fn grpc() {
                super::$name(strom_testkit::Wiring::Grpc).await;
            }
        }
    )+};
}

mod brokers;
mod connections;
mod crash;
mod damage;
mod disk;
mod failover;
mod fetching;
mod groups;
mod members;
mod producing;
mod refusals;
mod sessions;
mod stopping;
mod topics;
