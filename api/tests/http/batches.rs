//! Campaigns: uploads that can be cut and repeated, states, streams.

use axum::body::Body;
use serde_json::{Value, json};

use crate::support::{Answered, Edge, request};

async fn draft(edge: &Edge) -> String {
    let body = json!({"name": "Eid", "instance": "my-instance", "content": "Hello {{name}}"});
    let made = edge.post("/batches", body).await;
    assert_eq!(made.status, 201, "{}", made.text);
    assert_eq!(made.data()["state"], "draft");
    format!("/batches/{}", made.data()["id"])
}

async fn upload(edge: &Edge, path: &str, kind: &str, rows: &str) -> Answered {
    let path = format!("/integration/v1{path}");
    let request = http::Request::post(&path)
        .header("x-api-key", &edge.key)
        .header("content-type", kind)
        .body(Body::from(rows.to_owned()));
    edge.raw(request.unwrap()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_judged_one_by_one_and_a_repeated_upload_adds_nothing() {
    let edge = Edge::new().await;
    let path = draft(&edge).await;
    let rows = "\u{feff}phone;name\n+966501234567;Sara\n9.66E+11;Ali\n+966501234567;Sara\n+966501234568;Omar\n";

    let first = upload(&edge, &format!("{path}/recipients"), "text/csv", rows).await;
    let again = upload(
        &edge,
        &format!("{path}/recipients?from_row=0"),
        "text/csv",
        rows,
    )
    .await;
    let gap = upload(
        &edge,
        &format!("{path}/recipients?from_row=9"),
        "text/csv",
        rows,
    )
    .await;
    let refused = edge.get(&format!("{path}/refused.csv")).await;

    assert_eq!(first.status, 200, "{}", first.text);
    let data = first.data();
    assert_eq!(
        (&data["rows_received"], &data["taken"]),
        (&json!(4), &json!(2)),
        "{data}"
    );
    assert_eq!(
        (&data["refused"], &data["duplicates"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(data["first_refusals"][0]["row"], 1);
    assert_eq!(
        (&again.data()["rows_received"], &again.data()["taken"]),
        (&json!(4), &json!(2))
    );
    assert_eq!((gap.status.as_u16(), gap.code().as_str()), (409, "row_gap"));
    assert_eq!(gap.json()["expected_row"], 4);
    assert!(
        refused.text.starts_with("row,field,error\n1,recipient,"),
        "{}",
        refused.text
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_started_paused_sealed_and_cancelled_and_says_so() {
    let edge = Edge::new().await;
    let path = draft(&edge).await;
    let rows =
        "{\"recipient\":\"+966501234567\",\"variables\":{\"name\":\"Sara\"}}\n{\"recipient\":5}\n";
    upload(
        &edge,
        &format!("{path}/recipients"),
        "application/x-ndjson",
        rows,
    )
    .await;

    let early = edge.post(&format!("{path}/pause"), Value::Null).await;
    let mut states = Vec::new();
    for step in ["start", "pause", "seal", "cancel"] {
        let answer = edge.post(&format!("{path}/{step}"), Value::Null).await;
        assert!(answer.status.is_success(), "{step}: {}", answer.text);
        states.push(answer.data()["state"].clone());
    }
    let whole = edge.get(&path).await.data();
    let listed = edge.get("/batches").await.data();
    let late = edge.post(&format!("{path}/start"), Value::Null).await;

    assert_eq!(
        (early.status.as_u16(), early.code().as_str()),
        (409, "wrong_state")
    );
    assert_eq!(states, ["running", "paused", "paused", "cancelled"]);
    assert_eq!(
        (&whole["sealed"], &whole["taken"]),
        (&json!(true), &json!(1))
    );
    assert_eq!(listed["total"], 1);
    assert_eq!(late.status, 409);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_became_of_a_batch_is_streamed_whole() {
    let edge = Edge::new().await;
    let path = draft(&edge).await;
    let rows: String = (0..1_203)
        .map(|n| format!("{{\"recipient\":\"+9665{n:08}\",\"variables\":{{\"name\":\"n\"}}}}\n"))
        .collect();
    let up = upload(
        &edge,
        &format!("{path}/recipients"),
        "application/x-ndjson",
        &rows,
    )
    .await;

    let messages = edge.get(&format!("{path}/messages?status=pending")).await;
    let report = edge.get(&format!("{path}/report.csv")).await;

    assert_eq!(up.data()["taken"], 1_203, "{}", up.text);
    assert_eq!(messages.data().as_array().unwrap().len(), 1_203);
    assert_eq!(report.text.lines().count(), 1_204);
    assert!(
        report.headers["content-disposition"]
            .to_str()
            .unwrap()
            .contains("report.csv")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn all_faults_of_a_new_batch_are_named() {
    let edge = Edge::new().await;
    let body = json!({
        "instances": ["my-instance", "nowhere", "my-instance"], "template_id": 7, "ttl": 1,
        "duplicates": "drop",
    });

    let answer = edge.post("/batches", body).await;

    let expected = [
        "duplicates",
        "instances.1",
        "instances.2",
        "name",
        "template_id",
        "ttl",
    ];
    assert_eq!(answer.faults(), expected, "{}", answer.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_of_another_type_or_without_a_recipient_column_is_refused() {
    let edge = Edge::new().await;
    let path = format!("{}/recipients", draft(&edge).await);

    let kind = upload(&edge, &path, "application/json", "{}").await;
    let header = upload(&edge, &path, "text/csv", "name\nSara\n").await;
    let unknown = request("POST", "/integration/v1/batches/12/recipients")
        .header("x-api-key", &edge.key)
        .body(Body::empty());

    assert_eq!(
        (kind.status.as_u16(), kind.code().as_str()),
        (415, "unsupported_media_type")
    );
    assert_eq!(header.faults(), ["header"]);
    assert_eq!(edge.raw(unknown.unwrap()).await.status, 404);
}
