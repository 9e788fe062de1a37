//! The form of every answer: `{"success": true, "message"?, "data"?, "warnings"?}`.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use serde::Serialize;

use crate::error::ApiError;

/// What handlers answer.
pub(crate) type Answer = Result<Response, ApiError>;

/// A good answer in the making.
#[derive(Debug, Serialize)]
pub(crate) struct Success<'a, T> {
    success: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<T>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
    #[serde(skip)]
    status: StatusCode,
}

/// A 200 with data.
pub(crate) const fn data<T: Serialize>(data: T) -> Success<'static, T> {
    Success {
        success: true,
        message: None,
        data: Some(data),
        warnings: Vec::new(),
        status: StatusCode::OK,
    }
}

/// A 200 with a sentence and no data.
pub(crate) const fn done(message: &str) -> Success<'_, ()> {
    Success {
        success: true,
        message: Some(message),
        data: None,
        warnings: Vec::new(),
        status: StatusCode::OK,
    }
}

impl<'a, T: Serialize> Success<'a, T> {
    /// The same with another status.
    pub(crate) fn status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// The same with a sentence.
    pub(crate) fn message(mut self, message: &'a str) -> Self {
        self.message = Some(message);
        self
    }

    /// The same with what was accepted and has no effect.
    pub(crate) fn warnings(mut self, warnings: Vec<String>) -> Self {
        self.warnings = warnings;
        self
    }

    /// The answer.
    pub(crate) fn answer(self) -> Answer {
        Ok(self.into_response())
    }
}

impl<T: Serialize> IntoResponse for Success<'_, T> {
    fn into_response(self) -> Response {
        json(self.status, &self)
    }
}

/// The bytes of a good answer with data.
pub(crate) fn written<T: Serialize>(
    message: Option<&str>,
    data: &T,
    warnings: Vec<String>,
) -> Vec<u8> {
    let status = StatusCode::OK;
    let success = Success {
        success: true,
        message,
        data: Some(data),
        warnings,
        status,
    };
    // Only a map whose keys are no texts can fail, and no answer has one.
    serde_json::to_vec(&success).unwrap_or_default()
}

/// A JSON answer.
pub(crate) fn json(status: StatusCode, body: &impl Serialize) -> Response {
    match serde_json::to_vec(body) {
        Ok(bytes) => raw_json(status, bytes),
        Err(error) => {
            tracing::error!(%error, "cannot write an answer");
            let bytes = br#"{"success":false,"message":"Something went wrong on our side.","error_code":"internal"}"#;
            raw_json(StatusCode::INTERNAL_SERVER_ERROR, bytes.to_vec())
        }
    }
}

/// A JSON answer from its bytes.
pub(crate) fn raw_json(status: StatusCode, bytes: impl Into<Body>) -> Response {
    let mut response = Response::new(bytes.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// A stream of bytes that is saved as a file.
pub(crate) fn download(content_type: &'static str, file_name: &str, body: Body) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Ok(disposition) = HeaderValue::from_str(&format!("attachment; filename=\"{file_name}\""))
    {
        headers.insert(http::header::CONTENT_DISPOSITION, disposition);
    }
    response
}
