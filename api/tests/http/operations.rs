//! The operations address: health, metrics, and what the operator may do.

use std::time::Duration;

use axum::body::Body;
use serde_json::{Value, json};

use crate::support::{Answered, Edge, OPERATOR, answered, json as body, request};

async fn ask(edge: &Edge, method: &str, path: &str, token: &str, with: Value) -> Answered {
    let request = request(method, path).header("authorization", format!("Bearer {token}"));
    answered(&edge.operations, request.body(body(&with)).unwrap()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_of_a_node_that_stops_close_their_connections() {
    let edge = Edge::new().await;

    let before = ask(&edge, "GET", "/livez", "", Value::Null).await;
    edge.engine.drain(Duration::ZERO).await;
    let after = ask(&edge, "GET", "/livez", "", Value::Null).await;

    assert_eq!(before.headers.get("connection"), None);
    assert_eq!(after.headers["connection"], "close");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_alive_and_ready_until_it_drains() {
    let edge = Edge::new().await;

    let alive = ask(&edge, "GET", "/livez", "", Value::Null).await;
    let ready = ask(&edge, "GET", "/readyz", "", Value::Null).await;
    let drain = ask(&edge, "POST", "/drain", OPERATOR, Value::Null).await;
    let draining = ask(&edge, "GET", "/readyz", "", Value::Null).await;

    assert_eq!(
        (alive.status.as_u16(), ready.status.as_u16()),
        (200, 200),
        "{}",
        ready.text
    );
    assert_eq!(ready.data()["checks"]["store"]["ok"], true);
    assert_eq!(drain.status, 202);
    assert!(edge.drain.is_cancelled());
    assert_eq!(draining.status, 503);
    assert_eq!(draining.data()["checks"]["draining"]["ok"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_of_instances_are_asked_for_apart_and_bounded() {
    let edge = Edge::new().await;
    edge.post("/messages/send", crate::support::text("Hello"))
        .await;

    let metrics = ask(&edge, "GET", "/metrics", "", Value::Null).await;
    let instances = ask(&edge, "GET", "/metrics/instances?limit=10", "", Value::Null).await;
    let too_many = ask(
        &edge,
        "GET",
        "/metrics/instances?limit=1001",
        "",
        Value::Null,
    )
    .await;

    assert_eq!(
        (metrics.status.as_u16(), instances.status.as_u16()),
        (200, 200)
    );
    let line = "zajil_instance_sent_total{id=";
    assert!(instances.text.contains(line), "{}", instances.text);
    assert_eq!(too_many.status, 422);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_operator_makes_accounts_and_users() {
    let edge = Edge::new().await;
    let new = json!({"name": "second"});

    let nobody = answered(
        &edge.operations,
        request("POST", "/accounts").body(body(&new)).unwrap(),
    );
    let nobody = nobody.await;
    let wrong = ask(&edge, "POST", "/accounts", "wrong", new.clone()).await;
    let made = ask(&edge, "POST", "/accounts", OPERATOR, new).await;
    let user = json!({"email": "a@b.example", "name": "A", "password": "long enough"});
    let unnamed = ask(&edge, "POST", "/users", OPERATOR, user.clone()).await;
    let mut named = user;
    named["account_id"] = json!("second");
    let named = ask(&edge, "POST", "/users", OPERATOR, named).await;
    let dashboard = edge.dashboard("GET", "/auth/me", Value::Null).await;

    assert_eq!((nobody.status.as_u16(), wrong.status.as_u16()), (401, 401));
    assert_eq!(made.status, 201, "{}", made.text);
    assert_eq!(unnamed.faults(), ["account_id"]);
    assert_eq!(named.status, 201, "{}", named.text);
    assert_eq!(named.data()["account_id"], made.data()["id"]);
    assert_eq!(
        dashboard.faults(),
        ["X-Account"],
        "there are two accounts now"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_refused_in_the_envelope() {
    let edge = Edge::new().await;
    let unknown = request("GET", "/nothing").body(Body::empty()).unwrap();

    let unknown = answered(&edge.operations, unknown).await;
    let wrong_method = ask(&edge, "GET", "/drain", OPERATOR, Value::Null).await;

    assert_eq!(
        (unknown.status.as_u16(), unknown.code().as_str()),
        (404, "not_found")
    );
    assert_eq!(wrong_method.headers["allow"], "POST");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_says_what_becomes_of_messages_that_do_not_say_it_themselves() {
    let edge = Edge::new().await;
    let batch = json!({"name": "autumn", "instance": "my-instance", "content": "Hello"});
    let said = async |own: Option<&str>| {
        let mut message = crate::support::text("Hello");
        let mut bulk = json!({"instance": "my-instance", "messages": [message]});
        bulk["messages"][0]["instance"].take();
        let mut batch = batch.clone();
        message["on_ambiguous"] = json!(own);
        bulk["on_ambiguous"] = json!(own);
        batch["on_ambiguous"] = json!(own);
        let single = edge.post("/messages/send", message).await.data();
        let bulk = edge.post("/messages/send-bulk", bulk).await.data();
        let batch = edge.post("/batches", batch).await.data();
        let mut said = vec![batch["on_ambiguous"].clone()];
        for id in [&single["message_id"], &bulk["message_ids"][0]] {
            let found = edge.get(&format!("/messages/{id}")).await.data();
            said.push(found["on_ambiguous"].clone());
        }
        said
    };

    let before = said(None).await;
    let wish = json!({"on_ambiguous": "resend"});
    let changed = ask(&edge, "PATCH", "/accounts", OPERATOR, wish).await;
    let after = said(None).await;
    let own = said(Some("unknown")).await;

    assert_eq!(changed.status, 200, "{}", changed.text);
    assert_eq!(changed.data()["on_ambiguous"], "resend");
    assert_eq!(before, ["unknown"; 3]);
    assert_eq!(after, ["resend"; 3]);
    assert_eq!(own, ["unknown"; 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_account_cannot_be_is_named() {
    let edge = Edge::new().await;
    let wish = json!({"name": "second", "on_ambiguous": "resend"});
    let bad = json!({"name": "third", "on_ambiguous": "perhaps"});

    let made = ask(&edge, "POST", "/accounts", OPERATOR, wish).await;
    let refused = ask(&edge, "POST", "/accounts", OPERATOR, bad.clone()).await;
    let nothing = ask(&edge, "PATCH", "/accounts", OPERATOR, json!({})).await;
    let unknown = json!({"account_id": "nobody", "on_ambiguous": "resend"});
    let unknown = ask(&edge, "PATCH", "/accounts", OPERATOR, unknown).await;
    let foreign = ask(&edge, "PATCH", "/accounts", "wrong", bad).await;

    assert_eq!(made.data()["on_ambiguous"], "resend");
    assert_eq!(refused.faults(), ["on_ambiguous"]);
    assert_eq!(nothing.faults(), ["on_ambiguous"]);
    assert_eq!(unknown.faults(), ["account_id"]);
    assert_eq!(foreign.status, 401);
}
