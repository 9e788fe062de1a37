//! Reads bodies: bounded in size, in time and in type. A slow client cannot hold the server.

use std::ops::Deref;
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout_at};

use crate::error::ApiError;
use crate::limit::{BodyBudget, Held};

/// Bytes of an ordinary body: room for the largest message many times over.
pub(crate) const MAX_BODY: usize = 1 << 20;

/// Bytes of a bulk: 100 messages of 4,096 scalars, each escaped, and the rest.
pub(crate) const MAX_BULK: usize = 8 << 20;

/// Bytes of one upload; larger files come in several.
pub(crate) const MAX_UPLOAD: usize = 64 << 20;

/// A body may pause this long and still be read.
const PATIENCE: Duration = Duration::from_secs(10);

/// Bytes a second below which a body that is read whole is cut off once the patience is used up.
/// The largest one then takes 42 s, which the time of a request has to exceed.
const WHOLE_RATE: u64 = 256 * 1_024;

/// The same for uploads, which are stored while they come: a phone on a bad line is faster.
pub(crate) const UPLOAD_RATE: u64 = 16 * 1_024;

/// Reserved for a body that does not say its length.
const FIRST_PIECE: usize = 4 * 1_024;

/// Reads a JSON body whole.
pub(crate) async fn json(
    headers: &HeaderMap,
    body: Body,
    limit: usize,
    budget: &BodyBudget,
) -> Result<Received, ApiError> {
    let content_type = media_type(headers);
    if !content_type.is_some_and(is_json) {
        return Err(ApiError::UnsupportedMediaType("application/json"));
    }
    whole(headers, body, limit, budget).await
}

/// Reads a body whole, of any type.
pub(crate) async fn whole(
    headers: &HeaderMap,
    body: Body,
    limit: usize,
    budget: &BodyBudget,
) -> Result<Received, ApiError> {
    let mut pieces = Pieces::new(headers, body, limit, WHOLE_RATE)?;
    let mut held = Held::default();
    let Some(first) = pieces.next().await? else {
        return Ok(Received::default());
    };
    let Some(second) = pieces.next().await? else {
        return Ok(Received {
            bytes: first,
            _held: held,
        });
    };
    // What a client announces is not reserved before it comes: memory follows the bytes.
    let mut all = BytesMut::with_capacity((first.len() + second.len()).max(FIRST_PIECE) * 2);
    all.extend_from_slice(&first);
    all.extend_from_slice(&second);
    while let Some(piece) = pieces.next().await? {
        budget.cover(&mut held, all.len() + piece.len())?;
        all.extend_from_slice(&piece);
    }
    Ok(Received {
        bytes: all.freeze(),
        _held: held,
    })
}

/// A body in memory, and its share of the memory for bodies.
#[derive(Debug, Default)]
pub(crate) struct Received {
    bytes: Bytes,
    /// Held for as long as the bytes are.
    _held: Held,
}

impl Deref for Received {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// A body that is read piece by piece.
#[derive(Debug)]
pub(crate) struct Pieces {
    body: Body,
    limit: usize,
    rate: u64,
    read: usize,
    began: Instant,
}

impl Pieces {
    /// Begins; refused at once when the client announces more than the limit. The body has to
    /// come at `rate` bytes a second.
    pub(crate) fn new(
        headers: &HeaderMap,
        body: Body,
        limit: usize,
        rate: u64,
    ) -> Result<Self, ApiError> {
        let announced = headers
            .get(CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok())
            .and_then(|length| length.parse::<u64>().ok());
        if announced.is_some_and(|length| length > limit as u64) {
            return Err(ApiError::TooLarge(limit));
        }
        let began = Instant::now();
        Ok(Self {
            body,
            limit,
            rate,
            read: 0,
            began,
        })
    }

    /// The next piece; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, ApiError> {
        loop {
            let earned = Duration::from_millis(self.read as u64 * 1_000 / self.rate);
            let deadline = self.began + PATIENCE + earned;
            let frame = match timeout_at(deadline, self.body.frame()).await {
                Err(_) => return Err(ApiError::TooSlow),
                Ok(None) => return Ok(None),
                Ok(Some(Err(error))) => return Err(broken(&error)),
                Ok(Some(Ok(frame))) => frame,
            };
            let Ok(piece) = frame.into_data() else {
                continue;
            };
            self.read += piece.len();
            if self.read > self.limit {
                return Err(ApiError::TooLarge(self.limit));
            }
            return Ok(Some(piece));
        }
    }

    /// The time that the server itself used is not held against the client.
    pub(crate) fn excuse(&mut self, busy: Duration) {
        self.began += busy;
    }
}

fn broken(error: &axum::Error) -> ApiError {
    ApiError::Malformed(format!("The body broke off: {error}."))
}

/// The media type that a client names, without its parameters.
pub(crate) fn media_type(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    Some(value.split(';').next().unwrap_or(value).trim())
}

fn is_json(media_type: &str) -> bool {
    media_type.eq_ignore_ascii_case("application/json")
        || (media_type.len() > 17
            && media_type.is_char_boundary(12)
            && media_type[..12].eq_ignore_ascii_case("application/")
            && media_type.ends_with("+json"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn headers(content_type: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(content_type))])
    }

    fn budget() -> BodyBudget {
        BodyBudget::new(1 << 20)
    }

    #[tokio::test]
    async fn json_is_taken_with_parameters_and_nothing_else_is() {
        let good = headers("application/json; charset=utf-8");
        let bad = headers("text/plain");

        assert!(json(&good, Body::from("{}"), 10, &budget()).await.is_ok());
        let refused = json(&bad, Body::from("{}"), 10, &budget()).await;
        assert!(matches!(refused, Err(ApiError::UnsupportedMediaType(_))));
        let none = json(&HeaderMap::new(), Body::from("{}"), 10, &budget()).await;
        assert!(matches!(none, Err(ApiError::UnsupportedMediaType(_))));
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_refused_whether_it_says_so_or_not() {
        let mut announced = headers("application/json");
        announced.insert(CONTENT_LENGTH, HeaderValue::from_static("11"));

        let by_header = json(&announced, Body::empty(), 10, &budget()).await;
        let by_bytes = json(
            &headers("application/json"),
            Body::from("0123456789a"),
            10,
            &budget(),
        )
        .await;

        assert!(matches!(by_header, Err(ApiError::TooLarge(10))));
        assert!(matches!(by_bytes, Err(ApiError::TooLarge(10))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_never_comes_is_given_up() {
        let silent =
            Body::from_stream(futures_util::stream::pending::<Result<Bytes, axum::Error>>());

        let refused = json(&headers("application/json"), silent, 10, &budget()).await;

        assert!(matches!(refused, Err(ApiError::TooSlow)));
    }
}
