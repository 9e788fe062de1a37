//! Recognising a key: what every request of the integration API begins with.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;
use zajil_model::id::{AccountId, KeyId};
use zajil_model::time::{Mono, Timestamp};
use zajil_storage::StoreError;

use super::{hash_row, key_row};
use crate::directory::cache::Cache;
use crate::directory::records::ApiKey;
use crate::directory::rows::{load, read_number};
use crate::directory::{AuthError, Directory, secret};

/// How long a key is believed without a look at the store: a revocation is in force everywhere
/// after this.
const BELIEVED: Duration = Duration::from_secs(5);

/// Keys that are remembered: the busy ones of a large node, at some 500 bytes each.
const REMEMBERED_KEYS: usize = 50_000;

/// Unknown keys that are remembered as unknown; apart, so that guesses push out no real key.
const REMEMBERED_UNKNOWN: usize = 10_000;

/// How exactly the last use is known: one write a key and minute.
const USE_WRITTEN_EVERY: Duration = Duration::from_secs(60);

/// Writes of last uses at once; what does not get a turn is written at a later use.
const USES_WRITTEN_AT_ONCE: usize = 64;

/// The keys that were used lately.
#[derive(Debug)]
pub(in crate::directory) struct KnownKeys {
    known: Cache<[u8; 32], Arc<Known>>,
    unknown: Cache<[u8; 32], Mono>,
    writing: Arc<Semaphore>,
}

#[derive(Debug)]
struct Known {
    key: Arc<ApiKey>,
    /// Until when the text is good, if it is the one before a rotation.
    ends: Option<Timestamp>,
    believed_until: Mono,
    /// When the last use was written, in microseconds.
    use_written: AtomicI64,
}

impl KnownKeys {
    pub(in crate::directory) fn new() -> Self {
        Self {
            known: Cache::new(REMEMBERED_KEYS),
            unknown: Cache::new(REMEMBERED_UNKNOWN),
            writing: Arc::new(Semaphore::new(USES_WRITTEN_AT_ONCE)),
        }
    }

    pub(super) fn forget(&self, key: &ApiKey) {
        self.known.forget(&key.hash);
        self.unknown.forget(&key.hash);
        if let Some(former) = &key.former {
            self.known.forget(&former.hash);
        }
    }
}

impl Directory {
    /// The key of that text, if it is good now and from this address.
    ///
    /// # Errors
    /// `Invalid` for all that is wrong with the text, `AddressNotAllowed` when only the address is.
    pub async fn authenticate(
        &self,
        text: &str,
        address: IpAddr,
        now: Timestamp,
    ) -> Result<Arc<ApiKey>, AuthError> {
        if !secret::is_well_formed(text) {
            return Err(AuthError::Invalid);
        }
        let hash = secret::hash(text);
        let mono = self.inner.clock.mono();
        let remembered = self.inner.keys.known.get(&hash);
        let known = match remembered.filter(|known| mono < known.believed_until) {
            Some(known) => known,
            None => self
                .recognise(&hash, mono)
                .await?
                .ok_or(AuthError::Invalid)?,
        };
        let key = &known.key;
        let ended = [known.ends, key.expires_at]
            .into_iter()
            .flatten()
            .any(|end| end <= now);
        if ended || key.revoked_at.is_some() {
            return Err(AuthError::Invalid);
        }
        if !key.allows_address(address) {
            return Err(AuthError::AddressNotAllowed(Arc::clone(key)));
        }
        self.note_use(&known, now);
        Ok(Arc::clone(key))
    }

    /// Reads the key of a hash, and remembers what it finds.
    async fn recognise(
        &self,
        hash: &[u8; 32],
        mono: Mono,
    ) -> Result<Option<Arc<Known>>, StoreError> {
        let keys = &self.inner.keys;
        if keys.unknown.get(hash).is_some_and(|until| mono < until) {
            return Ok(None);
        }
        let (mark, unknown_mark) = (keys.known.mark(), keys.unknown.mark());
        let Some(key) = self.key_of_hash(hash).await? else {
            keys.unknown.put_read(unknown_mark, *hash, mono + BELIEVED);
            return Ok(None);
        };
        let former = key.former.as_ref().filter(|former| former.hash == *hash);
        let ends = former.map(|former| former.until);
        if ends.is_none() && key.hash != *hash {
            return Ok(None);
        }
        let use_written = key.last_used_at.map_or(i64::MIN, Timestamp::as_micros);
        let known = Arc::new(Known {
            key: Arc::new(key),
            ends,
            believed_until: mono + BELIEVED,
            use_written: AtomicI64::new(use_written),
        });
        keys.known.put_read(mark, *hash, Arc::clone(&known));
        Ok(Some(known))
    }

    async fn key_of_hash(&self, hash: &[u8; 32]) -> Result<Option<ApiKey>, StoreError> {
        let Some(row) = self.store().row(&hash_row(hash)).await? else {
            return Ok(None);
        };
        let account = read_number(&row.value).and_then(AccountId::new);
        let id = row
            .value
            .get(8..)
            .and_then(read_number)
            .and_then(KeyId::new);
        let (Some(account), Some(id)) = (account, id) else {
            return Err(StoreError::Corrupt {
                what: "key hash",
                detail: "not two ids".to_owned(),
            });
        };
        load(self.store(), "key", &key_row(account, id)).await
    }

    /// Writes the use of a key down, once a minute, without anybody waiting for it.
    fn note_use(&self, known: &Known, now: Timestamp) {
        let written = known.use_written.load(Ordering::Relaxed);
        let due = Timestamp::from_micros(written) + USE_WRITTEN_EVERY;
        if now < due {
            return;
        }
        let Ok(turn) = Arc::clone(&self.inner.keys.writing).try_acquire_owned() else {
            return;
        };
        let micros = now.as_micros();
        let order = Ordering::Relaxed;
        if known
            .use_written
            .compare_exchange(written, micros, order, order)
            .is_err()
        {
            return;
        }
        let (directory, account, id) = (self.clone(), known.key.account, known.key.id);
        self.inner.tracker.spawn(async move {
            let _turn = turn;
            let noted = directory
                .change_key(account, id, |key| {
                    key.last_used_at = key.last_used_at.max(Some(now));
                    Ok(Vec::new())
                })
                .await;
            if let Err(error) = noted {
                tracing::warn!(key = %id, %error, "cannot write the last use of a key");
            }
        });
    }
}
