//! Who and what an account has: users, keys, instances, contacts, templates, suppressions.
//!
//! Everything here is rows in the store. What every request needs (keys, instances,
//! suppressions) is also kept in memory, in caches with a bound. Each kind has a file of its own;
//! this one holds what they share.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use serde::de::DeserializeOwned;
use tokio_util::task::TaskTracker;
use zajil_model::id::{AccountId, Shard, TemplateId};
use zajil_model::message::OnAmbiguous;
use zajil_model::time::{Clock, Mono, Timestamp};
use zajil_storage::{Store, StoreError, Table};

use crate::ids::Ids;
pub(crate) use cache::Cache;
use contacts::ContactLocks;
use instances::KnownInstances;
use keys::KnownKeys;
use rows::{SCAN_ROWS, decode, number};
use sessions::Logins;
use suppressions::KnownSuppressions;

mod accounts;
pub mod address;
mod audit;
mod cache;
mod contacts;
mod first_start;
mod instance_count;
mod instances;
mod keys;
pub mod records;
pub mod requests;
pub(crate) mod rows;
mod secret;
mod sessions;
mod suppressions;
mod templates;

pub use address::AddressRange;
pub use records::{
    Account, ApiKey, AuditLine, Contact, Page, PageRequest, Permission, Suppression, Template, User,
};
pub use requests::{
    ContactChange, ContactFilter, FirstStart, KeyText, Login, NewContact, NewInstance, NewKey,
    SignedIn,
};
pub use suppressions::SuppressionSet;

/// How often a change is tried again because somebody was faster: each loss means that another one
/// won, so more than a few say that something is wrong.
const CHANGE_ROUNDS: usize = 16;

/// Why the directory did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DirectoryError {
    /// A field has a value that cannot be: taken already, too long, of the wrong kind.
    #[error("{field}: {message}")]
    Field {
        /// Which field, by the name that clients use.
        field: &'static str,
        /// What is wrong with it, as a sentence for people.
        message: String,
    },
    /// There is nothing of that id in this account.
    #[error("there is no such {0}")]
    NotFound(&'static str),
    /// Others changed the same row again and again, or too much is asked at once.
    #[error("too many changes at once")]
    Busy,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a key was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// Missing, mistyped, unknown, revoked or expired.
    #[error("the key is not valid")]
    Invalid,
    /// The key, which is good, may not be used from this address.
    #[error("the key may not be used from this address")]
    AddressNotAllowed(Arc<ApiKey>),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a login was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// Unknown user or wrong password; which of the two is not said.
    #[error("wrong email or password")]
    Wrong,
    /// Too many failures, or logins at once: the next attempt is heard after this many seconds.
    #[error("too many logins; try again in {0} s")]
    Wait(u64),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Accounts and what they have; clones are the same one.
#[derive(Clone)]
pub struct Directory {
    inner: Arc<Inner>,
}

struct Inner {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    ids: Ids,
    tracker: TaskTracker,
    logins: Logins,
    keys: KnownKeys,
    instances: KnownInstances,
    contacts: ContactLocks,
    suppressions: KnownSuppressions,
    templates: Cache<(AccountId, TemplateId), Arc<Template>>,
    /// What becomes of messages whose outcome cannot be known, and until when that is believed.
    defaults: Cache<AccountId, (OnAmbiguous, Mono)>,
    /// Audit lines written by this process.
    audited: AtomicU64,
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Directory")
            .field("store", &self.inner.store)
            .finish_non_exhaustive()
    }
}

