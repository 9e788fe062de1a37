//! Every refusal is in the envelope, with its status and code.

use axum::body::Body;
use serde_json::{Value, json};
use zajil_actors::directory::Permission;
use zajil_api::ApiConfig;

use crate::support::{Edge, request, text};

const SEND: &str = "/integration/v1/messages/send";

#[tokio::test(flavor = "multi_thread")]
async fn every_error_path_is_in_the_envelope_and_names_its_request() {
    let edge = Edge::new().await;
    let with_key = |method: &str, path: &str| request(method, path).header("x-api-key", &edge.key);
    let unkeyed = || Body::from(text("Hello").to_string());
    let cases = [
        (
            request("GET", "/nothing").body(Body::empty()).unwrap(),
            404,
            "not_found",
        ),
        (
            request("GET", "/integration/v1/nothing")
                .body(Body::empty())
                .unwrap(),
            404,
            "not_found",
        ),
        (
            request("POST", SEND).body(unkeyed()).unwrap(),
            401,
            "invalid_key",
        ),
        (
            with_key("DELETE", SEND).body(Body::empty()).unwrap(),
            405,
            "method_not_allowed",
        ),
        (
            with_key("POST", SEND).body(Body::from("{")).unwrap(),
            400,
            "malformed",
        ),
        (
            with_key("POST", SEND).body(Body::from("")).unwrap(),
            400,
            "malformed",
        ),
        (
            with_key("POST", SEND).body(Body::from("[]")).unwrap(),
            422,
            "validation",
        ),
        (
            with_key("POST", SEND)
                .body(Body::from("x".repeat(2 << 20)))
                .unwrap(),
            413,
            "too_large",
        ),
        (
            with_key("POST", SEND)
                .header("idempotency-key", "a b")
                .body(unkeyed())
                .unwrap(),
            400,
            "malformed",
        ),
        (
            with_key("GET", "/integration/v1/messages?sort=up")
                .body(Body::empty())
                .unwrap(),
            422,
            "validation",
        ),
        (
            with_key("GET", "/integration/v1/messages/12")
                .body(Body::empty())
                .unwrap(),
            404,
            "not_found",
        ),
        (
            with_key("GET", "/integration/v1/messages/%FF")
                .body(Body::empty())
                .unwrap(),
            404,
            "not_found",
        ),
        (
            with_key("GET", "/integration/v1/messages/twelve")
                .body(Body::empty())
                .unwrap(),
            404,
            "not_found",
        ),
    ];

    for (request, status, code) in cases {
        let asked = format!("{} {}", request.method(), request.uri());
        let answer = edge.raw(request).await;
        assert_eq!(answer.status.as_u16(), status, "{asked}: {}", answer.text);
        assert_eq!(answer.code(), code, "{asked}");
        assert!(answer.headers.contains_key("x-request-id"), "{asked}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_method_is_told_the_right_ones_and_a_wrong_type_the_right_one() {
    let edge = Edge::new().await;
    let wrong_method = request("DELETE", SEND).header("x-api-key", &edge.key);
    let wrong_type = http::Request::post(SEND)
        .header("x-api-key", &edge.key)
        .header("content-type", "text/plain")
        .body(Body::from("Hello"));

    let method = edge.raw(wrong_method.body(Body::empty()).unwrap()).await;
    let kind = edge.raw(wrong_type.unwrap()).await;

    assert_eq!(method.headers["allow"], "POST");
    assert_eq!(
        (kind.status.as_u16(), kind.code().as_str()),
        (415, "unsupported_media_type")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_are_not_good_all_get_the_same_body() {
    let edge = Edge::new().await;
    let unknown = edge
        .call_with("GET", "/ping", "sk_live_nothing", Value::Null)
        .await;
    let empty = edge.call_with("GET", "/ping", "", Value::Null).await;
    let missing = request("GET", "/integration/v1/ping")
        .body(Body::empty())
        .unwrap();
    let missing = edge.raw(missing).await;

    assert_eq!(unknown.status, 401);
    assert_eq!(unknown.text, empty.text);
    assert_eq!(unknown.text, missing.text);
    assert!(!unknown.headers.contains_key("x-ratelimit-limit"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_permission_that_is_missing_is_named_and_the_window_is_told() {
    let edge = Edge::new().await;
    let key = edge
        .new_key(edge.account, &[Permission::ReadMessages])
        .await;

    let answer = edge
        .call_with("POST", "/messages/send", &key, text("Hello"))
        .await;

    assert_eq!(
        (answer.status.as_u16(), answer.code().as_str()),
        (403, "missing_permission")
    );
    assert!(
        answer.json()["message"]
            .as_str()
            .unwrap()
            .contains("send_message")
    );
    assert_eq!(answer.headers["x-ratelimit-limit"], "1000000");
    assert_eq!(answer.headers["x-ratelimit-remaining"], "999999");
    assert!(answer.headers.contains_key("x-ratelimit-reset"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_whose_window_is_used_up_is_told_when_to_come_again() {
    let edge = Edge::new().await;
    let body = json!({"name": "small", "permissions": ["read_messages"], "rate_limit": 1});
    let key = edge.dashboard("POST", "/api-keys", body).await.data()["key"].clone();
    let key = key.as_str().unwrap();

    let first = edge.call_with("GET", "/ping", key, Value::Null).await;
    let second = edge.call_with("GET", "/ping", key, Value::Null).await;

    assert_eq!((first.status.as_u16(), second.status.as_u16()), (200, 429));
    assert_eq!(second.code(), "rate_limited");
    assert_eq!(second.headers["x-ratelimit-remaining"], "0");
    let wait: u64 = second.headers["retry-after"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!((1..=3_601).contains(&wait), "{wait}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_used_elsewhere_is_told_its_window_and_does_not_use_it_up() {
    let edge = Edge::new().await;
    let body = json!({
        "name": "office", "permissions": ["read_messages"], "rate_limit": 7,
        "allowed_ips": ["192.0.2.0/24"],
    });
    let key = edge.dashboard("POST", "/api-keys", body).await.data()["key"].clone();
    let key = key.as_str().unwrap();

    edge.call_with("GET", "/ping", key, Value::Null).await;
    let answer = edge.call_with("GET", "/ping", key, Value::Null).await;

    assert_eq!(
        (answer.status.as_u16(), answer.code().as_str()),
        (403, "ip_not_allowed")
    );
    assert_eq!(answer.headers["x-ratelimit-limit"], "7");
    assert_eq!(answer.headers["x-ratelimit-remaining"], "7");
    assert!(answer.headers.contains_key("x-ratelimit-reset"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_safe_request_id_is_kept_and_another_is_replaced() {
    let edge = Edge::new().await;
    let ask = |id: &str| {
        request("GET", "/integration/v1/ping")
            .header("x-request-id", id)
            .body(Body::empty())
    };

    let kept = edge.raw(ask("order-7").unwrap()).await;
    let replaced = edge.raw(ask("a b\tc").unwrap()).await;

    assert_eq!(kept.headers["x-request-id"], "order-7");
    assert_eq!(replaced.headers["x-request-id"].len(), 16);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_beyond_the_bound_is_told_to_come_again() {
    let edge = Edge::with(ApiConfig {
        max_in_flight: 0,
        ..ApiConfig::default()
    })
    .await;

    let answer = edge.get("/ping").await;

    assert_eq!(
        (answer.status.as_u16(), answer.code().as_str()),
        (503, "unavailable")
    );
    assert!(answer.headers.contains_key("retry-after"));
}
