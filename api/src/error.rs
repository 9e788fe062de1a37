//! What a client is told when it does not get what it asked for: every status and `error_code`.

use std::borrow::Cow;

use axum::response::{IntoResponse, Response};
use http::header::{HeaderValue, RETRY_AFTER};
use http::{HeaderName, StatusCode};
use serde::Serialize;
use zajil_actors::batch::BatchError;
use zajil_actors::directory::DirectoryError;
use zajil_actors::send::{AcceptError, CancelError, EngineError};
use zajil_storage::StoreError;

use crate::envelope;
use crate::validate::Faults;

/// Seconds after which an overloaded, draining or moving engine may be asked again.
const RETRY_SOON_S: u64 = 1;

/// Seconds after which a full disk may have been seen to.
const RETRY_FULL_S: u64 = 30;

/// Why a request was not carried out.
#[derive(Debug)]
pub(crate) enum ApiError {
    /// Not JSON, or a bad header.
    Malformed(String),
    /// No key, or one that is not good: one answer for all, so that nothing can be guessed.
    InvalidKey,
    /// The same for users of the dashboard.
    InvalidSession,
    /// Email or password is wrong: one answer for both.
    InvalidCredentials,
    /// The key lacks this permission.
    MissingPermission(&'static str),
    /// The key may not be used from the caller's address.
    IpNotAllowed,
    /// The recipient opted out.
    RecipientSuppressed,
    /// Nothing of that id for this account.
    NotFound,
    /// The route has no such method.
    MethodNotAllowed,
    /// The body did not arrive in time.
    TooSlow,
    /// The body is larger than this many bytes.
    TooLarge(usize),
    /// The body is of another type than this.
    UnsupportedMediaType(&'static str),
    /// A request with the same `Idempotency-Key` is being carried out.
    IdempotencyInFlight,
    /// The instance is logged out or banned.
    InstanceUnavailable(String),
    /// An upload left rows out, or another one is under way.
    RowGap {
        /// What is wrong.
        message: Cow<'static, str>,
        /// The row that is expected next.
        expected_row: u64,
    },
    /// What is asked for does not go with the state of things.
    WrongState(Cow<'static, str>),
    /// Fields with faults.
    Invalid(Faults),
    /// The `Idempotency-Key` was used with another body.
    IdempotencyMismatch,
    /// The caller's own limit is reached, for this many seconds.
    RateLimited(u64),
    /// Overloaded, draining or moving: nothing was done.
    Unavailable {
        /// Why, for a person.
        message: Cow<'static, str>,
        /// Seconds after which to ask again.
        retry_after: u64,
    },
    /// It may have been done.
    OutcomeUnknown,
    /// A fault of ours; it was logged where it was found.
    Internal,
}

impl ApiError {
    /// Overloaded or draining: nothing was done, ask again soon.
    pub(crate) fn unavailable(message: impl Into<Cow<'static, str>>) -> Self {
        Self::Unavailable {
            message: message.into(),
            retry_after: RETRY_SOON_S,
        }
    }

    /// One fault of one field.
    pub(crate) fn field(name: &str, complaint: impl Into<crate::validate::Complaint>) -> Self {
        let mut report = crate::validate::Report::default();
        report.fault(name, complaint);
        report.accepted().err().unwrap_or(Self::Internal)
    }

    /// One fault of one field, in a whole sentence.
    pub(crate) fn sentence(name: &str, sentence: String) -> Self {
        Self::Invalid(Faults::from([(name.to_owned(), vec![sentence])]))
    }

    const fn status(&self) -> StatusCode {
        match self {
            Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::InvalidKey | Self::InvalidSession | Self::InvalidCredentials => {
                StatusCode::UNAUTHORIZED
            }
            Self::MissingPermission(_) | Self::IpNotAllowed | Self::RecipientSuppressed => {
                StatusCode::FORBIDDEN
            }
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::IdempotencyInFlight
            | Self::InstanceUnavailable(_)
            | Self::RowGap { .. }
            | Self::WrongState(_) => StatusCode::CONFLICT,
            Self::Invalid(_) | Self::IdempotencyMismatch => StatusCode::UNPROCESSABLE_ENTITY,
            Self::RateLimited(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable { .. } | Self::OutcomeUnknown => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The stable word of it.
    pub(crate) const fn code(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::InvalidKey | Self::InvalidSession => "invalid_key",
            Self::InvalidCredentials => "invalid_credentials",
            Self::MissingPermission(_) => "missing_permission",
            Self::IpNotAllowed => "ip_not_allowed",
            Self::RecipientSuppressed => "recipient_suppressed",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::TooSlow => "request_timeout",
            Self::TooLarge(_) => "too_large",
            Self::UnsupportedMediaType(_) => "unsupported_media_type",
            Self::IdempotencyInFlight => "idempotency_in_flight",
            Self::InstanceUnavailable(_) => "instance_unavailable",
            Self::RowGap { .. } => "row_gap",
            Self::WrongState(_) => "wrong_state",
            Self::Invalid(_) => "validation",
            Self::IdempotencyMismatch => "idempotency_mismatch",
            Self::RateLimited(_) => "rate_limited",
            Self::Unavailable { .. } => "unavailable",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::Internal => "internal",
        }
    }

    fn message(&self) -> Cow<'static, str> {
        match self {
            Self::Malformed(message) | Self::InstanceUnavailable(message) => message.clone().into(),
            Self::InvalidKey => "The API key is missing or not valid.".into(),
            Self::InvalidSession => "The session token is missing or not valid.".into(),
            Self::InvalidCredentials => "The email or the password is wrong.".into(),
            Self::MissingPermission(name) => {
                format!("The API key lacks the permission {name}.").into()
            }
            Self::IpNotAllowed => "The API key may not be used from this address.".into(),
            Self::RecipientSuppressed => "The recipient opted out.".into(),
            Self::NotFound => "Not found.".into(),
            Self::MethodNotAllowed => "This method is not allowed here.".into(),
            Self::TooSlow => "The body did not arrive in time.".into(),
            Self::TooLarge(limit) => format!("The body is larger than {limit} bytes.").into(),
            Self::UnsupportedMediaType(wanted) => {
                format!("The Content-Type must be {wanted}.").into()
            }
            Self::IdempotencyInFlight => {
                "A request with this Idempotency-Key is being carried out.".into()
            }
            Self::RowGap { message, .. } | Self::WrongState(message) => message.clone(),
            Self::Invalid(faults) => summary(faults).into(),
            Self::IdempotencyMismatch => "This Idempotency-Key was used with another body.".into(),
            Self::RateLimited(_) => "Too many requests.".into(),
            Self::Unavailable { message, .. } => {
                format!("Unavailable: {message}; nothing was accepted.").into()
            }
            Self::OutcomeUnknown => {
                "It is not known whether this was done. Repeat it with the same Idempotency-Key."
                    .into()
            }
            Self::Internal => "Something went wrong on our side.".into(),
        }
    }

    const fn retry_after(&self) -> Option<u64> {
        match self {
            Self::RateLimited(seconds)
            | Self::Unavailable {
                retry_after: seconds,
                ..
            } => Some(*seconds),
            Self::OutcomeUnknown | Self::IdempotencyInFlight => Some(RETRY_SOON_S),
            _ => None,
        }
    }
}

/// The first fault and how many more there are, as Laravel sums them up.
fn summary(faults: &Faults) -> String {
    let mut sentences = faults.values().flatten();
    let first = sentences
        .next()
        .map_or("The request is not valid.", String::as_str);
    match sentences.count() {
        0 => first.to_owned(),
        1 => format!("{first} (and 1 more error)"),
        more => format!("{first} (and {more} more errors)"),
    }
}

#[derive(Serialize)]
struct Failure<'e> {
    success: bool,
    message: &'e str,
    error_code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    errors: Option<&'e Faults>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expected_row: Option<u64>,
}

/// The marker that the front counts refusals by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rejection(pub(crate) &'static str);

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = Failure {
            success: false,
            message: &self.message(),
            error_code: self.code(),
            errors: if let Self::Invalid(faults) = &self {
                Some(faults)
            } else {
                None
            },
            expected_row: if let Self::RowGap { expected_row, .. } = &self {
                Some(*expected_row)
            } else {
                None
            },
        };
        let mut response = envelope::json(self.status(), &body);
        if let Some(seconds) = self.retry_after() {
            response
                .headers_mut()
                .insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if matches!(self, Self::InvalidSession) {
            let scheme = HeaderValue::from_static("Bearer");
            response
                .headers_mut()
                .insert(HeaderName::from_static("www-authenticate"), scheme);
        }
        response.extensions_mut().insert(Rejection(self.code()));
        response
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Full => Self::Unavailable {
                message: "the disk is full".into(),
                retry_after: RETRY_FULL_S,
            },
            StoreError::Overloaded => Self::unavailable("too much waits to be written"),
            StoreError::Fenced { .. } | StoreError::NotOpen(_) => {
                Self::unavailable("it is moving to another node")
            }
            StoreError::Closed => Self::unavailable("the engine is stopping"),
            StoreError::Io { .. } | StoreError::Corrupt { .. } | StoreError::Invalid(_) => {
                tracing::error!(%error, "the store failed a request");
                Self::OutcomeUnknown
            }
        }
    }
}

impl From<DirectoryError> for ApiError {
    fn from(error: DirectoryError) -> Self {
        match error {
            DirectoryError::Field { field, message } => Self::sentence(field, message),
            DirectoryError::NotFound(_) => Self::NotFound,
            DirectoryError::Busy => Self::unavailable("too many changes at once"),
            DirectoryError::Store(error) => error.into(),
        }
    }
}

impl From<BatchError> for ApiError {
    fn from(error: BatchError) -> Self {
        match error {
            BatchError::NotFound => Self::NotFound,
            BatchError::Field { field, message } => Self::sentence(field, message),
            BatchError::RowGap { expected } => Self::RowGap {
                message: format!("The next row is {expected}.").into(),
                expected_row: expected,
            },
            BatchError::WrongState(wrong) => {
                Self::WrongState(format!("Wrong state: {wrong}.").into())
            }
            BatchError::Outdated => Self::WrongState(
                "Another request changed the batch meanwhile: look at it, and ask again.".into(),
            ),
            BatchError::TakesNoRows => Self::WrongState("The batch takes no more rows.".into()),
            BatchError::Moved => Self::unavailable("the batch is moving to another node"),
            BatchError::Unavailable(why) => Self::unavailable(why),
            BatchError::Store(error) => error.into(),
        }
    }
}

impl From<EngineError> for ApiError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Unavailable(why) => Self::unavailable(why),
            EngineError::OutcomeUnknown => Self::OutcomeUnknown,
            EngineError::Store(error) => error.into(),
        }
    }
}

impl From<AcceptError> for ApiError {
    fn from(error: AcceptError) -> Self {
        match error {
            AcceptError::InstanceUnavailable(reason) => Self::InstanceUnavailable(format!(
                "The instance is not available: {}.",
                reason.label().replace('_', " ")
            )),
            AcceptError::AccountOverloaded => Self::RateLimited(RETRY_SOON_S),
            AcceptError::Unavailable(why) => Self::unavailable(why),
            AcceptError::Moved | AcceptError::Sealed => {
                Self::unavailable("it is moving to another node")
            }
            AcceptError::Full => StoreError::Full.into(),
            AcceptError::OutcomeUnknown => Self::OutcomeUnknown,
        }
    }
}

impl From<CancelError> for ApiError {
    fn from(error: CancelError) -> Self {
        match error {
            CancelError::NotFound => Self::NotFound,
            CancelError::TooLate(status) => {
                Self::WrongState(format!("The message is {} already.", status.label()).into())
            }
            CancelError::Engine(error) => error.into(),
        }
    }
}