impl Directory {
    /// A directory over a store; what it does in the background runs on `tracker`.
    pub fn new(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        ids: Ids,
        tracker: TaskTracker,
    ) -> Self {
        let inner = Inner {
            store,
            clock,
            ids,
            tracker,
            logins: Logins::new(),
            keys: KnownKeys::new(),
            instances: KnownInstances::new(),
            contacts: ContactLocks::new(),
            suppressions: KnownSuppressions::default(),
            templates: Cache::new(templates::REMEMBERED),
            defaults: Cache::new(accounts::REMEMBERED_DEFAULTS),
            audited: AtomicU64::new(0),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Forgets what is remembered of rows that other nodes change too. Templates never change, and
    /// opt-outs stay: of those every node is told before they are in force.
    pub fn forget_changeable(&self) {
        self.inner.instances.forget_all();
    }

    /// Forgets what is remembered of the instances of a shard that had another owner.
    pub fn forget_shard(&self, shard: Shard) {
        self.inner.instances.forget_shard(shard);
    }

    /// Forgets everything that other nodes may have changed while this one was not told.
    pub fn forget_all(&self) {
        self.forget_changeable();
        self.inner.suppressions.forget_all();
        self.inner.defaults.clear();
    }

    fn store(&self) -> &dyn Store {
        &*self.inner.store
    }

    fn now(&self) -> Timestamp {
        self.inner.clock.now()
    }

    /// A page of the rows of an account, the largest sort key first.
    async fn newest<T: DeserializeOwned>(
        &self,
        table: Table,
        what: &'static str,
        account: AccountId,
        page: PageRequest,
    ) -> Result<Vec<T>, StoreError> {
        newest(self.store(), table, what, account, page).await
    }
}

/// Counts the rows of an account by reading them, `chunk` at a time.
pub(crate) async fn count(
    store: &dyn Store,
    table: Table,
    account: AccountId,
    chunk: usize,
) -> Result<u64, StoreError> {
    let partition = number(account.get());
    let mut count = 0;
    let mut after: Option<Vec<u8>> = None;
    loop {
        let rows = store
            .rows(table, &partition, after.as_deref(), chunk, false)
            .await?;
        count += rows.len() as u64;
        match rows.into_iter().next_back() {
            Some(last) => after = Some(last.key.sort),
            None => return Ok(count),
        }
    }
}

/// A page of the rows of an account, the largest sort key first.
pub(crate) async fn newest<T: DeserializeOwned>(
    store: &dyn Store,
    table: Table,
    what: &'static str,
    account: AccountId,
    page: PageRequest,
) -> Result<Vec<T>, StoreError> {
    let partition = number(account.get());
    let mut items = Vec::new();
    let mut skip = usize::try_from(page.skip).unwrap_or(usize::MAX);
    let mut after: Option<Vec<u8>> = None;
    while items.len() < page.limit {
        let wanted = skip.saturating_add(page.limit - items.len()).min(SCAN_ROWS);
        let rows = store
            .rows(table, &partition, after.as_deref(), wanted, true)
            .await?;
        for row in rows.iter().skip(skip) {
            items.push(decode(what, &row.value)?);
        }
        skip = skip.saturating_sub(rows.len());
        match rows.into_iter().next_back() {
            Some(last) => after = Some(last.key.sort),
            None => break,
        }
    }
    Ok(items)
}

impl DirectoryError {
    /// A name that somebody else has.
    fn taken(field: &'static str) -> Self {
        let words = field.replace('_', " ");
        Self::Field {
            field,
            message: format!("The {words} has already been taken."),
        }
    }
}

/// Checks the length of a text in characters.
fn check_length(
    field: &'static str,
    text: &str,
    least: usize,
    most: usize,
) -> Result<(), DirectoryError> {
    if text.is_empty() && least > 0 {
        let words = field.replace('_', " ");
        let message = format!("The {words} field is required.");
        return Err(DirectoryError::Field { field, message });
    }
    if text.chars().take(least).count() < least {
        let words = field.replace('_', " ");
        let message = format!("The {words} field must be at least {least} characters.");
        return Err(DirectoryError::Field { field, message });
    }
    check_at_most(field, text, most)
}

/// Checks that a text is not longer than some characters.
fn check_at_most(field: &'static str, text: &str, most: usize) -> Result<(), DirectoryError> {
    if text.chars().take(most + 1).count() <= most {
        return Ok(());
    }
    let words = field.replace('_', " ");
    let message = format!("The {words} field must not be greater than {most} characters.");
    Err(DirectoryError::Field { field, message })
}
