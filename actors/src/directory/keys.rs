//! API keys: making, rotating, revoking, and recognising them on every request.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;
use zajil_model::id::{AccountId, KeyId};
use zajil_model::time::{Mono, Timestamp};
use zajil_storage::{Condition, RowKey, RowWrite, StoreError, Table, Written};

use super::cache::Cache;
use super::records::{ApiKey, FormerHash, MAX_RATE_LIMIT};
use super::requests::{KeyText, NewKey};
use super::rows::{decode, encode, load, load_all, number, owned, read_number};
use super::{AuthError, CHANGE_ROUNDS, Directory, DirectoryError, check_length, secret};

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

/// Characters of a key's name.
const MAX_NAME: usize = 255;

/// Addresses and instances that a key may be limited to.
const MAX_LIMITED_TO: usize = 1_000;

/// Keys of an account, revoked ones counted: they are listed on one page.
const MAX_KEYS: usize = 10_000;

/// The longest overlap of a rotation: 90 days.
const MAX_OVERLAP_S: u32 = 90 * 86_400;

/// The keys that were used lately.
#[derive(Debug)]
pub(super) struct KnownKeys {
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
    pub(super) fn new() -> Self {
        Self {
            known: Cache::new(REMEMBERED_KEYS),
            unknown: Cache::new(REMEMBERED_UNKNOWN),
            writing: Arc::new(Semaphore::new(USES_WRITTEN_AT_ONCE)),
        }
    }

    fn forget(&self, key: &ApiKey) {
        self.known.forget(&key.hash);
        self.unknown.forget(&key.hash);
        if let Some(former) = &key.former {
            self.known.forget(&former.hash);
        }
    }
}

fn hash_row(hash: &[u8; 32]) -> RowKey {
    RowKey::new(Table::KeyHashes, *hash, [])
}

fn key_row(account: AccountId, id: KeyId) -> RowKey {
    owned(Table::Keys, account, id.get())
}

fn put_hash(key: &ApiKey) -> RowWrite {
    let mut ids = number(key.account.get()).to_vec();
    ids.extend_from_slice(&number(key.id.get()));
    RowWrite::put(hash_row(&key.hash), ids).when(Condition::Absent)
}

/// The rows of a new key.
pub(super) fn key_rows(key: &ApiKey) -> [RowWrite; 2] {
    let row = RowWrite::put(key_row(key.account, key.id), encode(key));
    [put_hash(key), row.when(Condition::Absent)]
}

/// A new key and its text.
pub(super) fn make_key(
    id: KeyId,
    account: AccountId,
    new: NewKey,
    now: Timestamp,
) -> Result<(ApiKey, KeyText), StoreError> {
    let text = secret::new_key()?;
    let (prefix, last4) = secret::recognisable(&text);
    let key = ApiKey {
        id,
        account,
        user: new.user,
        name: new.name,
        permissions: new.permissions,
        rate_limit: new.rate_limit,
        expires_at: new.expires_at,
        allowed_ips: new.allowed_ips,
        allowed_instances: new.allowed_instances,
        revoked_at: None,
        created_at: now,
        last_used_at: None,
        prefix,
        last4,
        hash: secret::hash(&text),
        former: None,
    };
    Ok((key, KeyText(text)))
}

fn check_new(new: &NewKey) -> Result<(), DirectoryError> {
    check_length("name", &new.name, 1, MAX_NAME)?;
    let field = |field, message: &str| {
        Err(DirectoryError::Field { field, message: message.to_owned() })
    };
    if new.permissions.is_empty() {
        return field("permissions", "The permissions field must have at least 1 items.");
    }
    if !(1..=MAX_RATE_LIMIT).contains(&new.rate_limit) {
        return field("rate_limit", "The rate limit field must be between 1 and 1000000000.");
    }
    if new.allowed_ips.len() > MAX_LIMITED_TO {
        return field("allowed_ips", "The allowed ips field must not have more than 1000 items.");
    }
    if new.allowed_instances.len() > MAX_LIMITED_TO {
        let message = "The allowed instances field must not have more than 1000 items.";
        return field("allowed_instances", message);
    }
    Ok(())
}

impl Directory {
    /// Makes a key; its text is in the answer and nowhere else.
    ///
    /// # Errors
    /// `Field` when something about it cannot be.
    pub async fn create_key(
        &self,
        account: AccountId,
        new: NewKey,
    ) -> Result<(Arc<ApiKey>, KeyText), DirectoryError> {
        check_new(&new)?;
        for instance in &new.allowed_instances {
            if self.instance_of(account, *instance).await?.is_none() {
                let message = "The selected allowed instances is invalid.".to_owned();
                return Err(DirectoryError::Field { field: "allowed_instances", message });
            }
        }
        if self.keys(account).await?.len() >= MAX_KEYS {
            let message = format!("An account has at most {MAX_KEYS} keys.");
            return Err(DirectoryError::Field { field: "name", message });
        }
        let (key, text) = make_key(self.inner.ids.give().await?, account, new, self.now())?;
        match self.store().write(key_rows(&key).into()).await? {
            Written::Applied => Ok((Arc::new(key), text)),
            Written::Conflict { .. } => Err(DirectoryError::Busy),
        }
    }

