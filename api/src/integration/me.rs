//! Who is calling, and whether anybody is there.

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use zajil_actors::directory::{ApiKey, Permission, User};
use zajil_actors::key_bucket::Quota;

use crate::auth::{AnyKey, May, Who};
use crate::envelope::{self, Answer};
use crate::error::ApiError;
use crate::schema::Data;
use crate::stamp::Stamp;
use crate::state::ApiState;

/// The answer to a ping.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Pong {
    success: bool,
    /// `pong`.
    message: &'static str,
    #[schema(value_type = String)]
    timestamp: Stamp,
}

/// Answers, if the key is good.
#[utoipa::path(
    get, path = "/ping", operation_id = "ping", tag = "General",
    responses((status = 200, body = Pong, description = "The key is good."))
)]
pub(crate) async fn ping(State(api): State<ApiState>, _may: May<AnyKey>) -> Answer {
    let pong = Pong {
        success: true,
        message: "pong",
        timestamp: Stamp(api.now()),
    };
    Ok(envelope::json(http::StatusCode::OK, &pong))
}

/// A person.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Person {
    id: u64,
    name: String,
    email: String,
}

impl Person {
    /// A user.
    pub(crate) fn new(user: &User) -> Self {
        Self {
            id: user.id.get(),
            name: user.name.clone(),
            email: user.email.clone(),
        }
    }
}

/// Who is calling.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Me {
    user: Option<Person>,
    api_key: MyKey,
}

/// The key that calls.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MyKey {
    id: u64,
    name: String,
    permissions: Vec<&'static str>,
    rate_limit: MyLimit,
}

/// How much of its window is left.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MyLimit {
    limit: u64,
    remaining: u64,
    /// Unix seconds.
    reset: i64,
}

impl MyKey {
    fn new(key: &ApiKey, quota: &Quota) -> Self {
        Self {
            id: key.id.get(),
            name: key.name.clone(),
            permissions: key
                .permissions
                .iter()
                .copied()
                .map(Permission::label)
                .collect(),
            rate_limit: MyLimit {
                limit: quota.limit,
                remaining: quota.remaining,
                reset: quota.reset.as_seconds(),
            },
        }
    }
}

/// Shows who is calling, and what is left of the key's window.
#[utoipa::path(
    get, path = "/me", operation_id = "get_me", tag = "General",
    responses((status = 200, body = Data<Me>, description = "Who is calling."))
)]
pub(crate) async fn me(State(api): State<ApiState>, may: May<AnyKey>) -> Answer {
    let Who::Key(key, quota) = &may.who else {
        return Err(ApiError::InvalidKey);
    };
    let directory = api.engine.directory();
    let user = match key.user {
        Some(id) => directory.user(key.account, id).await?,
        // A key that no person made speaks for the first user of its account.
        None => directory.users(key.account).await?.into_iter().next(),
    };
    let user = user.as_ref().map(Person::new);
    envelope::data(Me {
        user,
        api_key: MyKey::new(key, quota),
    })
    .answer()
}
