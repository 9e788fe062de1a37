//! A small language for tests of the edge: an engine in memory, accounts, and requests.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::body::{Body, to_bytes};
use http::{HeaderMap, Method, Request, StatusCode};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;
use zajil_actors::directory::{NewInstance, NewKey, Permission};
use zajil_actors::engine::{Engine, Ports};
use zajil_actors::owners::Sharing;
use zajil_api::{ApiConfig, ApiState, Front, OperatorToken, OpsState};
use zajil_model::id::AccountId;
use zajil_model::instance::{TransportKind, TransportSettings};
use zajil_model::pace::PaceSpec;
use zajil_model::time::{Clock, Mono, Timestamp};
use zajil_storage::MemoryStore;
use zajil_transport::simulator::SimulatorFactory;

/// The operator's token of every edge.
pub(crate) const OPERATOR: &str = "operator-token-of-a-test";

/// Tells tokio's time.
#[derive(Debug)]
struct TestClock(tokio::time::Instant);

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_seconds(1_800_000_000) + self.0.elapsed()
    }

    fn mono(&self) -> Mono {
        Mono::from_nanos(self.0.elapsed().as_nanos() as u64)
    }
}

/// An edge with one account: a key with all permissions, and the instance `my-instance`.
pub(crate) struct Edge {
    pub(crate) router: Front,
    pub(crate) operations: Front,
    pub(crate) engine: Engine,
    pub(crate) drain: CancellationToken,
    pub(crate) account: AccountId,
    pub(crate) key: String,
    pub(crate) email: String,
    pub(crate) password: String,
}

/// What a request was answered.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answered {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {}", self.text))
    }

    pub(crate) fn data(&self) -> Value {
        self.json()["data"].clone()
    }

    /// The `error_code`, checked to be in the envelope of failures.
    pub(crate) fn code(&self) -> String {
        let json = self.json();
        assert_eq!(json["success"], false, "{json}");
        assert!(json["message"].is_string(), "{json}");
        json["error_code"].as_str().unwrap().to_owned()
    }

    /// The paths of the fields that have faults.
    pub(crate) fn faults(&self) -> Vec<String> {
        self.json()["errors"]
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect()
    }
}

impl Edge {
    pub(crate) async fn new() -> Self {
        Self::with(ApiConfig::default()).await
    }

    pub(crate) async fn with(config: ApiConfig) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(TestClock(tokio::time::Instant::now()));
        let tasks = TaskTracker::new();
        let simulator = SimulatorFactory::new(clock.clone(), tasks, 7);
        let ports = Ports {
            store: Arc::new(MemoryStore::new()),
            clock,
            transports: vec![Arc::new(simulator)],
            sharing: Sharing::alone(),
            seed: 7,
        };
        let engine = Engine::start(ports).await.unwrap();
        let directory = engine.directory();
        let first = directory.plan_first_start().await.unwrap().unwrap();
        assert!(directory.make_first_start(&first).await.unwrap());
        let config = ApiConfig {
            operator: Some(OperatorToken::new(OPERATOR)),
            ..config
        };
        let state = ApiState::new(engine.clone(), config);
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        let drain = CancellationToken::new();
        let operations = OpsState::new(state.clone(), recorder.handle(), drain.clone());
        Self {
            router: zajil_api::integration_router(state),
            operations: zajil_api::operations_router(operations),
            engine,
            drain,
            account: first.account.id,
            key: first.key_text.reveal().to_owned(),
            email: first.user.email,
            password: first.password,
        }
    }

    /// A request to the Integration API with the key.
    pub(crate) async fn call(&self, method: &str, path: &str, body: Value) -> Answered {
        self.call_with(method, path, &self.key, body).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answered {
        self.call("GET", path, Value::Null).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answered {
        self.call("POST", path, body).await
    }

    pub(crate) async fn call_with(
        &self,
        method: &str,
        path: &str,
        key: &str,
        body: Value,
    ) -> Answered {
        let path = format!("/integration/v1{path}");
        self.raw(
            request(method, &path)
                .header("x-api-key", key)
                .body(json(&body))
                .unwrap(),
        )
        .await
    }

    /// A request to the Dashboard API with a token.
    pub(crate) async fn dashboard(&self, method: &str, path: &str, body: Value) -> Answered {
        let path = format!("/api/v1/dashboard{path}");
        let bearer = format!("Bearer {OPERATOR}");
        let request = request(method, &path).header("authorization", bearer);
        self.raw(request.body(json(&body)).unwrap()).await
    }

    pub(crate) async fn raw(&self, request: Request<Body>) -> Answered {
        answered(&self.router, request).await
    }

    /// A key of an account with these permissions.
    pub(crate) async fn new_key(&self, account: AccountId, permissions: &[Permission]) -> String {
        let new = NewKey {
            user: None,
            name: "a key".to_owned(),
            permissions: permissions.iter().copied().collect(),
            rate_limit: 1_000_000,
            expires_at: None,
            allowed_ips: Vec::new(),
            allowed_instances: BTreeSet::new(),
        };
        self.engine
            .directory()
            .create_key(account, new)
            .await
            .unwrap()
            .1
            .reveal()
            .to_owned()
    }

    /// Another account with an instance `theirs`, and its key with all permissions.
    pub(crate) async fn other_account(&self) -> (AccountId, String) {
        let directory = self.engine.directory();
        let account = directory.create_account("other").await.unwrap().id;
        let new = NewInstance {
            name: "theirs".to_owned(),
            transport: TransportKind::Simulator,
            settings: TransportSettings::default(),
            pace: PaceSpec::default_for(TransportKind::Simulator),
            queue_while_disconnected: false,
        };
        directory.create_instance(account, new).await.unwrap();
        (account, self.new_key(account, &Permission::ALL).await)
    }
}

pub(crate) async fn answered(router: &Front, request: Request<Body>) -> Answered {
    let response = router.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = to_bytes(body, 64 << 20).await.unwrap();
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    Answered {
        status: parts.status,
        headers: parts.headers,
        text,
    }
}

pub(crate) fn request(method: &str, path: &str) -> http::request::Builder {
    let method: Method = method.parse().unwrap();
    Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", "application/json")
}

/// A body; null is none.
pub(crate) fn json(body: &Value) -> Body {
    if body.is_null() {
        Body::empty()
    } else {
        Body::from(body.to_string())
    }
}

/// A text message that is good.
pub(crate) fn text(content: &str) -> Value {
    serde_json::json!({
        "instance": "my-instance", "recipient": "+966501234567", "content": content,
    })
}
