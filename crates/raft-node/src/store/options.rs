//! RocksDB's settings for a small, idle, never-losing metadata store.

use std::path::Path;

use rocksdb::{BlockBasedOptions, Cache, ColumnFamilyDescriptor, DB, DBRecoveryMode, Options};

use crate::store::{StoreError, keys, wal_tail};

const WRITE_BUFFER_BYTES: usize = 2 << 20;
const BLOCK_CACHE_BYTES: usize = 1 << 20;
const WAL_BYTES_MAX: u64 = 16 << 20;

fn column_family() -> Options {
    let cache = Cache::new_lru_cache(BLOCK_CACHE_BYTES);
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(&cache);
    table.set_cache_index_and_filter_blocks(true);
    let mut options = Options::default();
    options.set_block_based_table_factory(&table);
    options.set_write_buffer_size(WRITE_BUFFER_BYTES);
    options.set_max_write_buffer_number(2);
    options.set_target_file_size_base(8 << 20);
    options
}

/// Opens the database, making it and its column families if they are missing.
pub(crate) fn open(path: &Path) -> Result<DB, StoreError> {
    wal_tail::cut(path)?;
    let mut options = column_family();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    // A torn record at the end of the log is a write nobody was told about; anything else in it is damage, and the
    // open fails instead of dropping what follows.
    options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    options.set_paranoid_checks(true);
    options.set_atomic_flush(true);
    options.set_max_total_wal_size(WAL_BYTES_MAX);
    options.set_max_background_jobs(2);
    options.set_max_open_files(64);
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options.set_keep_log_file_num(2);
    options.set_max_log_file_size(1 << 20);
    let families = [
        ColumnFamilyDescriptor::new("default", column_family()),
        ColumnFamilyDescriptor::new(keys::LOG, column_family()),
    ];
    DB::open_cf_descriptors(&options, path, families).map_err(|error| {
        // RocksDB has no code of its own for a held lock.
        if error.kind() == rocksdb::ErrorKind::IOError && error.as_ref().contains("lock") {
            StoreError::Locked(error)
        } else {
            StoreError::Rocks(error)
        }
    })
}
