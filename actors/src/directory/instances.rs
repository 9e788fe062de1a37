//! Instances as their accounts set them up.

use std::sync::Arc;

use tokio::sync::MutexGuard;
use zajil_model::id::{AccountId, InstanceId, Shard};
use zajil_model::instance::{Instance, Wanted};
use zajil_storage::{Condition, RowKey, RowWrite, StoreError, Table, Written};

use super::cache::Cache;
use super::instance_count::InstanceCount;
use super::requests::NewInstance;
use super::rows::{decode, encode, load, number, owned, read_number, unique};
use super::{CHANGE_ROUNDS, Directory, DirectoryError, check_length};

/// Instances that are kept in memory, at some 500 bytes each.
const REMEMBERED: usize = 200_000;

/// Characters of a name.
const MAX_NAME: usize = 100;

/// The kind of name that is unique in an account.
const NAME: &str = "instance";

/// The instances that were asked for lately.
#[derive(Debug)]
pub(super) struct KnownInstances {
    by_id: Cache<InstanceId, Arc<Instance>>,
    by_name: Cache<(AccountId, Box<str>), InstanceId>,
    /// Held while an instance of this lock's stripe is changed, so that memory changes in the
    /// order of the store.
    changing: [tokio::sync::Mutex<()>; STRIPES],
    pub(super) count: InstanceCount,
}

/// Locks for changes: more than a node ever makes at once.
const STRIPES: usize = 64;

impl KnownInstances {
    pub(super) fn new() -> Self {
        Self {
            by_id: Cache::new(REMEMBERED),
            by_name: Cache::new(REMEMBERED),
            changing: std::array::from_fn(|_| tokio::sync::Mutex::new(())),
            count: InstanceCount::default(),
        }
    }

    /// Forgets what instances are like. Names stay: each is compared with its instance.
    pub(super) fn forget_all(&self) {
        self.by_id.clear();
    }

    pub(super) fn forget_shard(&self, shard: Shard) {
        self.by_id.forget_where(|id| id.shard() == shard);
    }

    async fn changing(&self, id: InstanceId) -> MutexGuard<'_, ()> {
        self.changing[usize::from(id.shard().number()) % STRIPES]
            .lock()
            .await
    }
}

fn instance_row(account: AccountId, id: InstanceId) -> RowKey {
    owned(Table::Instances, account, id.get())
}

fn owner_row(id: InstanceId) -> RowKey {
    RowKey::new(Table::InstanceOwners, number(id.get()), [])
}

fn name_row(account: AccountId, name: &str) -> RowKey {
    unique(NAME, Some(account), name.as_bytes())
}

fn put_name(instance: &Instance) -> RowWrite {
    let row = name_row(instance.account, &instance.name);
    RowWrite::put(row, number(instance.id.get()).to_vec()).when(Condition::Absent)
}

/// The rows of a new instance.
pub(super) fn instance_rows(instance: &Instance) -> [RowWrite; 3] {
    let row = instance_row(instance.account, instance.id);
    let owner = RowWrite::put(
        owner_row(instance.id),
        number(instance.account.get()).to_vec(),
    );
    [
        put_name(instance),
        RowWrite::put(row, encode(instance)).when(Condition::Absent),
        owner.when(Condition::Absent),
    ]
}

fn check_name(name: &str) -> Result<(), DirectoryError> {
    check_length("instance_name", name, 1, MAX_NAME)?;
    let fault = if name.chars().all(|c| c.is_ascii_digit()) {
        "The instance name field must have at least one character that is not a digit."
    } else if name.chars().any(|c| c.is_control() || c == '/') || name.trim() != name {
        "The instance name field must not have slashes, control characters or spaces around it."
    } else {
        return Ok(());
    };
    Err(DirectoryError::Field {
        field: "instance_name",
        message: fault.to_owned(),
    })
}

impl Directory {
    /// Makes an instance; its name is unique in its account and has at least one non-digit.
    ///
    /// # Errors
    /// `Field` when the name cannot be or is taken.
    pub async fn create_instance(
        &self,
        account: AccountId,
        new: NewInstance,
    ) -> Result<Arc<Instance>, DirectoryError> {
        check_name(&new.name)?;
        let id = self.inner.ids.give().await?;
        let instance = Arc::new(new.into_instance(id, account, self.now()));
        match self.store().write(instance_rows(&instance).into()).await? {
            Written::Applied => {
                self.inner.instances.count.made();
                self.remember_instance(&instance);
                Ok(instance)
            }
            Written::Conflict { .. } => Err(DirectoryError::taken("instance_name")),
        }
    }