    /// The keys of an account, oldest first, revoked ones too.
    ///
    /// # Errors
    /// What the store answers.
    pub async fn keys(&self, account: AccountId) -> Result<Vec<ApiKey>, DirectoryError> {
        Ok(load_all(self.store(), "key", Table::Keys, &number(account.get())).await?)
    }

    /// A key.
    ///
    /// # Errors
    /// What the store answers.
    pub async fn key(
        &self,
        account: AccountId,
        id: KeyId,
    ) -> Result<Option<ApiKey>, DirectoryError> {
        Ok(load(self.store(), "key", &key_row(account, id)).await?)
    }

    /// Revokes a key: at once on this node, within 5 s everywhere. Repeating it changes nothing.
    ///
    /// # Errors
    /// `NotFound` when the account has no such key.
    pub async fn revoke_key(
        &self,
        account: AccountId,
        id: KeyId,
    ) -> Result<Arc<ApiKey>, DirectoryError> {
        let now = self.now();
        let (before, key) = self
            .change_key(account, id, |key| {
                key.revoked_at.get_or_insert(now);
                Ok(Vec::new())
            })
            .await?;
        self.inner.keys.forget(&before);
        Ok(Arc::new(key))
    }

    /// Gives a key a new text; the former one stays good for `overlap_s` seconds. Id and window
    /// stay as they are.
    ///
    /// # Errors
    /// `NotFound` when the account has no such key or it is revoked, `Field` for an overlap of
    /// more than 90 days.
    pub async fn rotate_key(
        &self,
        account: AccountId,
        id: KeyId,
        overlap_s: u32,
    ) -> Result<(Arc<ApiKey>, KeyText), DirectoryError> {
        if overlap_s > MAX_OVERLAP_S {
            let message = format!("The overlap s field must not be greater than {MAX_OVERLAP_S}.");
            return Err(DirectoryError::Field { field: "overlap_s", message });
        }
        let text = secret::new_key()?;
        let until = self.now() + Duration::from_secs(u64::from(overlap_s));
        let (before, key) = self
            .change_key(account, id, |key| {
                if key.revoked_at.is_some() {
                    return Err(DirectoryError::NotFound("key"));
                }
                let oldest = key.former.take().map(|former| former.hash);
                key.former = Some(FormerHash { hash: key.hash, until });
                key.hash = secret::hash(&text);
                (key.prefix, key.last4) = secret::recognisable(&text);
                let mut writes = vec![put_hash(key)];
                writes.extend(oldest.map(|hash| RowWrite::delete(hash_row(&hash))));
                Ok(writes)
            })
            .await?;
        self.inner.keys.forget(&before);
        self.inner.keys.forget(&key);
        Ok((Arc::new(key), KeyText(text)))
    }

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
            None => self.recognise(&hash, mono).await?.ok_or(AuthError::Invalid)?,
        };
        let key = &known.key;
        let ended = [known.ends, key.expires_at].into_iter().flatten().any(|end| end <= now);
        if ended || key.revoked_at.is_some() {
            return Err(AuthError::Invalid);
        }
        if !key.allows_address(address) {
            return Err(AuthError::AddressNotAllowed);
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
        let id = row.value.get(8..).and_then(read_number).and_then(KeyId::new);
        let (Some(account), Some(id)) = (account, id) else {
            return Err(StoreError::Corrupt { what: "key hash", detail: "not two ids".to_owned() });
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
        if known.use_written.compare_exchange(written, micros, order, order).is_err() {
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

    /// Changes a key, again if somebody was faster; answers it as it was and as it is.
    async fn change_key(
        &self,
        account: AccountId,
        id: KeyId,
        change: impl Fn(&mut ApiKey) -> Result<Vec<RowWrite>, DirectoryError>,
    ) -> Result<(ApiKey, ApiKey), DirectoryError> {
        let row = key_row(account, id);
        for _ in 0..CHANGE_ROUNDS {
            let stored = self.store().row(&row).await?.ok_or(DirectoryError::NotFound("key"))?;
            let before: ApiKey = decode("key", &stored.value)?;
            let mut key = before.clone();
            let mut writes = change(&mut key)?;
            if key == before {
                return Ok((before, key));
            }
            let put = RowWrite::put(row.clone(), encode(&key));
            writes.push(put.when(Condition::Is(stored.value)));
            if self.store().write(writes).await? == Written::Applied {
                return Ok((before, key));
            }
        }
        Err(DirectoryError::Busy)
    }
}
