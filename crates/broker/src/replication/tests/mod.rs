//! Replication between brokers in one process, by their real logs, partitions and streams.

mod cluster;
mod node;
mod raw;
mod writing;

mod catching_up;
mod committing;
mod diverging;
mod failed_sync;
mod full_disk;
mod hostile_followers;
mod hostile_leaders;
mod random_faults;
