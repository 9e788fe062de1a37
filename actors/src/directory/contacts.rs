//! Contacts: an address book of up to millions of entries.
//!
//! How many there are is kept in rows of its own, so that a list knows its total without reading all.
//! A count has several rows, each for a part of the ids, so that changes seldom wait for each other.

use tokio::sync::{MutexGuard, Semaphore};
use zajil_model::id::{AccountId, ContactId, Shard};
use zajil_model::phone::Phone;
use zajil_storage::{Condition, RowKey, RowWrite, StoreError, Table, Written};

use super::records::{Contact, Page, PageRequest};
use super::requests::{ContactChange, ContactFilter, NewContact};
use super::rows::{SCAN_ROWS, decode, encode, load, number, owned, read_number, unique};
use super::{CHANGE_ROUNDS, Directory, DirectoryError, check_at_most};

/// The kind of name that is unique in an account.
const PHONE: &str = "contact";

/// Rows that the count of an account is split over.
const COUNT_PARTS: u64 = 16;

/// Locks for changes of counts, shared by all accounts.
const STRIPES: usize = 256;

/// Filtered lists at once: each reads all contacts of an account.
const SEARCHES: usize = 2;

/// Characters of a name or label.
const MAX_TEXT: usize = 255;

/// What is kept in memory about contacts: locks only.
#[derive(Debug)]
pub(super) struct ContactLocks {
    counting: Box<[tokio::sync::Mutex<()>]>,
    searching: Semaphore,
}

impl ContactLocks {
    pub(super) fn new() -> Self {
        let counting = (0..STRIPES).map(|_| tokio::sync::Mutex::new(())).collect();
        Self {
            counting,
            searching: Semaphore::new(SEARCHES),
        }
    }

    async fn counting(&self, account: AccountId, part: u64) -> MutexGuard<'_, ()> {
        let stripe = Shard::of(account.get() ^ (part << 56)).number();
        self.counting[usize::from(stripe) % STRIPES].lock().await
    }
}

fn contact_row(account: AccountId, id: ContactId) -> RowKey {
    owned(Table::Contacts, account, id.get())
}

fn phone_row(account: AccountId, phone: Phone) -> RowKey {
    unique(PHONE, Some(account), &number(phone.digits()))
}

fn put_phone(account: AccountId, contact: &Contact) -> RowWrite {
    let row = phone_row(account, contact.phone);
    RowWrite::put(row, number(contact.id.get()).to_vec()).when(Condition::Absent)
}

/// The part of the count that a contact is in: by the tick of its id.
const fn part_of(id: ContactId) -> u64 {
    id.tick().0 % COUNT_PARTS
}

fn counts_partition(account: AccountId) -> Vec<u8> {
    let mut partition = b"contacts".to_vec();
    partition.extend_from_slice(&number(account.get()));
    partition
}

impl ContactFilter {
    /// The filter with its search in lower case, as [`matches`](Self::matches) needs it.
    fn prepared(&self) -> Self {
        let search = self.search.as_deref().map(str::to_lowercase);
        Self {
            search,
            group_id: self.group_id,
        }
    }

    fn matches(&self, contact: &Contact) -> bool {
        if self.group_id.is_some() && contact.group_id != self.group_id {
            return false;
        }
        let Some(search) = &self.search else {
            return true;
        };
        let texts = [contact.name.as_deref(), contact.label.as_deref()];
        contact.phone.to_string().contains(search.as_str())
            || texts
                .into_iter()
                .flatten()
                .any(|text| text.to_lowercase().contains(search))
    }
}

fn check(contact: &Contact) -> Result<(), DirectoryError> {
    check_at_most(
        "name",
        contact.name.as_deref().unwrap_or_default(),
        MAX_TEXT,
    )?;
    check_at_most(
        "label",
        contact.label.as_deref().unwrap_or_default(),
        MAX_TEXT,
    )
}

impl Directory {
    /// Adds a contact; its phone is unique in the account.
    ///
    /// # Errors
    /// `Field` when a text is too long or the phone is there already.
    pub async fn create_contact(
        &self,
        account: AccountId,
        new: NewContact,
    ) -> Result<Contact, DirectoryError> {
        let contact = Contact {
            id: self.inner.ids.give().await?,
            phone: new.phone,
            name: new.name,
            label: new.label,
            group_id: new.group_id,
            created_at: self.now(),
        };
        check(&contact)?;
        let part = part_of(contact.id);
        let _counting = self.inner.contacts.counting(account, part).await;
        for _ in 0..CHANGE_ROUNDS {
            let writes = vec![
                put_phone(account, &contact),
                RowWrite::put(contact_row(account, contact.id), encode(&contact)),
                self.counted(account, part, 1).await?,
            ];
            match self.store().write(writes).await? {
                Written::Applied => return Ok(contact),
                Written::Conflict { key, .. } if key.table == Table::UniqueNames => {
                    return Err(DirectoryError::taken("phone_number"));
                }
                Written::Conflict { .. } => {}
            }
        }
        Err(DirectoryError::Busy)
    }

    /// A contact.
    ///
    /// # Errors
    /// What the store answers.
    pub async fn contact(
        &self,
        account: AccountId,
        id: ContactId,
    ) -> Result<Option<Contact>, DirectoryError> {
        Ok(load(self.store(), "contact", &contact_row(account, id)).await?)
    }

