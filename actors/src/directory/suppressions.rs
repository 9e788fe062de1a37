//! Opt-outs: rows in the store, and one set in memory for each account that sends.

use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use rustc_hash::FxHashMap;
use tokio::sync::OnceCell;
use zajil_model::id::AccountId;
use zajil_model::phone::Phone;
use zajil_model::suppression::{Cleared, Suppressions};
use zajil_storage::{Condition, RowKey, RowWrite, Table, Written};

use super::records::{Page, PageRequest, Suppression};
use super::rows::{SCAN_ROWS, decode, encode, load, owned};
use super::{Directory, DirectoryError, check_at_most, check_length};

/// Accounts whose sets stay in memory when nobody uses them: above it they are dropped and read
/// again at the next use.
const KEPT_ACCOUNTS: usize = 10_000;

/// Characters of a reason.
const MAX_REASON: usize = 1_000;

/// Characters of a source.
const MAX_SOURCE: usize = 100;

/// The opt-outs of one account, in force for everybody who holds it.
#[derive(Debug, Default)]
pub struct SuppressionSet(RwLock<Suppressions>);

impl SuppressionSet {
    /// Whether a recipient opted out.
    pub fn contains(&self, recipient: Phone) -> bool {
        self.0.read().contains(recipient)
    }

    /// Clears something for a recipient; gives it back when they opted out.
    ///
    /// # Errors
    /// The thing itself, when its recipient opted out.
    pub fn clear<T>(&self, recipient: Phone, item: T) -> Result<Cleared<T>, T> {
        self.0.read().clear(recipient, item)
    }

    /// How many opted out.
    pub fn len(&self) -> usize {
        self.0.read().len()
    }

    /// Whether nobody opted out.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The sets that are in memory. One that somebody holds is never dropped: a second one beside it
/// would miss what is added to the first.
#[derive(Debug, Default)]
pub(super) struct KnownSuppressions {
    sets: Mutex<FxHashMap<AccountId, Arc<Slot>>>,
}

/// The set of an account, and the lock that keeps its changes in the order of the store.
#[derive(Debug, Default)]
struct Slot {
    set: OnceCell<Arc<SuppressionSet>>,
    changing: tokio::sync::Mutex<()>,
}

impl Slot {
    fn is_held(self: &Arc<Self>) -> bool {
        Arc::strong_count(self) > 1 || self.set.get().is_some_and(|set| Arc::strong_count(set) > 1)
    }
}

impl KnownSuppressions {
    /// Forgets the sets; who holds one still does, and must not clear anything by it any more.
    pub(super) fn forget_all(&self) {
        self.sets.lock().clear();
    }

    fn slot(&self, account: AccountId) -> Arc<Slot> {
        let mut sets = self.sets.lock();
        if sets.len() > KEPT_ACCOUNTS && !sets.contains_key(&account) {
            sets.retain(|_, slot| slot.is_held());
        }
        Arc::clone(sets.entry(account).or_default())
    }
}

fn suppression_row(account: AccountId, phone: Phone) -> RowKey {
    owned(Table::Suppressions, account, phone.digits())
}

impl Directory {
    /// The opt-outs of an account, shared with everybody who asks.
    ///
    /// # Errors
    /// When they cannot be read: nothing may be sent then.
    pub async fn suppressions(
        &self,
        account: AccountId,
    ) -> Result<Arc<SuppressionSet>, DirectoryError> {
        let slot = self.inner.suppressions.slot(account);
        self.set_of(&slot, account).await
    }

