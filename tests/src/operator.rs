//! The operator of a node: makes accounts, keys and instances, backs up and releases.

use http::Method;
use serde_json::{Value, json};

use crate::cluster::Whereabouts;
use crate::customer::Customer;
use crate::http::{Answer, Http, Sending};

/// The highest limit that a key may have, in requests an hour.
pub const UNLIMITED: u64 = 1_000_000_000;

/// How fast an instance may send, as a scenario sets it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// Messages a second.
    pub rate: f64,
    /// How many may go at once after a pause.
    pub burst: u32,
}

/// An account with a key that may do everything.
#[derive(Clone, Debug)]
pub struct Account {
    /// Its id.
    pub id: u64,
    /// The secret of its key.
    pub key: String,
}

/// The operator of a node, by its token.
#[derive(Clone, Debug)]
pub struct Operator {
    at: Whereabouts,
    token: String,
    http: Http,
}

impl Operator {
    /// The operator of the node that is `at`.
    pub fn new(at: Whereabouts, token: &str) -> Self {
        Self {
            at,
            token: token.to_owned(),
            http: Http::new(),
        }
    }

    /// Asks the operations address.
    ///
    /// # Panics
    /// The node does not run, or does not answer.
    pub async fn operations(&self, path: &str, document: Value) -> Answer {
        let address = self.at.operations().expect("the node runs");
        let sending = Sending::json(&document).with("authorization", self.bearer());
        let url = format!("http://{address}{path}");
        self.http
            .call(Method::POST, &url, sending)
            .await
            .expect("a running node answers")
    }

    /// Asks the Dashboard API, for an account.
    ///
    /// # Panics
    /// The node does not run, or does not answer.
    pub async fn dashboard(
        &self,
        account: u64,
        method: Method,
        path: &str,
        document: Option<Value>,
    ) -> Answer {
        let address = self.at.api().expect("the node runs");
        let sending = document.map_or_else(Sending::nothing, |document| Sending::json(&document));
        let sending = sending
            .with("authorization", self.bearer())
            .with("x-account", account.to_string());
        let url = format!("http://{address}/api/v1/dashboard{path}");
        self.http
            .call(method, &url, sending)
            .await
            .expect("a running node answers")
    }

    fn bearer(&self) -> String {
        format!("Bearer {}", self.token)
    }

    /// Makes an account with a key that may do everything, as often as it likes.
    ///
    /// # Panics
    /// The node refuses.
    pub async fn make_account(&self, name: &str) -> Account {
        let answer = self.operations("/accounts", json!({ "name": name })).await;
        let id = answer.expect_status(201).data()["id"]
            .as_u64()
            .expect("an account has an id");
        let key = self.make_key(id, UNLIMITED).await;
        Account { id, key }
    }

    /// Makes a key that may do everything, `limit` times an hour.
    ///
    /// # Panics
    /// The node refuses.
    pub async fn make_key(&self, account: u64, limit: u64) -> String {
        let permissions = [
            "send_message",
            "read_messages",
            "manage_instances",
            "manage_contacts",
            "manage_templates",
        ];
        let body = json!({ "name": "scenario", "permissions": permissions, "rate_limit": limit });
        let answer = self
            .dashboard(account, Method::POST, "/api-keys", Some(body))
            .await;
        let data = answer.expect_status(201).data();
        data["key"]
            .as_str()
            .expect("a new key is shown once")
            .to_owned()
    }

    /// Makes an instance at a simulator: the process at `address`, or the one inside the node.
    ///
    /// # Panics
    /// The node refuses.
    pub async fn make_instance(
        &self,
        account: u64,
        name: &str,
        pace: Pace,
        settings: Value,
    ) -> u64 {
        let body = json!({
            "instance_name": name,
            "transport": "simulator",
            "transport_settings": settings,
            "pacing": pacing(pace),
        });
        let answer = self
            .dashboard(account, Method::POST, "/instances", Some(body))
            .await;
        answer.expect_status(201).data()["id"]
            .as_u64()
            .expect("an instance has an id")
    }

    /// Changes how fast an instance sends.
    ///
    /// # Panics
    /// The node refuses.
    pub async fn set_pace(&self, account: u64, instance: u64, pace: Pace) {
        let path = format!("/instances/{instance}/pacing");
        let answer = self
            .dashboard(account, Method::PUT, &path, Some(pacing(pace)))
            .await;
        answer.expect_status(200);
    }

    /// A customer with this key.
    pub fn customer(&self, key: &str) -> Customer {
        Customer::new(self.at.clone(), key)
    }
}

fn pacing(pace: Pace) -> Value {
    json!({ "rate": { "count": pace.rate, "per": "second" }, "burst": pace.burst })
}
