//! What the directory keeps, one type a table. Stored as MessagePack with named members, so that
//! a member that is added later is simply absent in older rows.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use zajil_model::id::{AccountId, ContactId, InstanceId, KeyId, TemplateId, UserId};
use zajil_model::message::OnAmbiguous;
use zajil_model::phone::Phone;
use zajil_model::time::Timestamp;

use super::address::AddressRange;

/// One customer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Its id.
    pub id: AccountId,
    /// Its name, unique.
    pub name: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// What becomes of its messages whose outcome cannot be known, unless they say so themselves.
    #[serde(default)]
    pub on_ambiguous: OnAmbiguous,
}

/// A person who signs in to the dashboard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Their id.
    pub id: UserId,
    /// Their account.
    pub account: AccountId,
    /// Unique in the whole store, in lower case.
    pub email: String,
    /// What they are called.
    pub name: String,
    /// The argon2id hash of their password.
    pub password_hash: String,
    /// When they were made.
    pub created_at: Timestamp,
}

/// What a key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Permission {
    /// Send, cancel and batch messages.
    SendMessage,
    /// Read messages and totals.
    ReadMessages,
    /// See, pause and resume instances.
    ManageInstances,
    /// Contacts and suppressions.
    ManageContacts,
    /// Templates.
    ManageTemplates,
}

impl Permission {
    /// Each of them.
    pub const ALL: [Self; 5] = [
        Self::SendMessage,
        Self::ReadMessages,
        Self::ManageInstances,
        Self::ManageContacts,
        Self::ManageTemplates,
    ];

    /// The word that clients see.
    pub const fn label(self) -> &'static str {
        match self {
            Self::SendMessage => "send_message",
            Self::ReadMessages => "read_messages",
            Self::ManageInstances => "manage_instances",
            Self::ManageContacts => "manage_contacts",
            Self::ManageTemplates => "manage_templates",
        }
    }

    /// The permission of that word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|permission| permission.label() == word)
    }
}

/// Requests an hour that a key may make when nobody says otherwise.
pub const DEFAULT_RATE_LIMIT: u64 = 1_000;

/// The highest limit that a key can be given.
pub const MAX_RATE_LIMIT: u64 = 1_000_000_000;

/// An API key; its secret is not in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    /// Its id, kept by a rotation.
    pub id: KeyId,
    /// Whose it is.
    pub account: AccountId,
    /// Who made it, if a person did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<UserId>,
    /// What people call it.
    pub name: String,
    /// What it may do.
    pub permissions: BTreeSet<Permission>,
    /// Requests an hour.
    pub rate_limit: u64,
    /// When it ends by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// From where it may be used; empty is from everywhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_ips: Vec<AddressRange>,
    /// For which instances it may be used; empty is for all of its account.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub allowed_instances: BTreeSet<InstanceId>,
    /// When it was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last used, to the minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<Timestamp>,
    /// The first characters of its text, for people to recognise it by.
    pub prefix: String,
    /// The last four characters of its text.
    pub last4: String,
    /// The SHA-256 of its text.
    pub hash: [u8; 32],
    /// The hash that it had before its last rotation, and until when that is still good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub former: Option<FormerHash>,
}

impl ApiKey {
    /// Whether it may do something.
    pub fn may(&self, permission: Permission) -> bool {
        self.permissions.contains(&permission)
    }

    /// Whether it may be used for an instance.
    pub fn may_use(&self, instance: InstanceId) -> bool {
        self.allowed_instances.is_empty() || self.allowed_instances.contains(&instance)
    }

    /// Whether it may be used from an address.
    pub fn allows_address(&self, address: IpAddr) -> bool {
        self.allowed_ips.is_empty() || self.allowed_ips.iter().any(|range| range.holds(address))
    }
}

/// A hash that a key had before its rotation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FormerHash {
    /// The SHA-256 of the former text.
    pub hash: [u8; 32],
    /// Until when it is still good.
    pub until: Timestamp,
}

/// An address-book entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contact {
    /// Its id.
    pub id: ContactId,
    /// Unique in its account.
    pub phone: Phone,
    /// What they are called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A free word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// An integer tag of the client's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_id: Option<i64>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A recipient who opted out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suppression {
    /// Who.
    pub phone: Phone,
    /// Why, in somebody's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Where it came from: `api`, `dashboard`, `keyword` …
    pub source: String,
    /// Since when.
    pub created_at: Timestamp,
}

/// A text with `{{variables}}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Template {
    /// Its id.
    pub id: TemplateId,
    /// Unique in its account.
    pub name: String,
    /// The text.
    pub content: String,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Who did what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditLine {
    /// When.
    pub at: Timestamp,
    /// Who: `user:ID`, `key:ID`, `operator` or `system`.
    pub actor: String,
    /// What, as a word with a dot: `key.created`, `instance.deleted` …
    pub action: String,
    /// To what: an id or a name.
    pub subject: String,
    /// From which address, if it came over the network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// What else there is to say; never a secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// Some entries, and how to go on.
#[derive(Clone, Debug)]
pub struct Page<T> {
    /// The entries.
    pub items: Vec<T>,
    /// How many there are in all that match.
    pub total: u64,
}

/// Which entries of a list: newest first, `skip` of them passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRequest {
    /// How many to pass over.
    pub skip: u64,
    /// How many at most.
    pub limit: usize,
}