    /// Opts a recipient out: durable, and in force for every later check on this node. Answers
    /// the entry in force and whether it is new.
    ///
    /// # Errors
    /// `Field` when a text is too long.
    pub async fn suppress(
        &self,
        account: AccountId,
        entry: Suppression,
    ) -> Result<(Suppression, bool), DirectoryError> {
        check_at_most(
            "reason",
            entry.reason.as_deref().unwrap_or_default(),
            MAX_REASON,
        )?;
        check_length("source", &entry.source, 1, MAX_SOURCE)?;
        let slot = self.inner.suppressions.slot(account);
        let _changing = slot.changing.lock().await;
        let set = self.set_of(&slot, account).await?;
        let row = suppression_row(account, entry.phone);
        let write = RowWrite::put(row, encode(&entry)).when(Condition::Absent);
        let written = self.store().write(vec![write]).await?;
        set.0.write().insert(entry.phone);
        match written {
            Written::Applied => Ok((entry, true)),
            Written::Conflict {
                current: Some(stored),
                ..
            } => Ok((decode("suppression", &stored)?, false)),
            Written::Conflict { current: None, .. } => Err(DirectoryError::Busy),
        }
    }

    /// Opts a recipient in again; answers whether they were out.
    ///
    /// # Errors
    /// What the store answers.
    pub async fn unsuppress(
        &self,
        account: AccountId,
        phone: Phone,
    ) -> Result<bool, DirectoryError> {
        let slot = self.inner.suppressions.slot(account);
        let _changing = slot.changing.lock().await;
        let set = self.set_of(&slot, account).await?;
        let delete = RowWrite::delete(suppression_row(account, phone)).when(Condition::Present);
        let deleted = self.store().write(vec![delete]).await? == Written::Applied;
        set.0.write().remove(phone);
        Ok(deleted)
    }

    /// The entry of a recipient.
    ///
    /// # Errors
    /// What the store answers.
    pub async fn suppression(
        &self,
        account: AccountId,
        phone: Phone,
    ) -> Result<Option<Suppression>, DirectoryError> {
        Ok(load(
            self.store(),
            "suppression",
            &suppression_row(account, phone),
        )
        .await?)
    }

    /// Opt-outs, the largest phone first, with an exact total.
    ///
    /// # Errors
    /// What the store answers.
    pub async fn list_suppressions(
        &self,
        account: AccountId,
        page: PageRequest,
    ) -> Result<Page<Suppression>, DirectoryError> {
        let total = self.suppressions(account).await?.len() as u64;
        let items = self
            .newest(Table::Suppressions, "suppression", account, page)
            .await?;
        Ok(Page { items, total })
    }

    /// Another node wrote that somebody opted out, or in again: what the row says now is in force for
    /// every later check. Who brings the news may be late.
    ///
    /// # Errors
    /// When the opt-outs of the account cannot be read.
    pub async fn heard_of_opt_out(
        &self,
        account: AccountId,
        phone: Phone,
    ) -> Result<(), DirectoryError> {
        let known = self.inner.suppressions.sets.lock().get(&account).cloned();
        // Who reads them from now on finds the row, which was durable before this was said.
        let Some(slot) = known else { return Ok(()) };
        let _changing = slot.changing.lock().await;
        let set = self.set_of(&slot, account).await?;
        if self.suppression(account, phone).await?.is_some() {
            set.0.write().insert(phone);
        } else {
            set.0.write().remove(phone);
        }
        Ok(())
    }

    async fn set_of(
        &self,
        slot: &Slot,
        account: AccountId,
    ) -> Result<Arc<SuppressionSet>, DirectoryError> {
        slot.set
            .get_or_try_init(|| self.read_suppressions(account))
            .await
            .cloned()
    }

    async fn read_suppressions(
        &self,
        account: AccountId,
    ) -> Result<Arc<SuppressionSet>, DirectoryError> {
        let partition = super::rows::number(account.get());
        let mut set = Suppressions::new();
        let mut after: Option<Vec<u8>> = None;
        loop {
            let rows = self
                .store()
                .rows(
                    Table::Suppressions,
                    &partition,
                    after.as_deref(),
                    SCAN_ROWS,
                    false,
                )
                .await?;
            for row in &rows {
                let entry: Suppression = decode("suppression", &row.value)?;
                set.insert(entry.phone);
            }
            match rows.into_iter().next_back() {
                Some(last) => after = Some(last.key.sort),
                None => return Ok(Arc::new(SuppressionSet(RwLock::new(set)))),
            }
        }
    }
}
