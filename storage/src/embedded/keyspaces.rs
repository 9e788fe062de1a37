//! fjall as the key-value store under the projection: one keyspace that stays, and one for each
//! period, which goes as a whole.

use std::collections::BTreeMap;
use std::path::Path;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions, PersistMode};
use fjall::{Readable, Snapshot};
use parking_lot::RwLock;

use crate::StoreError;
use crate::kv::{Direction, Kv, KvWrite, Space, Span, Visit};

/// The keyspace that stays.
const MAIN: &str = "main";

/// What blocks of files may take in memory.
const CACHE_BYTES: u64 = 32 << 20;

/// What one keyspace buffers before it writes a file.
const MEMTABLE_BYTES: u64 = 16 << 20;

/// What fjall's journals may take on disk. They hold what its files do not yet.
const JOURNAL_BYTES: u64 = 128 << 20;

/// Values from this size on are kept apart, so that compactions do not copy them.
const SEPARATED_BYTES: u32 = 4 * 1024;

/// The projection's keyspaces.
pub(super) struct Keyspaces {
    db: Database,
    main: Keyspace,
    periods: RwLock<BTreeMap<u32, Keyspace>>,
}

impl std::fmt::Debug for Keyspaces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keyspaces")
            .field("periods", &self.periods())
            .finish_non_exhaustive()
    }
}

/// Makes fjall's error one of ours.
fn failed(operation: &'static str) -> impl FnOnce(fjall::Error) -> StoreError {
    move |error| StoreError::Io {
        operation,
        reason: error.to_string(),
    }
}

fn main_options() -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES)
}

fn period_options() -> KeyspaceCreateOptions {
    let separation = KvSeparationOptions::default().separation_threshold(SEPARATED_BYTES);
    main_options().with_kv_separation(Some(separation))
}

fn name_of(period: u32) -> String {
    format!("period-{period}")
}

impl Keyspaces {
    /// Opens them, making what is missing.
    pub(super) fn open(dir: &Path) -> Result<Self, StoreError> {
        let open = || failed("open the projection");
        let db = Database::builder(dir)
            .cache_size(CACHE_BYTES)
            .max_journaling_size(JOURNAL_BYTES)
            .manual_journal_persist(true)
            .worker_threads(1)
            .open()
            .map_err(open())?;
        let main = db.keyspace(MAIN, main_options).map_err(open())?;
        let mut periods = BTreeMap::new();
        for name in db.list_keyspace_names() {
            let period = name
                .strip_prefix("period-")
                .and_then(|number| number.parse().ok());
            if let Some(period) = period {
                periods.insert(period, db.keyspace(&name, period_options).map_err(open())?);
            }
        }
        Ok(Self {
            db,
            main,
            periods: RwLock::new(periods),
        })
    }

    fn known(&self, space: Space) -> Option<Keyspace> {
        match space {
            Space::Main => Some(self.main.clone()),
            Space::Period(period) => self.periods.read().get(&period).cloned(),
        }
    }

    fn made(&self, space: Space) -> Result<Keyspace, StoreError> {
        let Space::Period(period) = space else {
            return Ok(self.main.clone());
        };
        if let Some(known) = self.known(space) {
            return Ok(known);
        }
        let made = self
            .db
            .keyspace(&name_of(period), period_options)
            .map_err(failed("begin a period of the projection"))?;
        self.periods.write().insert(period, made.clone());
        Ok(made)
    }

    /// A consistent view of everything, with the spaces it holds.
    pub(super) fn snapshot(&self) -> (Snapshot, Vec<(Space, Keyspace)>) {
        // Taken first: a period that begins afterwards has nothing in it.
        let snapshot = self.db.snapshot();
        let mut spaces = vec![(Space::Main, self.main.clone())];
        let periods = self.periods.read();
        spaces.extend(
            periods
                .iter()
                .map(|(number, k)| (Space::Period(*number), k.clone())),
        );
        (snapshot, spaces)
    }

    /// Visits every key and value of one space of a view.
    pub(super) fn dump(
        snapshot: &Snapshot,
        keyspace: &Keyspace,
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        for pair in snapshot.iter(keyspace) {
            let (key, value) = pair.into_inner().map_err(failed("read the projection"))?;
            visit(&key, &value)?;
        }
        Ok(())
    }
}

impl Kv for Keyspaces {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(keyspace) = self.known(space) else {
            return Ok(None);
        };
        let value = keyspace.get(key).map_err(failed("read the projection"))?;
        Ok(value.map(|value| value.to_vec()))
    }

    fn scan(
        &self,
        space: Space,
        span: &Span,
        direction: Direction,
        visit: Visit<'_>,
    ) -> Result<(), StoreError> {
        let Some(keyspace) = self.known(space) else {
            return Ok(());
        };
        if span.from >= span.to {
            return Ok(());
        }
        let mut range = keyspace.range(span.from.as_slice()..span.to.as_slice());
        loop {
            let pair = match direction {
                Direction::Up => range.next(),
                Direction::Down => range.next_back(),
            };
            let Some(pair) = pair else { return Ok(()) };
            let (key, value) = pair.into_inner().map_err(failed("read the projection"))?;
            if visit(&key, &value).is_break() {
                return Ok(());
            }
        }
    }

    fn commit(&self, writes: Vec<KvWrite>) -> Result<(), StoreError> {
        let mut batch = self.db.batch().durability(Some(PersistMode::SyncData));
        for KvWrite { space, key, value } in writes {
            let keyspace = self.made(space)?;
            match value {
                Some(value) => batch.insert(&keyspace, key, value),
                None => batch.remove(&keyspace, key),
            }
        }
        batch.commit().map_err(failed("write the projection"))
    }

    fn periods(&self) -> Vec<u32> {
        self.periods.read().keys().copied().collect()
    }

    fn drop_period(&self, period: u32) -> Result<(), StoreError> {
        let Some(keyspace) = self.periods.write().remove(&period) else {
            return Ok(());
        };
        self.db
            .delete_keyspace(keyspace)
            .map_err(failed("drop a period of the projection"))
    }
}
