//! Accounts and their users.

use std::time::Duration;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use zajil_model::id::{AccountId, UserId};
use zajil_model::message::OnAmbiguous;
use zajil_storage::{Condition, RowKey, RowWrite, StoreError, Table, Written};

use super::records::{Account, User};
use super::rows::{decode, encode, load, load_all, number, owned, unique};
use super::{CHANGE_ROUNDS, Directory, DirectoryError, check_length};

/// The kinds of names that are unique in the whole store.
const ACCOUNT_NAME: &str = "account";
pub(super) const EMAIL: &str = "email";

/// How long an account's defaults are believed without a look at the store, as a key is.
const BELIEVED: Duration = Duration::from_secs(5);

/// Accounts whose defaults are remembered, at some 50 bytes each.
pub(super) const REMEMBERED_DEFAULTS: usize = 10_000;

/// The shortest password that is taken.
pub(super) const MIN_PASSWORD: usize = 8;

/// The longest password that is taken: hashing reads all of it.
pub(super) const MAX_PASSWORD: usize = 1_024;

/// Characters of a name of an account or user.
const MAX_NAME: usize = 255;

/// Characters of an email address (RFC 5321).
const MAX_EMAIL: usize = 254;

pub(super) fn account_row(id: AccountId) -> RowKey {
    RowKey::new(Table::Accounts, [], number(id.get()))
}

/// The rows of a new account.
pub(super) fn account_rows(account: &Account) -> [RowWrite; 2] {
    let name = unique(ACCOUNT_NAME, None, account.name.as_bytes());
    [
        RowWrite::put(name, number(account.id.get()).to_vec()).when(Condition::Absent),
        RowWrite::put(account_row(account.id), encode(account)).when(Condition::Absent),
    ]
}

/// The rows of a new user.
pub(super) fn user_rows(user: &User) -> [RowWrite; 2] {
    let mut ids = number(user.account.get()).to_vec();
    ids.extend_from_slice(&number(user.id.get()));
    let email = unique(EMAIL, None, user.email.as_bytes());
    [
        RowWrite::put(email, ids).when(Condition::Absent),
        RowWrite::put(
            owned(Table::Users, user.account, user.id.get()),
            encode(user),
        )
        .when(Condition::Absent),
    ]
}

/// An email address as it is compared: in lower case, without spaces around it.
pub(super) fn normal_email(email: &str) -> String {
    email.trim().to_lowercase()
}

impl Directory {
    /// Makes an account with the usual defaults. Its name is unique.
    ///
    /// # Errors
    /// `Field` when the name is empty, too long or taken.
    pub async fn create_account(&self, name: &str) -> Result<Account, DirectoryError> {
        self.create_account_with(name, OnAmbiguous::default()).await
    }

    /// Makes an account whose messages are treated so when their outcome cannot be known.
    ///
    /// # Errors
    /// As [`create_account`](Self::create_account).
    pub async fn create_account_with(
        &self,
        name: &str,
        on_ambiguous: OnAmbiguous,
    ) -> Result<Account, DirectoryError> {
        let name = name.trim();
        check_length("name", name, 1, MAX_NAME)?;
        let account = Account {
            id: self.inner.ids.give().await?,
            name: name.to_owned(),
            created_at: self.now(),
            on_ambiguous,
        };
        match self.store().write(account_rows(&account).into()).await? {
            Written::Applied => Ok(account),
            Written::Conflict { .. } => Err(DirectoryError::taken("name")),
        }
    }

    /// An account.
    ///
    /// # Errors
    /// What the store answers.
    pub async fn account(&self, id: AccountId) -> Result<Option<Account>, DirectoryError> {
        Ok(load(self.store(), "account", &account_row(id)).await?)
    }

    /// Changes what becomes of an account's messages whose outcome cannot be known. Other nodes know
    /// it within [`BELIEVED`].
    ///
    /// # Errors
    /// `NotFound` when there is no such account.
    pub async fn set_on_ambiguous(
        &self,
        id: AccountId,
        on_ambiguous: OnAmbiguous,
    ) -> Result<Account, DirectoryError> {
        let row = account_row(id);
        for _ in 0..CHANGE_ROUNDS {
            let stored = self.store().row(&row).await?;
            let stored = stored.ok_or(DirectoryError::NotFound("account"))?.value;
            let mut account: Account = decode("account", &stored)?;
            account.on_ambiguous = on_ambiguous;
            let put = RowWrite::put(row.clone(), encode(&account)).when(Condition::Is(stored));
            if self.store().write(vec![put]).await? == Written::Applied {
                let until = self.inner.clock.mono() + BELIEVED;
                let defaults = &self.inner.defaults;
                defaults.put_written(id, (on_ambiguous, until));
                return Ok(account);
            }
        }
        Err(DirectoryError::Busy)
    }

