//! Contacts, templates, instances, keys, pages: made, found, changed.

use axum::body::Body;
use serde_json::{Value, json};
use zajil_model::id::InstanceId;
use zajil_storage::{RowKey, RowWrite, Table};

use crate::support::{Edge, request, text};

#[tokio::test(flavor = "multi_thread")]
async fn ping_and_me_tell_who_is_calling() {
    let edge = Edge::new().await;

    let ping = edge.get("/ping").await.json();
    let me = edge.get("/me").await.data();

    assert_eq!(ping["message"], "pong");
    assert!(ping["timestamp"].is_string());
    assert_eq!(me["user"]["email"], edge.email);
    assert_eq!(me["api_key"]["permissions"].as_array().unwrap().len(), 5);
    assert_eq!(me["api_key"]["rate_limit"]["remaining"], 998);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_contact_is_added_once_changed_found_and_deleted() {
    let edge = Edge::new().await;
    let john = json!({"phone_number": "+966501234567", "name": "John Doe", "group_id": 5});

    let made = edge.post("/contacts", john.clone()).await;
    let twice = edge.post("/contacts", john).await;
    let path = format!("/contacts/{}", made.data()["id"]);
    let changed = edge
        .call("PUT", &path, json!({"name": "Jane", "group_id": null}))
        .await;
    let found = edge.get("/contacts?search=jane").await.data();
    let by_contact = json!({
        "instance": "my-instance", "contact_id": made.data()["id"], "content": "Hello",
    });
    let sent = edge.post("/messages/send", by_contact).await;
    let gone = edge.call("DELETE", &path, Value::Null).await;

    assert_eq!(made.status, 201, "{}", made.text);
    assert_eq!(twice.faults(), ["phone_number"]);
    assert_eq!(changed.data()["name"], "Jane");
    assert_eq!(changed.data()["phone_number"], "+966501234567");
    assert!(changed.data()["group_id"].is_null());
    assert_eq!(found["total"], 1);
    assert_eq!(sent.data()["recipient"], "+966501234567");
    assert_eq!(
        (gone.status.as_u16(), edge.get(&path).await.status.as_u16()),
        (200, 404)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_messages_are_newest_first_and_go_on_by_number_and_by_cursor() {
    let edge = Edge::new().await;
    for n in 0..5 {
        edge.post("/messages/send", text(&format!("message {n}")))
            .await;
    }

    let first = edge.get("/messages?per_page=2").await.data();
    let second = edge.get("/messages?per_page=2&page=2").await.data();
    let cursor = first["next_cursor"].as_str().unwrap();
    let by_cursor = edge
        .get(&format!("/messages?per_page=2&cursor={cursor}"))
        .await
        .data();

    assert_eq!(first["data"][0]["content"], "message 4");
    assert_eq!(
        (&first["total"], &first["last_page"]),
        (&json!(5), &json!(3))
    );
    assert_eq!(second["data"], by_cursor["data"]);
    assert_eq!(second["data"][0]["content"], "message 2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_by_recipient_counts_what_it_finds() {
    let edge = Edge::new().await;
    edge.post("/messages/send", text("one")).await;
    let mut other = text("two");
    other["recipient"] = json!("+966501234568");
    edge.post("/messages/send", other).await;

    let found = edge.get("/messages?recipient=%2B966501234568").await;

    assert_eq!(found.status, 200, "{}", found.text);
    assert_eq!(found.data()["total"], 1);
    assert_eq!(found.data()["data"][0]["content"], "two");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_is_shown_paused_and_paced() {
    let edge = Edge::new().await;

    let paused = edge.post("/instances/my-instance/pause", Value::Null).await;
    let sent = edge.post("/messages/send", text("Waits")).await.data();
    let waits = edge
        .get(&format!("/messages/{}", sent["message_id"]))
        .await
        .data();
    let pacing = json!({"rate": {"count": 30, "per": "minute"}, "burst": 2, "jitter": 0.1});
    let paced = edge
        .dashboard("PUT", "/instances/my-instance/pacing", pacing)
        .await;
    let bad = json!({"rate": {"count": -1, "per": "year"}, "jitter": 2, "time_zone": "Mars"});
    let bad = edge
        .dashboard("PUT", "/instances/my-instance/pacing", bad)
        .await;

    assert_eq!(paused.status, 200, "{}", paused.text);
    assert_eq!(paused.data()["paused"], true);
    assert_eq!(waits["waiting_for"], "paused", "{waits}");
    assert_eq!(paced.status, 200, "{}", paced.text);
    assert_eq!(
        paced.data()["rate"],
        json!({"count": 30.0, "per": "minute"})
    );
    assert_eq!(bad.faults(), ["jitter", "rate.per", "time_zone"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_signs_in_makes_a_key_once_seen_and_revokes_it() {
    let edge = Edge::new().await;
    let login = |password: &str| {
        let body = json!({"email": edge.email, "password": password}).to_string();
        request("POST", "/api/v1/dashboard/auth/login")
            .body(Body::from(body))
            .unwrap()
    };

    let wrong = edge.raw(login("not it")).await;
    let right = edge.raw(login(&edge.password)).await;
    let token = format!("Bearer {}", right.data()["token"].as_str().unwrap());
    let ask = |method: &str, path: &str, body: Value| {
        let path = format!("/api/v1/dashboard{path}");
        let body = if body.is_null() {
            Body::empty()
        } else {
            Body::from(body.to_string())
        };
        request(method, &path)
            .header("authorization", &token)
            .body(body)
            .unwrap()
    };
    let new = json!({"name": "shop", "permissions": ["send_message", "fly"], "allowed_ips": ["x"]});
    let bad = edge.raw(ask("POST", "/api-keys", new)).await;
    let new = json!({"name": "shop", "permissions": ["read_messages"]});
    let made = edge.raw(ask("POST", "/api-keys", new)).await;
    let key = made.data()["key"].as_str().unwrap().to_owned();
    let works = edge.call_with("GET", "/messages", &key, Value::Null).await;
    let listed = edge.raw(ask("GET", "/api-keys", Value::Null)).await;
    let path = format!("/api-keys/{}", made.data()["id"]);
    edge.raw(ask("DELETE", &path, Value::Null)).await;
    let revoked = edge.call_with("GET", "/messages", &key, Value::Null).await;
    let audit = edge.raw(ask("GET", "/audit", Value::Null)).await.text;
    edge.raw(ask("POST", "/auth/logout", Value::Null)).await;
    let signed_out = edge.raw(ask("GET", "/auth/me", Value::Null)).await;

    assert_eq!(
        (wrong.status.as_u16(), right.status.as_u16()),
        (401, 200),
        "{}",
        right.text
    );
    assert_eq!(bad.faults(), ["allowed_ips.0", "permissions.1"]);
    assert_eq!(
        (made.status.as_u16(), works.status.as_u16()),
        (201, 200),
        "{}",
        made.text
    );
    assert!(key.starts_with("sk_live_") && !listed.text.contains(&key));
    assert_eq!(
        (revoked.status.as_u16(), signed_out.status.as_u16()),
        (401, 401)
    );
    assert!(
        audit.contains("key.created") && audit.contains("key.revoked"),
        "{audit}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_is_made_renamed_and_deleted_by_the_dashboard() {
    let edge = Edge::new().await;

    let made = edge
        .dashboard("POST", "/instances", json!({"instance_name": "second"}))
        .await;
    let digits = edge
        .dashboard("POST", "/instances", json!({"instance_name": "123"}))
        .await;
    let path = format!("/instances/{}", made.data()["id"]);
    let renamed = edge
        .dashboard("PATCH", &path, json!({"instance_name": "third"}))
        .await;
    let listed = edge.get("/instances").await.data();
    let deleted = edge.dashboard("DELETE", &path, Value::Null).await;

    assert_eq!(made.status, 201, "{}", made.text);
    assert_eq!(digits.faults(), ["instance_name"]);
    assert_eq!(renamed.data()["instance_name"], "third");
    assert_eq!(listed.as_array().unwrap().len(), 2);
    assert_eq!(deleted.status, 200, "{}", deleted.text);
    assert_eq!(edge.get("/instances/third").await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_are_exact_over_whole_days() {
    let edge = Edge::new().await;
    edge.post("/instances/my-instance/pause", Value::Null).await;
    for _ in 0..3 {
        edge.post("/messages/send", text("Hello")).await;
    }

    let all = edge.get("/stats").await.data();
    let earlier = edge
        .get("/stats?to=2027-01-01&instance=my-instance")
        .await
        .data();

    assert_eq!(
        (&all["total"], &all["by_status"]["pending"]),
        (&json!(3), &json!(3))
    );
    assert_eq!(all["instances"][0]["instance"]["name"], "my-instance");
    assert_eq!(earlier["total"], 0);
    assert_eq!(edge.get("/stats?from=yesterday").await.faults(), ["from"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_told_in_order_and_go_on_from_their_cursor() {
    let edge = Edge::new().await;
    let mut body = text("Later");
    body["send_at"] = json!("2027-01-20T00:00:00Z");
    let id = edge.post("/messages/send", body).await.data()["message_id"].clone();
    edge.post(&format!("/messages/{id}/cancel"), Value::Null)
        .await;

    let changes = edge.get("/messages/changes").await.data();
    let cursor = changes["next_cursor"].as_str().unwrap();
    let rest = edge
        .get(&format!("/messages/changes?after={cursor}"))
        .await
        .data();

    let last = changes["changes"]
        .as_array()
        .unwrap()
        .last()
        .unwrap()
        .clone();
    assert_eq!(
        (&last["message_id"], &last["status"]),
        (&id, &json!("cancelled"))
    );
    assert_eq!(rest["changes"], json!([]));
    assert_eq!(rest["next_cursor"], changes["next_cursor"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_barrier_that_was_not_confirmed_names_who_is_missing() {
    let edge = Edge::new().await;
    // Its actor cannot start over what is kept of it, so that nobody is there to confirm.
    let instance = edge.get("/instances/my-instance").await.data();
    let id = InstanceId::new(instance["id"].as_u64().unwrap()).unwrap();
    let kept = RowKey::new(Table::Checkpoints, id.get().to_be_bytes(), []);
    let damage = RowWrite::put(kept, b"not what was written".to_vec());
    edge.engine.store().write(vec![damage]).await.unwrap();

    let path = "/instances/my-instance";
    let deleted = edge.dashboard("DELETE", path, Value::Null).await;

    assert_eq!(deleted.status, 202, "{}", deleted.text);
    assert_eq!(deleted.data()["missing"], json!(["my-instance"]));
}
