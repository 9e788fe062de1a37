//! What an empty store begins with, so that the first command can send a message.

use std::collections::BTreeSet;
use std::sync::Arc;

use zajil_model::instance::{TransportKind, TransportSettings};
use zajil_model::message::OnAmbiguous;
use zajil_model::pace::PaceSpec;
use zajil_storage::{Condition, RowKey, RowWrite, Table, Written};

use super::accounts::{account_rows, user_rows};
use super::instances::instance_rows;
use super::keys::{key_rows, make_key};
use super::records::{Account, DEFAULT_RATE_LIMIT, Permission, User};
use super::requests::{FirstStart, NewInstance, NewKey};
use super::rows::encode;
use super::{Directory, DirectoryError, secret};

/// The name of the first instance.
const INSTANCE_NAME: &str = "my-instance";

/// The email of the first user; it is a name to sign in with and gets no mail.
const EMAIL: &str = "admin@localhost";

/// Characters of the first user's password: more than 100 bits of chance.
const PASSWORD_LENGTH: usize = 20;

impl Directory {
    /// What an empty store is to begin with: an account, a user, a key and an instance. Nothing
    /// is written yet, so that the secrets can be kept somewhere first. `None` when the store has
    /// an account.
    ///
    /// # Errors
    /// What the store answers.
    pub async fn plan_first_start(&self) -> Result<Option<FirstStart>, DirectoryError> {
        let accounts = self.store().rows(Table::Accounts, &[], None, 1, false);
        if accounts.await?.is_empty() {
            self.invent().await.map(Some)
        } else {
            Ok(None)
        }
    }

    /// Makes what was planned, all or nothing; answers whether it did: somebody else may have been
    /// faster.
    ///
    /// # Errors
    /// What the store answers.
    pub async fn make_first_start(&self, planned: &FirstStart) -> Result<bool, DirectoryError> {
        let marker = RowKey::new(Table::Meta, *b"first start", []);
        let mut writes =
            vec![RowWrite::put(marker, encode(&planned.account.id)).when(Condition::Absent)];
        writes.extend(account_rows(&planned.account));
        writes.extend(user_rows(&planned.user));
        writes.extend(key_rows(&planned.key));
        writes.extend(instance_rows(&planned.instance));
        match self.store().write(writes).await? {
            Written::Applied => {
                self.inner.instances.count.made();
                self.remember_instance(&planned.instance);
                Ok(true)
            }
            Written::Conflict { .. } => Ok(false),
        }
    }

    async fn invent(&self) -> Result<FirstStart, DirectoryError> {
        let now = self.now();
        let ids = &self.inner.ids;
        let account = Account {
            id: ids.give().await?,
            name: "default".to_owned(),
            created_at: now,
            on_ambiguous: OnAmbiguous::default(),
        };
        let password = secret::random_text(PASSWORD_LENGTH)?;
        let user = User {
            id: ids.give().await?,
            account: account.id,
            email: EMAIL.to_owned(),
            name: "Administrator".to_owned(),
            password_hash: self.hash_password(&password).await?,
            created_at: now,
        };
        let new_key = NewKey {
            user: Some(user.id),
            name: "first key".to_owned(),
            permissions: BTreeSet::from(Permission::ALL),
            rate_limit: DEFAULT_RATE_LIMIT,
            expires_at: None,
            allowed_ips: Vec::new(),
            allowed_instances: BTreeSet::new(),
        };
        let (key, key_text) = make_key(ids.give().await?, account.id, new_key, now)?;
        let new_instance = NewInstance {
            name: INSTANCE_NAME.to_owned(),
            transport: TransportKind::Simulator,
            settings: TransportSettings::default(),
            pace: PaceSpec::default_for(TransportKind::Simulator),
            queue_while_disconnected: false,
        };
        let instance = new_instance.into_instance(ids.give().await?, account.id, now);
        Ok(FirstStart {
            account,
            user,
            password,
            key: Arc::new(key),
            key_text,
            instance: Arc::new(instance),
        })
    }
}
