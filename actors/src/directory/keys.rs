//! API keys: making, rotating and revoking them.

use std::sync::Arc;
use std::time::Duration;

use zajil_model::id::{AccountId, KeyId};
use zajil_model::time::Timestamp;
use zajil_storage::{Condition, RowKey, RowWrite, StoreError, Table, Written};

use super::records::{ApiKey, FormerHash, MAX_RATE_LIMIT};
use super::requests::{KeyText, NewKey};
use super::rows::{decode, encode, load, load_all, number, owned};
use super::{CHANGE_ROUNDS, Directory, DirectoryError, check_length, secret};

mod recognise;

pub(super) use recognise::KnownKeys;

/// Characters of a key's name.
const MAX_NAME: usize = 255;

/// Addresses and instances that a key may be limited to.
const MAX_LIMITED_TO: usize = 1_000;

/// Keys of an account, revoked ones counted: they are listed on one page.
const MAX_KEYS: usize = 10_000;

/// The longest overlap of a rotation: 90 days.
const MAX_OVERLAP_S: u32 = 90 * 86_400;

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
        Err(DirectoryError::Field {
            field,
            message: message.to_owned(),
        })
    };
    if new.permissions.is_empty() {
        return field(
            "permissions",
            "The permissions field must have at least 1 items.",
        );
    }
    if !(1..=MAX_RATE_LIMIT).contains(&new.rate_limit) {
        return field(
            "rate_limit",
            "The rate limit field must be between 1 and 1000000000.",
        );
    }
    if new.allowed_ips.len() > MAX_LIMITED_TO {
        return field(
            "allowed_ips",
            "The allowed ips field must not have more than 1000 items.",
        );
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
                return Err(DirectoryError::Field {
                    field: "allowed_instances",
                    message,
                });
            }
        }
        if self.keys(account).await?.len() >= MAX_KEYS {
            let message = format!("An account has at most {MAX_KEYS} keys.");
            return Err(DirectoryError::Field {
                field: "name",
                message,
            });
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
            return Err(DirectoryError::Field {
                field: "overlap_s",
                message,
            });
        }
        let text = secret::new_key()?;
        let until = self.now() + Duration::from_secs(u64::from(overlap_s));
        let (before, key) = self
            .change_key(account, id, |key| {
                if key.revoked_at.is_some() {
                    return Err(DirectoryError::NotFound("key"));
                }
                let oldest = key.former.take().map(|former| former.hash);
                key.former = Some(FormerHash {
                    hash: key.hash,
                    until,
                });
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

    /// Changes a key, again if somebody was faster; answers it as it was and as it is.
    async fn change_key(
        &self,
        account: AccountId,
        id: KeyId,
        change: impl Fn(&mut ApiKey) -> Result<Vec<RowWrite>, DirectoryError>,
    ) -> Result<(ApiKey, ApiKey), DirectoryError> {
        let row = key_row(account, id);
        for _ in 0..CHANGE_ROUNDS {
            let stored = self
                .store()
                .row(&row)
                .await?
                .ok_or(DirectoryError::NotFound("key"))?;
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
