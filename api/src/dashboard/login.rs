//! Signs people in and out.

use axum::extract::{Request, State};
use serde::Serialize;
use utoipa::ToSchema;
use zajil_actors::directory::LoginError;

use crate::auth::{AnyKey, May, Who};
use crate::body::MAX_BODY;
use crate::envelope::{self, Answer};
use crate::error::ApiError;
use crate::integration::me::Person;
use crate::request::Post;
use crate::schema::{self, Data};
use crate::stamp::Stamp;
use crate::state::ApiState;
use crate::validate::field;

/// Scalars of an email or a password: hashing more is work for nothing.
const MAX_CREDENTIAL: usize = 255;

/// A session that began.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Session {
    /// Goes into `Authorization: Bearer`.
    token: String,
    #[schema(value_type = String)]
    expires_at: Stamp,
    user: Person,
}

/// Signs a person in. Failures make the next attempt wait longer.
#[utoipa::path(
    post, path = "/auth/login", operation_id = "login", tag = "Session",
    request_body = schema::Credentials, security(()),
    responses((status = 200, body = Data<Session>, description = "The session."))
)]
pub(crate) async fn login(State(api): State<ApiState>, request: Request) -> Answer {
    let address = api.address(request.extensions(), request.headers());
    let post = Post::json(&api, request, MAX_BODY).await?;
    let (credentials, report) = post.read(|form| {
        let email = form.required("email", field::text(1, MAX_CREDENTIAL));
        email.zip(form.required("password", field::text(1, MAX_CREDENTIAL)))
    })?;
    let warnings = report.accepted()?;
    let (email, password) = credentials.ok_or(ApiError::Internal)?;
    let login = match api
        .engine
        .directory()
        .login(&email, &password, address)
        .await
    {
        Ok(login) => login,
        Err(LoginError::Wrong) => {
            return Err(api
                .bad_attempts
                .count(address, ApiError::InvalidCredentials));
        }
        Err(LoginError::Wait(seconds)) => return Err(ApiError::RateLimited(seconds)),
        Err(LoginError::Store(error)) => return Err(error.into()),
    };
    envelope::data(Session {
        token: login.token,
        expires_at: Stamp(login.expires_at),
        user: Person::new(&login.user),
    })
    .message("Signed in")
    .warnings(warnings)
    .answer()
}

/// Ends the session.
#[utoipa::path(
    post, path = "/auth/logout", operation_id = "logout", tag = "Session",
    responses((status = 200, body = schema::Done, description = "The token is void."))
)]
pub(crate) async fn logout(State(api): State<ApiState>, may: May<AnyKey>) -> Answer {
    if let Who::User(_, token) = &may.who {
        api.engine.directory().logout(token).await?;
        may.audit(&api, "user.logout", "session", None).await;
    }
    envelope::done("Signed out").answer()
}

/// Who is signed in.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SignedIn {
    /// Absent for the operator.
    user: Option<Person>,
    account_id: u64,
    #[schema(value_type = Option<String>)]
    expires_at: Option<Stamp>,
}

/// Shows who is signed in.
#[utoipa::path(
    get, path = "/auth/me", operation_id = "get_signed_in", tag = "Session",
    responses((status = 200, body = Data<SignedIn>, description = "Who is signed in."))
)]
pub(crate) async fn signed_in(may: May<AnyKey>) -> Answer {
    let (user, expires_at) = match &may.who {
        Who::User(signed_in, _) => (
            Some(Person::new(&signed_in.user)),
            Some(Stamp(signed_in.expires_at)),
        ),
        Who::Key(..) | Who::Operator => (None, None),
    };
    envelope::data(SignedIn {
        user,
        account_id: may.account.get(),
        expires_at,
    })
    .answer()
}
