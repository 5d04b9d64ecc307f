//! The state on disk: RocksDB behind the core's `Read`, without a write-ahead log (the Raft log is one).
//!
//! All families flush together, so that after a crash they are of one moment: that of the applied index among them.
//! Must not know revisions or Raft.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use rocksdb::{
    BlockBasedOptions, BottommostLevelCompaction, Cache, ColumnFamily, ColumnFamilyDescriptor,
    CompactOptions, DB, DBCompressionType, FlushOptions, Options, ReadOptions,
    SnapshotWithThreadMode, WriteBatch, WriteOptions,
};
use self_cell::self_cell;

use crate::limits;
use crate::mvcc::engine::{EngineError, Family, Read, Step, Visit, WriteSet};

/// The open database.
pub struct Engine {
    db: DB,
    write_options: WriteOptions,
    block_cache_bytes: usize,
    // After the database: its directory goes once it is closed.
    directory: Directory,
}

/// Where the database lies.
struct Directory {
    path: PathBuf,
    /// Another took its place.
    retired: AtomicBool,
}

impl Drop for Directory {
    fn drop(&mut self) {
        if self.retired.load(Ordering::SeqCst)
            && let Err(error) = std::fs::remove_dir_all(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "a replaced state was not removed; the next start will");
        }
    }
}

type DbSnapshot<'a> = SnapshotWithThreadMode<'a, DB>;

self_cell!(
    /// A consistent view of one moment, with what keeps it alive.
    pub struct Snapshot {
        owner: Arc<Engine>,
        #[covariant]
        dependent: DbSnapshot,
    }
);

fn failed(error: rocksdb::Error) -> EngineError {
    EngineError::Io(error.to_string())
}

impl Engine {
    /// Opens or creates the database in `path`.
    pub fn open(path: &Path, block_cache_bytes: usize) -> Result<Self, EngineError> {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        options.set_atomic_flush(true);
        options.set_max_background_jobs(2);
        options.set_max_open_files(256);
        options.set_keep_log_file_num(2);
        options.set_max_total_wal_size(1);
        options.set_avoid_unnecessary_blocking_io(true);
        options.set_use_fsync(false);
        // Little by little: one large sync would hold up the log's small ones.
        options.set_bytes_per_sync(limits::FILE_SYNC_BYTES);
        // Paranoid about files, not about every memtable row.
        options.set_paranoid_checks(true);
        let cache = Cache::new_lru_cache(block_cache_bytes);
        let families = Family::ALL.map(|family| {
            let options = family_options(family, &cache);
            ColumnFamilyDescriptor::new(family.name(), options)
        });
        let db = DB::open_cf_descriptors(&options, path, families).map_err(failed)?;
        let mut write_options = WriteOptions::default();
        write_options.disable_wal(true);
        Ok(Self {
            db,
            write_options,
            block_cache_bytes,
            directory: Directory {
                path: path.to_owned(),
                retired: AtomicBool::new(false),
            },
        })
    }

    /// The size of the block cache it was opened with.
    pub fn block_cache_bytes(&self) -> usize {
        self.block_cache_bytes
    }

    /// Another database took this one's place: its files go when the last view of it does.
    pub fn retire(&self) {
        self.directory.retired.store(true, Ordering::SeqCst);
    }

    /// Makes a durable copy in the absent directory `to`, by links where the file system has them.
    pub fn copy_to(&self, to: &Path) -> Result<(), EngineError> {
        let checkpoint = rocksdb::checkpoint::Checkpoint::new(&self.db).map_err(failed)?;
        checkpoint.create_checkpoint(to).map_err(failed)
    }

    fn family(&self, family: Family) -> &ColumnFamily {
        self.db
            .cf_handle(family.name())
            .expect("every family was opened")
    }

    /// Writes a batch atomically.
    pub fn commit(&self, writes: &WriteSet) -> Result<(), EngineError> {
        let mut batch = WriteBatch::default();
        for family in Family::ALL {
            let handle = self.family(family);
            for (key, change) in writes.family(family) {
                match change {
                    Some(value) => batch.put_cf(handle, key, value),
                    None => batch.delete_cf(handle, key),
                }
            }
        }
        self.db
            .write_opt(batch, &self.write_options)
            .map_err(failed)
    }

    /// Makes everything written so far durable.
    pub fn flush(&self) -> Result<(), EngineError> {
        let handles: Vec<_> = Family::ALL
            .iter()
            .map(|family| self.family(*family))
            .collect();
        let mut options = FlushOptions::default();
        options.set_wait(true);
        self.db.flush_cfs_opt(&handles, &options).map_err(failed)
    }

    /// Ends the engine's own threads' work: a process that ends meanwhile would pull the ground from under them. Nothing can be
    /// flushed after this.
    pub fn rest(&self) {
        self.db.cancel_all_background_work(true);
    }

    /// Gives back the space of removed rows.
    pub fn compact(&self) {
        let mut options = CompactOptions::default();
        options.set_bottommost_level_compaction(BottommostLevelCompaction::IfHaveCompactionFilter);
        for family in Family::ALL {
            self.db.compact_range_cf_opt(
                self.family(family),
                None::<&[u8]>,
                None::<&[u8]>,
                &options,
            );
        }
    }

