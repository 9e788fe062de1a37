//! Signing in: sessions, and what failed logins cost.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::{OnceCell, Semaphore, SemaphorePermit};
use zajil_model::id::{AccountId, UserId};
use zajil_model::time::{Mono, Timestamp};
use zajil_storage::{RowKey, RowWrite, StoreError, Table};

use super::accounts::{EMAIL, MAX_PASSWORD, normal_email};
use super::cache::Cache;
use super::requests::{Login, SignedIn};
use super::rows::{encode, load, number, read_number, unique};
use super::{Directory, DirectoryError, LoginError, secret};

/// How long a session lasts: a working day.
const SESSION_LENGTH: Duration = Duration::from_secs(12 * 3_600);

/// Sessions of one user; a further login ends the oldest of them.
const SESSIONS_PER_USER: usize = 100;

/// Passwords that are hashed at once: each takes 30 ms of a core and 19 MiB.
const HASHING: usize = 2;

/// Logins that wait for a turn at hashing: a second of work. More are told to come back.
const HASHING_WAIT: usize = 64;

/// Pairs of email and address whose failures are remembered.
const REMEMBERED_FAILURES: usize = 20_000;

/// Failures that cost nothing: people mistype.
const FREE_FAILURES: u32 = 3;

/// The longest wait that failures cost.
const MAX_WAIT: Duration = Duration::from_secs(900);

/// What is kept about logins.
#[derive(Debug)]
pub(super) struct Logins {
    hashing: Semaphore,
    waiting: Semaphore,
    failures: Cache<(String, IpAddr), Arc<Mutex<Failures>>>,
    /// A hash of no password at all: checked for unknown users, so that they take as long.
    nobody: OnceCell<String>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Failures {
    count: u32,
    heard_again: Mono,
}

#[derive(Debug, Serialize, Deserialize)]
struct SessionRow {
    account: AccountId,
    user: UserId,
    expires_at: Timestamp,
}

impl Logins {
    pub(super) fn new() -> Self {
        Self {
            hashing: Semaphore::new(HASHING),
            waiting: Semaphore::new(HASHING_WAIT),
            failures: Cache::new(REMEMBERED_FAILURES),
            nobody: OnceCell::new(),
        }
    }

    /// A turn at hashing; `None` when too many wait for one.
    pub(super) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        let _waiting = self.waiting.try_acquire().ok()?;
        self.hashing.acquire().await.ok()
    }
}

impl Failures {
    /// Seconds until the next attempt is heard; `None` when it is heard now.
    fn wait(&self, now: Mono) -> Option<u64> {
        let wait = self.heard_again.since(now);
        (!wait.is_zero()).then(|| wait.as_secs() + 1)
    }

    /// Counts an attempt as failed. It is counted before its password is checked, so that many at once
    /// are not heard for the price of one.
    fn count(&mut self, now: Mono) {
        self.count = self.count.saturating_add(1);
        if self.count >= FREE_FAILURES {
            let doubled = 1_u64 << (self.count - FREE_FAILURES).min(16);
            self.heard_again = now + Duration::from_secs(doubled).min(MAX_WAIT);
        }
    }
}

fn session_row(token: &str) -> RowKey {
    RowKey::new(Table::Sessions, secret::hash(token), [])
}

/// The list of the sessions of a user: sort = when it ends and the hash of its token.
fn of_user(user: UserId) -> Vec<u8> {
    let mut partition = b"user".to_vec();
    partition.extend_from_slice(&number(user.get()));
    partition
}

fn listed_row(user: UserId, expires_at: Timestamp, hash: &[u8; 32]) -> RowKey {
    let mut sort = number(expires_at.as_micros().unsigned_abs()).to_vec();
    sort.extend_from_slice(hash);
    RowKey::new(Table::Sessions, of_user(user), sort)
}

impl Directory {
    /// Signs a user in. Failures of one email from one address make the next attempt wait
    /// longer.
    ///
    /// # Errors
    /// `Wrong` for an unknown user and for a wrong password alike.
    pub async fn login(
        &self,
        email: &str,
        password: &str,
        address: IpAddr,
    ) -> Result<Login, LoginError> {
        let email = normal_email(email);
        if email.len() > MAX_PASSWORD || password.len() > MAX_PASSWORD * 4 {
            return Err(LoginError::Wrong);
        }
        let key = (email, address);
        let failures = self.failures_of(&key);
        {
            let now = self.inner.clock.mono();
            let mut failures = failures.lock();
            if let Some(seconds) = failures.wait(now) {
                return Err(LoginError::Wait(seconds));
            }
            failures.count(now);
        }
        let user = self.user_of_email(&key.0).await?;
        let hash = match &user {
            Some(user) => user.password_hash.clone(),
            None => self.nobodys_hash().await?,
        };
        let right = self.verify_password(password, hash).await?;
        let Some(user) = user.filter(|_| right) else {
            return Err(LoginError::Wrong);
        };
        self.inner.logins.failures.forget(&key);
        Ok(self.begin_session(user).await?)
    }