    /// What becomes of an account's messages whose outcome cannot be known, unless they say so
    /// themselves.
    ///
    /// # Errors
    /// What the store answers.
    pub async fn on_ambiguous(&self, id: AccountId) -> Result<OnAmbiguous, DirectoryError> {
        let (defaults, now) = (&self.inner.defaults, self.inner.clock.mono());
        let remembered = defaults.get(&id).filter(|(_, until)| now < *until);
        if let Some((on_ambiguous, _)) = remembered {
            return Ok(on_ambiguous);
        }
        let mark = defaults.mark();
        let account = self.account(id).await?;
        let on_ambiguous = account.map(|account| account.on_ambiguous);
        let on_ambiguous = on_ambiguous.unwrap_or_default();
        defaults.put_read(mark, id, (on_ambiguous, now + BELIEVED));
        Ok(on_ambiguous)
    }

    /// All accounts, oldest first.
    ///
    /// # Errors
    /// What the store answers.
    pub async fn accounts(&self) -> Result<Vec<Account>, DirectoryError> {
        Ok(load_all(self.store(), "account", Table::Accounts, &[]).await?)
    }

    /// Makes a user; the email is unique in the whole store, the password has 8 characters or
    /// more.
    ///
    /// # Errors
    /// `Field` when one of them cannot be, `NotFound` when there is no such account.
    pub async fn create_user(
        &self,
        account: AccountId,
        email: &str,
        name: &str,
        password: &str,
    ) -> Result<User, DirectoryError> {
        let email = normal_email(email);
        check_length("email", &email, 3, MAX_EMAIL)?;
        if !email.contains('@') || email.contains(char::is_whitespace) {
            let message = "The email field must be a valid email address.".to_owned();
            return Err(DirectoryError::Field {
                field: "email",
                message,
            });
        }
        check_length("name", name, 1, MAX_NAME)?;
        check_length("password", password, MIN_PASSWORD, MAX_PASSWORD)?;
        if self.account(account).await?.is_none() {
            return Err(DirectoryError::NotFound("account"));
        }
        let user = User {
            id: self.inner.ids.give().await?,
            account,
            email,
            name: name.to_owned(),
            password_hash: self.hash_password(password).await?,
            created_at: self.now(),
        };
        match self.store().write(user_rows(&user).into()).await? {
            Written::Applied => Ok(user),
            Written::Conflict { .. } => Err(DirectoryError::taken("email")),
        }
    }

    /// A user.
    ///
    /// # Errors
    /// What the store answers.
    pub async fn user(
        &self,
        account: AccountId,
        id: UserId,
    ) -> Result<Option<User>, DirectoryError> {
        Ok(load(
            self.store(),
            "user",
            &owned(Table::Users, account, id.get()),
        )
        .await?)
    }

    /// The users of an account, oldest first.
    ///
    /// # Errors
    /// What the store answers.
    pub async fn users(&self, account: AccountId) -> Result<Vec<User>, DirectoryError> {
        Ok(load_all(self.store(), "user", Table::Users, &number(account.get())).await?)
    }

    /// The argon2id hash of a password, made off the runtime's own threads.
    pub(super) async fn hash_password(&self, password: &str) -> Result<String, DirectoryError> {
        let password = password.to_owned();
        self.hashing(move || {
            let hash = Argon2::default()
                .hash_password(password.as_bytes())
                .map_err(|error| failed("hash a password", &error))?;
            Ok(hash.to_string())
        })
        .await
    }

    /// Whether a password is the one of a hash, checked off the runtime's own threads.
    pub(super) async fn verify_password(
        &self,
        password: &str,
        hash: String,
    ) -> Result<bool, DirectoryError> {
        let password = password.to_owned();
        self.hashing(move || {
            let hash =
                PasswordHash::new(&hash).map_err(|error| failed("read a password hash", &error))?;
            Ok(Argon2::default()
                .verify_password(password.as_bytes(), &hash)
                .is_ok())
        })
        .await
    }

    async fn hashing<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, DirectoryError> {
        let _turn = self.inner.logins.turn().await.ok_or(DirectoryError::Busy)?;
        let done = self.inner.tracker.spawn_blocking(work).await;
        Ok(done.map_err(|error| failed("hash a password", &error))??)
    }
}

fn failed(operation: &'static str, error: &dyn std::fmt::Display) -> StoreError {
    StoreError::Io {
        operation,
        reason: error.to_string(),
    }
}
