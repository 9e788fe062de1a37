//! Sends: the answers of the guide, faults all at once, one accept for a repeated key.

use axum::body::Body;
use serde_json::{Value, json};

use crate::support::{Answered, Edge, request, text};

#[tokio::test(flavor = "multi_thread")]
async fn a_text_is_answered_as_the_guide_says() {
    let edge = Edge::new().await;

    let answer = edge
        .post("/messages/send", text("Hello from our API!"))
        .await;
    let data = answer.data();

    assert_eq!(answer.status, 201, "{}", answer.text);
    assert!(data["message_id"].as_u64().unwrap() < 1 << 53);
    assert_eq!(data["status"], "pending");
    assert_eq!(data["recipient"], "+966501234567");
    assert_eq!(data["message_type"], "text");
    assert_eq!(data["instance"]["name"], "my-instance");
    let queued_at = data["queued_at"].as_str().unwrap();
    assert!(
        queued_at.ends_with('Z') && queued_at.len() == 27,
        "{queued_at}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_is_found_by_number_by_digits_and_by_name() {
    let edge = Edge::new().await;
    let id = edge.get("/instances").await.data()[0]["id"].clone();

    for instance in [
        id.clone(),
        Value::String(id.to_string()),
        json!("my-instance"),
    ] {
        let mut body = text("Hello");
        body["instance"] = instance;
        assert_eq!(edge.post("/messages/send", body).await.status, 201);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_answer_names_all_faults_of_a_single_message_wrong_types_included() {
    let edge = Edge::new().await;
    let body = json!({
        "instance": "nowhere", "recipient": 966_501_234_567_u64, "contact_id": 5, "content": "",
        "message_type": "image", "priority": "urgent", "ttl": 5, "send_at": "tomorrow",
        "on_ambiguous": 1, "client_ref": "x".repeat(129), "delay": 3, "quoted": {},
    });

    let answer = edge.post("/messages/send", body).await;

    assert_eq!(
        (answer.status.as_u16(), answer.code().as_str()),
        (422, "validation")
    );
    let expected = [
        "client_ref",
        "contact_id",
        "content",
        "delay",
        "instance",
        "message_type",
        "on_ambiguous",
        "priority",
        "quoted",
        "recipient",
        "send_at",
        "ttl",
    ];
    assert_eq!(answer.faults(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_members_are_named_and_do_no_harm() {
    let edge = Edge::new().await;
    let mut body = text("Hello");
    body["sendAt"] = json!("2026-01-01T00:00:00Z");
    body["client_ref"] = Value::Null;

    let answer = edge.post("/messages/send", body).await;

    assert_eq!(answer.status, 201);
    assert_eq!(answer.json()["warnings"], json!(["ignored: sendAt"]));
}

fn bulk(count: usize) -> Value {
    let message = |n: usize| json!({"recipient": format!("+9665{n:08}"), "content": "Hello"});
    json!({"instance": "my-instance", "messages": (0..count).map(message).collect::<Vec<_>>()})
}

#[tokio::test(flavor = "multi_thread")]
async fn one_answer_names_all_bad_fields_of_a_bulk_of_a_hundred() {
    let edge = Edge::new().await;
    let mut body = bulk(100);
    body["on_invalid"] = json!("reject");
    for (n, message) in body["messages"]
        .as_array_mut()
        .unwrap()
        .iter_mut()
        .enumerate()
    {
        match n % 4 {
            0 => message["recipient"] = json!("0501234567"),
            1 => message["content"] = json!(7),
            2 => *message = json!("no object"),
            _ => {}
        }
    }

    let answer = edge.post("/messages/send-bulk", body).await;
    let faults = answer.faults();

    assert_eq!(answer.status, 422);
    assert_eq!(faults.len(), 75, "{faults:?}");
    for field in ["messages.0.recipient", "messages.1.content", "messages.98"] {
        assert!(faults.contains(&field.to_owned()), "{field} in {faults:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bulk_queues_its_good_messages_and_refuses_the_others_one_by_one() {
    let edge = Edge::new().await;
    let mut body = bulk(3);
    body["messages"][1]["recipient"] = json!("9.66E+11");

    let answer = edge.post("/messages/send-bulk", body).await;
    let data = answer.data();

    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.json()["message"], "Bulk messages queued for sending");
    assert_eq!(
        (&data["total"], &data["queued_count"]),
        (&json!(3), &json!(2))
    );
    assert_eq!(
        (&data["success_count"], &data["failure_count"]),
        (&json!(2), &json!(1))
    );
    let ids = data["message_ids"].as_array().unwrap();
    assert_eq!(ids.len(), 2);
    assert_eq!(data["results"][2]["message_id"], ids[1]);
    let refused = &data["results"][1];
    assert_eq!(
        (&refused["success"], &refused["recipient"]),
        (&json!(false), &json!("9.66E+11"))
    );
    assert!(refused["errors"]["recipient"][0].is_string());
    let listed = edge
        .get(&format!("/messages?batch_id={}", data["batch_id"]))
        .await
        .data();
    assert_eq!(listed["total"], 2, "{listed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bulk_of_more_than_a_hundred_or_of_none_is_refused() {
    let edge = Edge::new().await;

    for body in [bulk(101), bulk(0), json!({"instance": "my-instance"})] {
        let answer = edge.post("/messages/send-bulk", body).await;
        assert_eq!(answer.status, 422);
        assert_eq!(answer.faults(), ["messages"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_a_bulk_share_what_is_said_once() {
    let edge = Edge::new().await;
    let template = json!({"name": "hi", "content": "Hi {{name}} of {{city}}"});
    let template = edge.post("/templates", template).await.data()["id"].clone();
    let body = json!({
        "instance": "my-instance", "template_id": template, "template_variables": {"city": "Jeddah"},
        "messages": [
            {"recipient": "+966501234567", "template_variables": {"name": "Sara"}},
            {"recipient": "+966501234568"},
            {"recipient": "+966501234569", "content": "Plain"},
        ],
    });

    let data = edge.post("/messages/send-bulk", body).await.data();

    assert_eq!(data["queued_count"], 2, "{data}");
    assert!(data["results"][1]["errors"]["template_variables"].is_array());
    let first = edge
        .get(&format!("/messages/{}", data["message_ids"][0]))
        .await
        .data();
    assert_eq!(first["payload"]["content"], "Hi Sara of Jeddah");
}

#[tokio::test(flavor = "multi_thread")]
async fn polls_lists_and_reactions_are_answered_as_the_guide_says() {
    let edge = Edge::new().await;
    let to = json!({"instance": "my-instance", "recipient": "+966501234567"});
    let with = |more: Value| {
        let mut body = to.clone();
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        body
    };
    let poll = with(json!({"name": "Color?", "values": ["Red", "Blue"]}));
    let list = with(json!({
        "title": "Choose", "description": "Services", "button_text": "View",
        "sections": [{"title": "S", "rows": [{"title": "R", "rowId": "r"}]}],
    }));
    let reaction = json!({
        "instance": "my-instance", "reaction": "👍",
        "message_key": {"remoteJid": "966501234567@s.whatsapp.net", "fromMe": false, "id": "3EB0"},
    });

    let poll = edge.post("/messages/send-poll", poll).await;
    let list = edge.post("/messages/send-list", list).await;
    let reaction = edge.post("/messages/send-reaction", reaction).await;

    assert_eq!(
        (poll.status, list.status, reaction.status).0,
        201,
        "{}",
        poll.text
    );
    assert_eq!(poll.data()["poll"]["selectable_count"], 1);
    assert_eq!(list.status, 201, "{}", list.text);
    assert_eq!(list.data()["recipient"], "+966501234567");
    assert_eq!(reaction.status, 201, "{}", reaction.text);
    assert_eq!(reaction.data()["reaction"], "👍");
    assert!(reaction.data().get("recipient").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_polls_lists_and_reactions_are_found_in_their_depth() {
    let edge = Edge::new().await;
    let poll = json!({"name": 5, "values": ["a", 7, "a"], "selectable_count": 9});
    let list = json!({
        "title": "", "description": 1, "button_text": "x".repeat(21),
        "sections": [{"title": "S", "rows": [{"rowId": "r"}, {"title": "T", "rowId": "r"}]}, 4],
    });
    let reaction = json!({"message_key": {"remoteJid": "1@g.us", "id": 5}, "reaction": "ab"});

    let poll = edge.post("/messages/send-poll", poll).await;
    let list = edge.post("/messages/send-list", list).await;
    let reaction = edge.post("/messages/send-reaction", reaction).await;

    let expected = [
        "instance",
        "name",
        "recipient",
        "selectable_count",
        "values.1",
        "values.2",
    ];
    assert_eq!(poll.faults(), expected);
    for field in [
        "title",
        "description",
        "button_text",
        "sections.0.rows.0.title",
        "sections.0.rows.1.rowId",
        "sections.1",
    ] {
        assert!(
            list.faults().contains(&field.to_owned()),
            "{field} in {:?}",
            list.faults()
        );
    }
    let expected = [
        "instance",
        "message_key.fromMe",
        "message_key.id",
        "message_key.remoteJid",
        "reaction",
    ];
    assert_eq!(reaction.faults(), expected);
}

async fn send_once(edge: &Edge, key: &str, body: &Value) -> Answered {
    let request = request("POST", "/integration/v1/messages/send")
        .header("x-api-key", &edge.key)
        .header("idempotency-key", key);
    edge.raw(request.body(Body::from(body.to_string())).unwrap())
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_idempotency_key_gets_the_first_answer_and_no_second_message() {
    let edge = Edge::new().await;

    let first = send_once(&edge, "order-1", &text("Hello")).await;
    let again = send_once(&edge, "order-1", &text("Hello")).await;
    let other = send_once(&edge, "order-1", &text("Bye")).await;

    assert_eq!(first.status, 201, "{}", first.text);
    assert_eq!((again.status, &again.text), (first.status, &first.text));
    assert_eq!(again.headers["idempotency-replayed"], "true");
    assert!(!first.headers.contains_key("idempotency-replayed"));
    assert_eq!(
        (other.status.as_u16(), other.code().as_str()),
        (422, "idempotency_mismatch")
    );
    assert_eq!(edge.get("/messages").await.data()["total"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_was_refused_does_not_use_its_idempotency_key_up() {
    let edge = Edge::new().await;

    let bad = send_once(&edge, "order-2", &json!({"instance": "my-instance"})).await;
    let good = send_once(&edge, "order-2", &text("Hello")).await;

    assert_eq!(
        (bad.status.as_u16(), good.status.as_u16()),
        (422, 201),
        "{}",
        good.text
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_opted_out_gets_nothing() {
    let edge = Edge::new().await;
    let optout = json!({"phone_number": "+966501234567", "reason": "asked"});

    let suppressed = edge.post("/suppressions", optout).await;
    let single = edge.post("/messages/send", text("Hello")).await;
    let removed = edge
        .call("DELETE", "/suppressions/+966501234567", Value::Null)
        .await;
    let after = edge.post("/messages/send", text("Hello")).await;

    assert_eq!(suppressed.status, 201, "{}", suppressed.text);
    assert_eq!(
        (single.status.as_u16(), single.code().as_str()),
        (403, "recipient_suppressed")
    );
    assert_eq!((removed.status.as_u16(), after.status.as_u16()), (200, 201));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_for_later_is_scheduled_and_can_be_withdrawn_once() {
    let edge = Edge::new().await;
    let mut body = text("Later");
    body["send_at"] = json!("2027-01-20T00:00:00Z");
    body["client_ref"] = json!("order-9");

    let sent = edge.post("/messages/send", body).await.data();
    let path = format!("/messages/{}", sent["message_id"]);
    let whole = edge.get(&path).await.data();
    let cancelled = edge.post(&format!("{path}/cancel"), Value::Null).await;
    let again = edge.post(&format!("{path}/cancel"), Value::Null).await;

    assert_eq!(sent["status"], "scheduled");
    assert_eq!(
        (&whole["waiting_for"], &whole["client_ref"]),
        (&json!("schedule"), &json!("order-9"))
    );
    assert_eq!(cancelled.status, 200, "{}", cancelled.text);
    assert_eq!(cancelled.data()["status"], "cancelled");
    assert_eq!(
        (again.status.as_u16(), again.code().as_str()),
        (409, "wrong_state")
    );
}