    /// Contacts, newest first, with an exact total.
    ///
    /// # Errors
    /// What the store answers.
    pub async fn contacts(
        &self,
        account: AccountId,
        filter: &ContactFilter,
        page: PageRequest,
    ) -> Result<Page<Contact>, DirectoryError> {
        if filter.is_empty() {
            let items = self
                .newest(Table::Contacts, "contact", account, page)
                .await?;
            return Ok(Page {
                items,
                total: self.contact_count(account).await?,
            });
        }
        let turn = self.inner.contacts.searching.acquire().await;
        let _turn = turn.map_err(|_| DirectoryError::Busy)?;
        let filter = filter.prepared();
        let mut found = Page {
            items: Vec::new(),
            total: 0,
        };
        let mut after: Option<Vec<u8>> = None;
        loop {
            let partition = number(account.get());
            let rows = self
                .store()
                .rows(
                    Table::Contacts,
                    &partition,
                    after.as_deref(),
                    SCAN_ROWS,
                    true,
                )
                .await?;
            for row in &rows {
                let contact: Contact = decode("contact", &row.value)?;
                if filter.matches(&contact) {
                    if found.total >= page.skip && found.items.len() < page.limit {
                        found.items.push(contact);
                    }
                    found.total += 1;
                }
            }
            match rows.into_iter().next_back() {
                Some(last) => after = Some(last.key.sort),
                None => return Ok(found),
            }
        }
    }

    /// Changes the members of a contact that are named.
    ///
    /// # Errors
    /// `NotFound` when the account has no such contact, `Field` when a new phone is there already.
    pub async fn update_contact(
        &self,
        account: AccountId,
        id: ContactId,
        change: ContactChange,
    ) -> Result<Contact, DirectoryError> {
        let row = contact_row(account, id);
        for _ in 0..CHANGE_ROUNDS {
            let stored = self.store().row(&row).await?;
            let stored = stored.ok_or(DirectoryError::NotFound("contact"))?;
            let before: Contact = decode("contact", &stored.value)?;
            let contact = change.applied(before.clone());
            check(&contact)?;
            let put = RowWrite::put(row.clone(), encode(&contact));
            let mut writes = vec![put.when(Condition::Is(stored.value))];
            if contact.phone != before.phone {
                writes.push(RowWrite::delete(phone_row(account, before.phone)));
                writes.push(put_phone(account, &contact));
            }
            match self.store().write(writes).await? {
                Written::Applied => return Ok(contact),
                Written::Conflict { key, .. } if key.table == Table::UniqueNames => {
                    return Err(DirectoryError::taken("phone_number"));
                }
                Written::Conflict { .. } => {}
            }
        }
        Err(DirectoryError::Busy)
    }

    /// Deletes a contact.
    ///
    /// # Errors
    /// `NotFound` when the account has no such contact.
    pub async fn delete_contact(
        &self,
        account: AccountId,
        id: ContactId,
    ) -> Result<(), DirectoryError> {
        let row = contact_row(account, id);
        let part = part_of(id);
        let _counting = self.inner.contacts.counting(account, part).await;
        for _ in 0..CHANGE_ROUNDS {
            let stored = self.store().row(&row).await?;
            let stored = stored.ok_or(DirectoryError::NotFound("contact"))?;
            let contact: Contact = decode("contact", &stored.value)?;
            let writes = vec![
                RowWrite::delete(row.clone()).when(Condition::Is(stored.value)),
                RowWrite::delete(phone_row(account, contact.phone)),
                self.counted(account, part, -1).await?,
            ];
            if self.store().write(writes).await? == Written::Applied {
                return Ok(());
            }
        }
        Err(DirectoryError::Busy)
    }

    async fn contact_count(&self, account: AccountId) -> Result<u64, StoreError> {
        let partition = counts_partition(account);
        let parts = COUNT_PARTS as usize;
        let rows = self
            .store()
            .rows(Table::Meta, &partition, None, parts, false)
            .await?;
        Ok(rows.iter().filter_map(|row| read_number(&row.value)).sum())
    }

    /// The write that changes a part of a count by `by`.
    async fn counted(
        &self,
        account: AccountId,
        part: u64,
        by: i64,
    ) -> Result<RowWrite, StoreError> {
        let row = RowKey::new(Table::Meta, counts_partition(account), number(part));
        let stored = self.store().row(&row).await?.map(|row| row.value);
        let count = stored.as_deref().and_then(read_number).unwrap_or(0);
        let count = count.saturating_add_signed(by);
        let condition = stored.map_or(Condition::Absent, Condition::Is);
        Ok(RowWrite::put(row, number(count).to_vec()).when(condition))
    }
}

impl ContactChange {
    fn applied(&self, mut contact: Contact) -> Contact {
        if let Some(phone) = self.phone {
            contact.phone = phone;
        }
        if let Some(name) = &self.name {
            contact.name.clone_from(name);
        }
        if let Some(label) = &self.label {
            contact.label.clone_from(label);
        }
        if let Some(group_id) = self.group_id {
            contact.group_id = group_id;
        }
        contact
    }
}
