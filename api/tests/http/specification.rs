//! The OpenAPI document and the router are one thing.

use std::collections::BTreeSet;

use axum::body::Body;
use serde_json::Value;

use crate::support::{Edge, request};

async fn document(edge: &Edge) -> Value {
    let request = request("GET", "/openapi.json").body(Body::empty()).unwrap();
    edge.raw(request).await.json()
}

/// Every route that `API.md` names, by method and path.
const PROMISED: &str = "
    GET /integration/v1/ping
    GET /integration/v1/me
    POST /integration/v1/messages/send
    POST /integration/v1/messages/send-bulk
    POST /integration/v1/messages/send-poll
    POST /integration/v1/messages/send-list
    POST /integration/v1/messages/send-reaction
    GET /integration/v1/messages/{id}/status
    GET /integration/v1/messages
    GET /integration/v1/messages/{id}
    GET /integration/v1/messages/changes
    POST /integration/v1/messages/{id}/cancel
    GET /integration/v1/instances
    GET /integration/v1/instances/{instance}
    GET /integration/v1/instances/{instance}/status
    POST /integration/v1/instances/{instance}/pause
    POST /integration/v1/instances/{instance}/resume
    POST /integration/v1/instances/{instance}/purge
    GET /integration/v1/contacts
    POST /integration/v1/contacts
    GET /integration/v1/contacts/{id}
    PUT /integration/v1/contacts/{id}
    PATCH /integration/v1/contacts/{id}
    DELETE /integration/v1/contacts/{id}
    GET /integration/v1/suppressions
    POST /integration/v1/suppressions
    DELETE /integration/v1/suppressions/{phone}
    POST /integration/v1/templates
    GET /integration/v1/templates
    GET /integration/v1/templates/{id}
    POST /integration/v1/batches
    GET /integration/v1/batches
    GET /integration/v1/batches/{id}
    POST /integration/v1/batches/{id}/recipients
    POST /integration/v1/batches/{id}/start
    POST /integration/v1/batches/{id}/seal
    POST /integration/v1/batches/{id}/pause
    POST /integration/v1/batches/{id}/resume
    POST /integration/v1/batches/{id}/cancel
    GET /integration/v1/batches/{id}/refused.csv
    GET /integration/v1/batches/{id}/messages
    GET /integration/v1/batches/{id}/report.csv
    GET /integration/v1/stats
    POST /api/v1/dashboard/auth/login
    POST /api/v1/dashboard/auth/logout
    GET /api/v1/dashboard/auth/me
    GET /api/v1/dashboard/api-keys
    POST /api/v1/dashboard/api-keys
    DELETE /api/v1/dashboard/api-keys/{id}
    POST /api/v1/dashboard/api-keys/{id}/rotate
    GET /api/v1/dashboard/instances
    POST /api/v1/dashboard/instances
    GET /api/v1/dashboard/instances/{instance}
    PATCH /api/v1/dashboard/instances/{instance}
    DELETE /api/v1/dashboard/instances/{instance}
    POST /api/v1/dashboard/instances/{instance}/connect
    POST /api/v1/dashboard/instances/{instance}/disconnect
    POST /api/v1/dashboard/instances/{instance}/logout
    GET /api/v1/dashboard/instances/{instance}/pacing
    PUT /api/v1/dashboard/instances/{instance}/pacing
    GET /api/v1/dashboard/suppressions
    GET /api/v1/dashboard/messages
    GET /api/v1/dashboard/contacts
    GET /api/v1/dashboard/templates
    GET /api/v1/dashboard/batches
    GET /api/v1/dashboard/stats
    GET /api/v1/dashboard/audit
";

fn operations(document: &Value) -> BTreeSet<String> {
    let paths = document["paths"].as_object().unwrap();
    let of_path = |(path, item): (&String, &Value)| {
        let methods: Vec<String> = item.as_object().unwrap().keys().cloned().collect();
        let path = path.clone();
        methods
            .into_iter()
            .map(move |method| format!("{} {path}", method.to_uppercase()))
    };
    paths.iter().flat_map(of_path).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_promised_route_is_in_the_document() {
    let edge = Edge::new().await;
    let written = operations(&document(&edge).await);

    for promised in PROMISED
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
    {
        assert!(
            written.contains(promised),
            "{promised} is not in the document"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_of_the_document_is_served() {
    let edge = Edge::new().await;

    for operation in operations(&document(&edge).await) {
        let (method, path) = operation.split_once(' ').unwrap();
        let concrete = path
            .replace("{id}", "1")
            .replace("{instance}", "x")
            .replace("{phone}", "1");
        let answer = edge
            .raw(request(method, &concrete).body(Body::empty()).unwrap())
            .await;
        let gated = if path.ends_with("/auth/login") {
            400
        } else {
            401
        };
        assert_eq!(
            answer.status.as_u16(),
            gated,
            "{operation}: {}",
            answer.text
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_operations_are_pretty_and_no_two_are_alike() {
    let edge = Edge::new().await;
    let document = document(&edge).await;
    let mut names = BTreeSet::new();

    for item in document["paths"].as_object().unwrap().values() {
        for operation in item.as_object().unwrap().values() {
            let name = operation["operationId"].as_str().unwrap();
            assert!(
                name.bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte == b'_'),
                "{name}"
            );
            assert!(names.insert(name.to_owned()), "{name} is there twice");
            assert!(operation["responses"]["422"].is_object(), "{name}");
        }
    }
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pages_of_the_document_come_from_here() {
    let edge = Edge::new().await;

    let page = edge
        .raw(request("GET", "/docs/").body(Body::empty()).unwrap())
        .await;
    let script = request("GET", "/docs/swagger-initializer.js")
        .body(Body::empty())
        .unwrap();
    let script = edge.raw(script).await;

    assert_eq!(page.status, 200);
    assert!(!page.text.contains("//cdn"), "{}", page.text);
    assert!(script.text.contains("/openapi.json"), "{}", script.text);
}
