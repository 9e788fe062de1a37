//! What belongs to one account does not exist for another.

use serde_json::{Value, json};
use zajil_actors::directory::Permission;

use crate::support::{Edge, text};

#[tokio::test(flavor = "multi_thread")]
async fn another_accounts_ids_answer_as_unknown_ones_on_every_route() {
    let edge = Edge::new().await;
    let (_, theirs) = edge.other_account().await;
    let message = edge.post("/messages/send", text("Hello")).await.data()["message_id"].clone();
    let contact = json!({"phone_number": "+966501234567"});
    let contact = edge.post("/contacts", contact).await.data()["id"].clone();
    let template = json!({"name": "t", "content": "Hi"});
    let template = edge.post("/templates", template).await.data()["id"].clone();
    let batch = json!({"name": "b", "instance": "my-instance", "content": "Hi"});
    let batch = edge.post("/batches", batch).await.data()["id"].clone();
    let instance = edge.get("/instances").await.data()[0]["id"].clone();
    edge.post("/suppressions", json!({"phone_number": "+966501234599"}))
        .await;
    let spec: Value = serde_json::from_str(
        &edge
            .raw(
                crate::support::request("GET", "/openapi.json")
                    .body(axum::body::Body::empty())
                    .unwrap(),
            )
            .await
            .text,
    )
    .unwrap();

    let mut asked = 0;
    for (path, item) in spec["paths"].as_object().unwrap() {
        let Some(below) = path.strip_prefix("/integration/v1") else {
            continue;
        };
        if !below.contains('{') {
            continue;
        }
        let id = match below.split('/').nth(1).unwrap() {
            "messages" => &message,
            "contacts" => &contact,
            "templates" => &template,
            "batches" => &batch,
            "instances" => &instance,
            "suppressions" => &json!(966_501_234_599_u64),
            other => panic!("no id for /{other}: {path}"),
        };
        let start = below.find('{').unwrap();
        let end = below.find('}').unwrap();
        let concrete = format!("{}{}{}", &below[..start], id, &below[end + 1..]);
        for method in item.as_object().unwrap().keys() {
            let body = if method == "get" {
                Value::Null
            } else {
                json!({})
            };
            let method = method.to_uppercase();
            let answer = edge.call_with(&method, &concrete, &theirs, body).await;
            assert_eq!(answer.status, 404, "{method} {concrete}: {}", answer.text);
            assert_eq!(answer.code(), "not_found");
            asked += 1;
        }
    }
    assert!(asked >= 20, "{asked}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_accounts_ids_in_a_body_are_field_errors() {
    let edge = Edge::new().await;
    let (_, theirs) = edge.other_account().await;
    let contact = json!({"phone_number": "+966501234567"});
    let contact = edge.post("/contacts", contact).await.data()["id"].clone();
    let template = json!({"name": "t", "content": "Hi"});
    let template = edge.post("/templates", template).await.data()["id"].clone();
    let body = json!({"instance": "my-instance", "contact_id": contact, "template_id": template});

    let answer = edge
        .call_with("POST", "/messages/send", &theirs, body)
        .await;

    assert_eq!(answer.faults(), ["contact_id", "instance", "template_id"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_show_what_is_the_callers_and_nothing_else() {
    let edge = Edge::new().await;
    let (_, theirs) = edge.other_account().await;
    edge.post("/messages/send", text("Hello")).await;

    for path in [
        "/messages",
        "/contacts",
        "/templates",
        "/batches",
        "/suppressions",
    ] {
        let answer = edge.call_with("GET", path, &theirs, Value::Null).await;
        assert_eq!(answer.data()["total"], 0, "{path}: {}", answer.text);
    }
    let instances = edge
        .call_with("GET", "/instances", &theirs, Value::Null)
        .await
        .data();
    assert_eq!(instances[0]["instance_name"], "theirs");
    let stats = edge
        .call_with("GET", "/stats", &theirs, Value::Null)
        .await
        .data();
    assert_eq!(stats["total"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_for_one_instance_sees_and_uses_no_other() {
    let edge = Edge::new().await;
    edge.dashboard("POST", "/instances", json!({"instance_name": "second"}))
        .await;
    let new = json!({
        "name": "narrow", "allowed_instances": ["second"],
        "permissions": Permission::ALL.map(Permission::label),
    });
    let made = edge.dashboard("POST", "/api-keys", new).await.data();
    let key = made["key"].as_str().unwrap();
    let sent = edge.post("/messages/send", text("Hello")).await.data();

    let send = edge
        .call_with("POST", "/messages/send", key, text("Hello"))
        .await;
    let read = format!("/messages/{}", sent["message_id"]);
    let read = edge.call_with("GET", &read, key, Value::Null).await;
    let listed = edge
        .call_with("GET", "/instances", key, Value::Null)
        .await
        .data();
    let pause = edge
        .call_with("POST", "/instances/my-instance/pause", key, Value::Null)
        .await;
    let changes = edge
        .call_with("GET", "/messages/changes", key, Value::Null)
        .await;

    assert_eq!(send.faults(), ["instance"]);
    assert_eq!((read.status.as_u16(), pause.status.as_u16()), (404, 404));
    assert_eq!(listed.as_array().unwrap().len(), 1);
    assert_eq!(changes.status, 403);
}
