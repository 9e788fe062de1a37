//! What callers hand to the directory, and what they get back but records.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use zajil_model::id::{InstanceId, UserId};
use zajil_model::instance::{Instance, TransportKind, TransportSettings};
use zajil_model::pace::PaceSpec;
use zajil_model::phone::Phone;
use zajil_model::time::Timestamp;

use super::address::AddressRange;
use super::records::{Account, ApiKey, Permission, User};

/// A key that is to be made.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// Who makes it, if a person does.
    pub user: Option<UserId>,
    /// What people call it: 1 to 255 characters.
    pub name: String,
    /// What it may do.
    pub permissions: BTreeSet<Permission>,
    /// Requests an hour: 1 to a thousand million.
    pub rate_limit: u64,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
    /// From where it may be used; empty is from everywhere.
    pub allowed_ips: Vec<AddressRange>,
    /// For which instances; empty is for all of its account.
    pub allowed_instances: BTreeSet<InstanceId>,
}

/// The text of a key: shown once, never stored. Its `Debug` form does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyText(pub(super) String);

impl KeyText {
    /// The text, to be shown to its owner.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for KeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyText(…)")
    }
}

/// A session that began.
#[derive(Clone)]
pub struct Login {
    /// What the client shows with each request.
    pub token: String,
    /// When it ends.
    pub expires_at: Timestamp,
    /// Who signed in.
    pub user: User,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("user", &self.user.id)
            .finish_non_exhaustive()
    }
}

/// Who a token stands for.
#[derive(Clone, Debug)]
pub struct SignedIn {
    /// The user.
    pub user: Arc<User>,
    /// When the session ends.
    pub expires_at: Timestamp,
}

/// An instance that is to be made.
#[derive(Clone, Debug)]
pub struct NewInstance {
    /// Unique in its account, 1 to 100 characters, at least one of them no digit.
    pub name: String,
    /// How it reaches WhatsApp.
    pub transport: TransportKind,
    /// The settings of that.
    pub settings: TransportSettings,
    /// How fast it may send.
    pub pace: PaceSpec,
    /// Whether messages are taken while it is logged out or banned.
    pub queue_while_disconnected: bool,
}

/// A contact that is to be added.
#[derive(Clone, Debug)]
pub struct NewContact {
    /// Unique in the account.
    pub phone: Phone,
    /// What they are called: at most 255 characters.
    pub name: Option<String>,
    /// A free word: at most 255 characters.
    pub label: Option<String>,
    /// An integer tag of the client's own.
    pub group_id: Option<i64>,
}

/// What is changed of a contact: `None` leaves a member, `Some(None)` empties it.
#[derive(Clone, Debug, Default)]
pub struct ContactChange {
    /// Its phone.
    pub phone: Option<Phone>,
    /// Its name.
    pub name: Option<Option<String>>,
    /// Its label.
    pub label: Option<Option<String>>,
    /// Its tag.
    pub group_id: Option<Option<i64>>,
}

/// Which contacts.
#[derive(Clone, Debug, Default)]
pub struct ContactFilter {
    /// Only those whose name, phone or label holds this text, in any case.
    pub search: Option<String>,
    /// Only those with this tag.
    pub group_id: Option<i64>,
}

impl ContactFilter {
    /// Whether it lets everything pass.
    pub const fn is_empty(&self) -> bool {
        self.search.is_none() && self.group_id.is_none()
    }
}

/// What the first start of an empty store made.
#[derive(Clone)]
pub struct FirstStart {
    /// The account.
    pub account: Account,
    /// Its user.
    pub user: User,
    /// The user's password.
    pub password: String,
    /// A key with all permissions.
    pub key: Arc<ApiKey>,
    /// The text of that key.
    pub key_text: KeyText,
    /// A simulated instance, `my-instance`.
    pub instance: Arc<Instance>,
}

impl fmt::Debug for FirstStart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FirstStart")
            .field("account", &self.account.id)
            .finish_non_exhaustive()
    }
}