    /// Bytes on disk, and an estimate of the live bytes among them, each value counted once: that is what etcd's quota
    /// means. (`current` repeats the values that history has.)
    pub fn size(&self) -> (u64, u64) {
        let sum = |families: &[Family], property: &str| -> u64 {
            let values = families.iter().map(|family| {
                let value = self
                    .db
                    .property_int_value_cf(self.family(*family), property);
                value.ok().flatten().unwrap_or(0)
            });
            values.sum()
        };
        let (memory, files, live) = (
            "rocksdb.cur-size-all-mem-tables",
            "rocksdb.total-sst-files-size",
            "rocksdb.estimate-live-data-size",
        );
        let disk = sum(&Family::ALL, files) + sum(&Family::ALL, memory);
        let once = [Family::Kv, Family::Rev, Family::Leases, Family::Meta];
        (disk, (sum(&once, live) + sum(&once, memory)).min(disk))
    }
}

/// Rows written in batches of bounded size: for a database that nobody uses yet.
pub struct Bulk<'a> {
    engine: &'a Engine,
    batch: WriteBatch,
}

impl<'a> Bulk<'a> {
    pub fn new(engine: &'a Engine) -> Self {
        Self {
            engine,
            batch: WriteBatch::default(),
        }
    }

    pub fn put(&mut self, family: Family, key: &[u8], value: &[u8]) -> Result<(), EngineError> {
        self.batch.put_cf(self.engine.family(family), key, value);
        if self.batch.size_in_bytes() >= limits::BULK_BATCH_BYTES {
            self.write()?;
        }
        Ok(())
    }

    fn write(&mut self) -> Result<(), EngineError> {
        let batch = std::mem::take(&mut self.batch);
        let written = self.engine.db.write_opt(batch, &self.engine.write_options);
        written.map_err(failed)
    }

    /// Writes what is left. Nothing is durable before a flush.
    pub fn finish(mut self) -> Result<(), EngineError> {
        self.write()
    }
}

fn family_options(family: Family, cache: &Cache) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    table.set_format_version(5);
    table.set_block_size(8 * 1024);
    if family == Family::Current {
        table.set_bloom_filter(10.0, false);
    }
    let mut options = Options::default();
    options.set_block_based_table_factory(&table);
    // What is young is merged again soon: only what has come further down is worth compressing.
    let (young, old) = (DBCompressionType::None, DBCompressionType::Lz4);
    options.set_compression_per_level(&[young, young, old, old, old, old, old]);
    if matches!(family, Family::Kv | Family::Rev) {
        // Here compaction removes: without this the space would come back only when other rows cause a merge.
        options.add_compact_on_deletion_collector_factory(
            limits::TOMBSTONE_WINDOW_ROWS,
            limits::TOMBSTONES_IN_WINDOW,
            limits::TOMBSTONE_SHARE,
        );
    }
    options.set_write_buffer_size(limits::WRITE_BUFFER_BYTES);
    options.set_arena_block_size(128 * 1024);
    options.set_max_write_buffer_number(6);
    options.set_target_file_size_base(16 * 1024 * 1024);
    options.set_max_bytes_for_level_base(64 * 1024 * 1024);
    // Slow down late: apply must not stand still while a slow disk takes the flushes.
    options.set_level_zero_slowdown_writes_trigger(40);
    options.set_level_zero_stop_writes_trigger(80);
    options
}

fn get(
    engine: &Engine,
    options: &ReadOptions,
    family: Family,
    key: &[u8],
) -> Result<Option<Bytes>, EngineError> {
    let found = engine
        .db
        .get_pinned_cf_opt(engine.family(family), key, options)
        .map_err(failed)?;
    Ok(found.map(|pinned| Bytes::copy_from_slice(&pinned)))
}

fn scan(
    engine: &Engine,
    mut options: ReadOptions,
    family: Family,
    start: &[u8],
    end: Option<&[u8]>,
    visit: &mut Visit<'_>,
) -> Result<(), EngineError> {
    if let Some(end) = end {
        if end <= start {
            return Ok(());
        }
        options.set_iterate_upper_bound(end);
    }
    let mut rows = engine
        .db
        .raw_iterator_cf_opt(engine.family(family), options);
    rows.seek(start);
    while let Some((key, value)) = rows.item() {
        match visit(key, value)? {
            Step::Next => rows.next(),
            Step::Seek(to) => rows.seek(to),
            Step::Stop => return Ok(()),
        }
    }
    rows.status().map_err(failed)
}

impl Read for Engine {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        get(self, &ReadOptions::default(), family, key)
    }

    fn scan(
        &self,
        family: Family,
        start: &[u8],
        end: Option<&[u8]>,
        visit: &mut Visit<'_>,
    ) -> Result<(), EngineError> {
        scan(self, ReadOptions::default(), family, start, end, visit)
    }
}

impl Snapshot {
    /// A view of this moment.
    pub fn take(engine: &Arc<Engine>) -> Self {
        Snapshot::new(engine.clone(), |engine| engine.db.snapshot())
    }

    /// The database that this is a view of.
    pub fn engine(&self) -> &Arc<Engine> {
        self.borrow_owner()
    }

    /// Visits all rows of a family once, past the cache.
    pub fn scan_all(&self, family: Family, visit: &mut Visit<'_>) -> Result<(), EngineError> {
        let mut options = self.options();
        options.fill_cache(false);
        options.set_readahead_size(limits::SCAN_READAHEAD_BYTES);
        scan(self.engine(), options, family, &[], None, visit)
    }

    fn options(&self) -> ReadOptions {
        let mut options = ReadOptions::default();
        options.set_snapshot(self.borrow_dependent());
        options
    }
}

impl Read for Snapshot {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        get(self.borrow_owner(), &self.options(), family, key)
    }

    fn scan(
        &self,
        family: Family,
        start: &[u8],
        end: Option<&[u8]>,
        visit: &mut Visit<'_>,
    ) -> Result<(), EngineError> {
        scan(
            self.borrow_owner(),
            self.options(),
            family,
            start,
            end,
            visit,
        )
    }
}