    /// Ends a session; an unknown one is no error.
    ///
    /// # Errors
    /// What the store answers.
    pub async fn logout(&self, token: &str) -> Result<(), DirectoryError> {
        let row = session_row(token);
        if let Some(session) = load::<SessionRow>(self.store(), "session", &row).await? {
            let listed = listed_row(session.user, session.expires_at, &secret::hash(token));
            self.store()
                .write(vec![RowWrite::delete(row), RowWrite::delete(listed)])
                .await?;
        }
        Ok(())
    }

    /// Who a token stands for; `None` when it is unknown, ended or expired.
    ///
    /// # Errors
    /// What the store answers.
    pub async fn session(&self, token: &str) -> Result<Option<SignedIn>, DirectoryError> {
        let session: Option<SessionRow> =
            load(self.store(), "session", &session_row(token)).await?;
        let Some(session) = session.filter(|session| self.now() < session.expires_at) else {
            return Ok(None);
        };
        let user = self.user(session.account, session.user).await?;
        Ok(user.map(|user| SignedIn {
            user: Arc::new(user),
            expires_at: session.expires_at,
        }))
    }

    fn failures_of(&self, key: &(String, IpAddr)) -> Arc<Mutex<Failures>> {
        let remembered = &self.inner.logins.failures;
        remembered.get(key).unwrap_or_else(|| {
            let fresh = Arc::default();
            remembered.put_written(key.clone(), Arc::clone(&fresh));
            fresh
        })
    }

    async fn user_of_email(&self, email: &str) -> Result<Option<super::User>, DirectoryError> {
        let Some(row) = self
            .store()
            .row(&unique(EMAIL, None, email.as_bytes()))
            .await?
        else {
            return Ok(None);
        };
        let ids = (
            read_number(&row.value),
            row.value.get(8..).and_then(read_number),
        );
        let ids = (ids.0.and_then(AccountId::new), ids.1.and_then(UserId::new));
        let (Some(account), Some(user)) = ids else {
            let detail = "not two ids".to_owned();
            return Err(StoreError::Corrupt {
                what: "email",
                detail,
            }
            .into());
        };
        self.user(account, user).await
    }

    async fn nobodys_hash(&self) -> Result<String, DirectoryError> {
        let hash = self.inner.logins.nobody.get_or_try_init(|| async {
            let password = secret::new_token()?;
            self.hash_password(&password).await
        });
        hash.await.cloned()
    }

    async fn begin_session(&self, user: super::User) -> Result<Login, DirectoryError> {
        let token = secret::new_token()?;
        let expires_at = self.now() + SESSION_LENGTH;
        let session = SessionRow {
            account: user.account,
            user: user.id,
            expires_at,
        };
        let mut writes = self.ended_sessions(user.id).await?;
        let row = session_row(&token);
        writes.push(RowWrite::put(row.clone(), encode(&session)));
        let listed = listed_row(user.id, expires_at, &secret::hash(&token));
        writes.push(RowWrite::put(listed, row.partition));
        self.store().write(writes).await?;
        Ok(Login {
            token,
            expires_at,
            user,
        })
    }

    /// Deletes the sessions of a user that expired, and the oldest above the bound.
    async fn ended_sessions(&self, user: UserId) -> Result<Vec<RowWrite>, DirectoryError> {
        let partition = of_user(user);
        let listed = self
            .store()
            .rows(Table::Sessions, &partition, None, SESSIONS_PER_USER, false)
            .await?;
        let now = number(self.now().as_micros().unsigned_abs());
        let mut writes = Vec::new();
        let too_many = (listed.len() + 1).saturating_sub(SESSIONS_PER_USER);
        for (place, row) in listed.into_iter().enumerate() {
            if place < too_many || row.key.sort.as_slice() < now.as_slice() {
                writes.push(RowWrite::delete(RowKey::new(
                    Table::Sessions,
                    row.value,
                    [],
                )));
                writes.push(RowWrite::delete(row.key));
            }
        }
        Ok(writes)
    }
}

impl From<DirectoryError> for LoginError {
    fn from(error: DirectoryError) -> Self {
        match error {
            DirectoryError::Store(error) => Self::Store(error),
            DirectoryError::Busy | DirectoryError::Field { .. } | DirectoryError::NotFound(_) => {
                Self::Wait(1)
            }
        }
    }
}