    /// The instance of that id (digits) or name.
    ///
    /// # Errors
    /// What the store answers.
    pub async fn instance(
        &self,
        account: AccountId,
        id_or_name: &str,
    ) -> Result<Option<Arc<Instance>>, DirectoryError> {
        let is_id = id_or_name.bytes().all(|byte| byte.is_ascii_digit());
        if !is_id && let Some(known) = self.still_named(account, id_or_name).await? {
            return Ok(Some(known));
        }
        let id = if is_id {
            id_or_name.parse().ok()
        } else {
            self.instance_named(account, id_or_name).await?
        };
        match id {
            Some(id) => self.instance_of(account, id).await,
            None => Ok(None),
        }
    }

    /// The instance that had this name when it was looked up, if its row says that it still has: a
    /// name is read again when it changed, and not whenever an instance is.
    async fn still_named(
        &self,
        account: AccountId,
        name: &str,
    ) -> Result<Option<Arc<Instance>>, DirectoryError> {
        let Some(id) = self
            .inner
            .instances
            .by_name
            .get(&(account, Box::from(name)))
        else {
            return Ok(None);
        };
        let known = self.instance_of(account, id).await?;
        Ok(known.filter(|instance| *instance.name == *name))
    }

    /// The instance of that id, if it is the account's.
    ///
    /// # Errors
    /// What the store answers.
    pub async fn instance_of(
        &self,
        account: AccountId,
        id: InstanceId,
    ) -> Result<Option<Arc<Instance>>, DirectoryError> {
        let known = &self.inner.instances.by_id;
        if let Some(instance) = known.get(&id) {
            return Ok(Some(instance).filter(|instance| instance.account == account));
        }
        let mark = known.mark();
        let row = instance_row(account, id);
        let stored: Option<Instance> = load(self.store(), "instance", &row).await?;
        Ok(stored.map(|instance| {
            let instance = Arc::new(instance);
            known.put_read(mark, id, Arc::clone(&instance));
            instance
        }))
    }

    /// The instance of that id, whosever it is: for waking it after a start.
    ///
    /// # Errors
    /// What the store answers.
    pub async fn instance_by_id(
        &self,
        id: InstanceId,
    ) -> Result<Option<Arc<Instance>>, DirectoryError> {
        if let Some(instance) = self.inner.instances.by_id.get(&id) {
            return Ok(Some(instance));
        }
        let Some(row) = self.store().row(&owner_row(id)).await? else {
            return Ok(None);
        };
        let account = read_number(&row.value)
            .and_then(AccountId::new)
            .ok_or_else(|| StoreError::Corrupt {
                what: "instance owner",
                detail: "not an id".to_owned(),
            })?;
        self.instance_of(account, id).await
    }

    /// The instances of an account in order of their ids, from after `after`.
    ///
    /// # Errors
    /// What the store answers.
    pub async fn instances(
        &self,
        account: AccountId,
        after: Option<InstanceId>,
        limit: usize,
    ) -> Result<Vec<Arc<Instance>>, DirectoryError> {
        let partition = number(account.get());
        let after = after.map(|id| number(id.get()));
        let after = after.as_ref().map(<[u8; 8]>::as_slice);
        let rows = self
            .store()
            .rows(Table::Instances, &partition, after, limit, false)
            .await?;
        let decoded = rows
            .iter()
            .map(|row| decode("instance", &row.value).map(Arc::new));
        Ok(decoded.collect::<Result<_, StoreError>>()?)
    }

    /// Changes an instance: `change` is applied to what is stored, again if somebody was faster.
    /// A changed name is checked as a new one is. Its id, account and age stay.
    ///
    /// # Errors
    /// `NotFound` when the account has no such instance, `Field` when the name is taken.
    pub async fn update_instance(
        &self,
        account: AccountId,
        id: InstanceId,
        change: impl Fn(&mut Instance) + Send + Sync,
    ) -> Result<Arc<Instance>, DirectoryError> {
        let _changing = self.inner.instances.changing(id).await;
        let row = instance_row(account, id);
        for _ in 0..CHANGE_ROUNDS {
            let (stored, before) = self.stored_instance(&row).await?;
            let mut instance = before.clone();
            change(&mut instance);
            (instance.id, instance.account, instance.created_at) = (id, account, before.created_at);
            let put = RowWrite::put(row.clone(), encode(&instance));
            let mut writes = vec![put.when(Condition::Is(stored))];
            let renamed = instance.name != before.name;
            if renamed {
                check_name(&instance.name)?;
                writes.push(RowWrite::delete(name_row(account, &before.name)));
                writes.push(put_name(&instance));
            }
            match self.store().write(writes).await? {
                Written::Applied => {
                    let instance = Arc::new(instance);
                    if renamed {
                        self.inner
                            .instances
                            .by_name
                            .forget(&(account, before.name.into()));
                    }
                    self.remember_instance(&instance);
                    return Ok(instance);
                }
                Written::Conflict { key, .. } if key != row => {
                    return Err(DirectoryError::taken("instance_name"));
                }
                Written::Conflict { .. } => {}
            }
        }
        Err(DirectoryError::Busy)
    }

