//! Rows: the small things beside the logs (accounts, keys, instances, contacts …).
//!
//! A row lives in a table, under a partition (what is read together, and what one owner writes)
//! and a sort key within it. Values are bytes; who writes a table owns their form.

/// The tables, each with what its partition and sort key are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Table {
    /// What belongs to the store as a whole: partition = a name, sort = empty.
    Meta = 0,
    /// Accounts: partition empty (few), sort = account id.
    Accounts = 1,
    /// Users: partition = account id, sort = user id.
    Users = 2,
    /// Names that must be unique: partition = kind, scope and name; sort empty; value = id.
    UniqueNames = 3,
    /// API keys: partition = account id, sort = key id.
    Keys = 4,
    /// API keys by the hash of their secret: partition = hash, sort empty; value = account, key.
    KeyHashes = 5,
    /// Instances: partition = account id, sort = instance id.
    Instances = 6,
    /// Which account an instance belongs to: partition = instance id, sort empty.
    InstanceOwners = 7,
    /// Contacts: partition = account id, sort = contact id.
    Contacts = 8,
    /// Suppressed recipients: partition = account id, sort = phone.
    Suppressions = 9,
    /// Templates: partition = account id, sort = template id.
    Templates = 10,
    /// Batches: partition = account id, sort = batch id.
    Batches = 11,
    /// Refused rows of a batch: partition = batch id, sort = row number.
    RefusedRows = 12,
    /// Idempotency keys: partition = account, method, path and key; sort empty.
    Idempotency = 13,
    /// Windows of API keys: partition = key id, sort empty.
    Buckets = 14,
    /// Sessions of signed-in users: partition = hash of the token, sort empty.
    Sessions = 15,
    /// Audit lines: partition = account id, sort = time and a counter.
    Audit = 16,
    /// What an instance with work keeps: pace, quarantine, parts. Partition = instance id.
    Checkpoints = 17,
    /// Which account a batch belongs to: partition = batch id, sort empty.
    BatchOwners = 18,
    /// Nodes that ever joined a cluster: partition empty (few), sort = node id; value = where it
    /// is found.
    Members = 19,
    /// Leases of nodes: partition = node id (renewals of different nodes never meet), sort empty.
    Leases = 20,
    /// Who owns a shard: partition = the shard's number divided by 16 (a scan of all is 64 reads,
    /// and few changes meet), sort = the shard's number.
    ShardOwners = 21,
    /// What an instance with a daily cap reserved of the day: partition = instance id, sort empty.
    DayCaps = 22,
}

impl Table {
    /// Each of them, in the order of their numbers.
    pub const ALL: [Self; 23] = [
        Self::Meta,
        Self::Accounts,
        Self::Users,
        Self::UniqueNames,
        Self::Keys,
        Self::KeyHashes,
        Self::Instances,
        Self::InstanceOwners,
        Self::Contacts,
        Self::Suppressions,
        Self::Templates,
        Self::Batches,
        Self::RefusedRows,
        Self::Idempotency,
        Self::Buckets,
        Self::Sessions,
        Self::Audit,
        Self::Checkpoints,
        Self::BatchOwners,
        Self::Members,
        Self::Leases,
        Self::ShardOwners,
        Self::DayCaps,
    ];

    /// The table of that number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}

/// Names a row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowKey {
    /// The table.
    pub table: Table,
    /// What is read together.
    pub partition: Vec<u8>,
    /// The place within it.
    pub sort: Vec<u8>,
}

impl RowKey {
    /// A row's name.
    pub fn new(table: Table, partition: impl Into<Vec<u8>>, sort: impl Into<Vec<u8>>) -> Self {
        Self {
            table,
            partition: partition.into(),
            sort: sort.into(),
        }
    }
}

/// A stored row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its name.
    pub key: RowKey,
    /// Its value.
    pub value: Vec<u8>,
}

/// What must hold for a write to happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Nothing: the write always happens.
    None,
    /// No such row exists.
    Absent,
    /// The row exists, with any value.
    Present,
    /// The row's value is exactly this.
    Is(Vec<u8>),
}

/// One row to write, or to delete (`value` is `None`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowWrite {
    /// Which row.
    pub key: RowKey,
    /// Its new value; `None` deletes it.
    pub value: Option<Vec<u8>>,
    /// What must hold.
    pub condition: Condition,
}

impl RowWrite {
    /// Puts a value, whatever was there.
    pub fn put(key: RowKey, value: Vec<u8>) -> Self {
        Self {
            key,
            value: Some(value),
            condition: Condition::None,
        }
    }

    /// Deletes a row, whether it was there or not.
    pub const fn delete(key: RowKey) -> Self {
        Self {
            key,
            value: None,
            condition: Condition::None,
        }
    }

    /// The same write under a condition.
    #[must_use]
    pub fn when(mut self, condition: Condition) -> Self {
        self.condition = condition;
        self
    }
}

/// The answer to a conditional write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// All rows are durable.
    Applied,
    /// Nothing was written: this row (the first whose condition failed) has this value now.
    Conflict {
        /// Whose condition failed.
        key: RowKey,
        /// What it holds.
        current: Option<Vec<u8>>,
    },
}

/// Whether a condition fails on what a row holds now.
pub(crate) fn unmet(condition: &Condition, current: Option<&[u8]>) -> bool {
    match condition {
        Condition::None => false,
        Condition::Absent => current.is_some(),
        Condition::Present => current.is_none(),
        Condition::Is(value) => current != Some(value.as_slice()),
    }
}