    /// Deletes the row of an instance; what runs of it is stopped by the engine.
    ///
    /// # Errors
    /// `NotFound` when the account has no such instance.
    pub async fn delete_instance(
        &self,
        account: AccountId,
        id: InstanceId,
    ) -> Result<Arc<Instance>, DirectoryError> {
        let _changing = self.inner.instances.changing(id).await;
        let row = instance_row(account, id);
        for _ in 0..CHANGE_ROUNDS {
            let (stored, instance) = self.stored_instance(&row).await?;
            let writes = vec![
                RowWrite::delete(row.clone()).when(Condition::Is(stored)),
                RowWrite::delete(name_row(account, &instance.name)),
                RowWrite::delete(owner_row(id)),
            ];
            if self.store().write(writes).await? == Written::Applied {
                self.inner.instances.count.deleted();
                self.inner.instances.by_id.forget(&id);
                self.inner
                    .instances
                    .by_name
                    .forget(&(account, instance.name.clone().into()));
                return Ok(Arc::new(instance));
            }
        }
        Err(DirectoryError::Busy)
    }

    async fn stored_instance(&self, row: &RowKey) -> Result<(Vec<u8>, Instance), DirectoryError> {
        let stored = self
            .store()
            .row(row)
            .await?
            .ok_or(DirectoryError::NotFound("instance"))?;
        let instance = decode("instance", &stored.value)?;
        Ok((stored.value, instance))
    }

    async fn instance_named(
        &self,
        account: AccountId,
        name: &str,
    ) -> Result<Option<InstanceId>, DirectoryError> {
        if name.len() > MAX_NAME * 4 {
            return Ok(None);
        }
        let known = &self.inner.instances.by_name;
        let key = (account, Box::from(name));
        let mark = known.mark();
        let row = self.store().row(&name_row(account, name)).await?;
        let id = row
            .and_then(|row| read_number(&row.value))
            .and_then(InstanceId::new);
        if let Some(id) = id {
            known.put_read(mark, key, id);
        }
        Ok(id)
    }

    /// Held while a change of an instance is put in force: one after the other, in the order in which
    /// they are read.
    pub(crate) async fn changing_instance(&self, id: InstanceId) -> MutexGuard<'_, ()> {
        self.inner.instances.changing(id).await
    }

    /// Somebody changed an instance: reads how it is now, since what is told of a change may be late
    /// and older than what is in force. One that was deleted has no session.
    ///
    /// # Errors
    /// What the store answers.
    pub(crate) async fn changed_instance(
        &self,
        told: &Instance,
    ) -> Result<Arc<Instance>, DirectoryError> {
        let row = instance_row(told.account, told.id);
        let stored: Option<Instance> = load(self.store(), "instance", &row).await?;
        let Some(instance) = stored.map(Arc::new) else {
            return Ok(Arc::new(Instance {
                wanted: Wanted::Disconnected,
                ..told.clone()
            }));
        };
        self.remember_instance(&instance);
        Ok(instance)
    }

    /// An instance is gone, or may have changed.
    pub fn forget_instance(&self, instance: &Instance) {
        let known = &self.inner.instances;
        known.by_id.forget(&instance.id);
        let name = (instance.account, Box::from(instance.name.as_str()));
        known.by_name.forget(&name);
    }

    pub(super) fn remember_instance(&self, instance: &Arc<Instance>) {
        let known = &self.inner.instances;
        known.by_id.put_written(instance.id, Arc::clone(instance));
        let name = (instance.account, Box::from(instance.name.as_str()));
        known.by_name.put_written(name, instance.id);
    }
}

impl NewInstance {
    pub(super) fn into_instance(
        self,
        id: InstanceId,
        account: AccountId,
        now: zajil_model::time::Timestamp,
    ) -> Instance {
        Instance {
            id,
            account,
            name: self.name,
            transport: self.transport,
            settings: self.settings,
            pace: self.pace,
            queue_while_disconnected: self.queue_while_disconnected,
            paused: false,
            held: false,
            wanted: Wanted::Connected,
            phone: None,
            created_at: now,
        }
    }
}
