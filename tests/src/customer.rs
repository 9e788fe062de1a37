//! Somebody who sends: what they ask, what they were promised, and what they do not know.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use http::Method;
use parking_lot::Mutex;
use serde_json::{Value, json};
use zajil_model::lifecycle::Status;
use zajil_model::message::Lane;

use crate::clock::wall_micros;
use crate::cluster::Whereabouts;
use crate::http::{Answer, Failure, Http, Sending};
use crate::ledger::{Accepted, Book, Indeterminate};
use crate::wait::{millis, until};

mod reads;

/// Between two tries of somebody who repeats a request until it is answered.
const TRY_AGAIN_AFTER: Duration = millis(50);

/// A message that is to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// Who gets it, in E.164.
    pub to: String,
    /// The customer's own name of it, and what it says.
    pub name: String,
    /// Whether it overtakes.
    pub urgent: bool,
}

impl Letter {
    /// A letter to a number.
    pub fn to(recipient: &str, name: impl Into<String>) -> Self {
        Self {
            to: recipient.to_owned(),
            name: name.into(),
            urgent: false,
        }
    }

    /// One that overtakes.
    #[must_use]
    pub fn urgent(self) -> Self {
        Self {
            urgent: true,
            ..self
        }
    }

    fn lane(&self) -> Lane {
        if self.urgent {
            Lane::High
        } else {
            Lane::Normal
        }
    }

    /// The body of a request that sends it.
    pub fn body(&self, instance: u64) -> Value {
        let priority = if self.urgent { "high" } else { "normal" };
        json!({
            "instance": instance, "recipient": self.to, "content": self.name,
            "client_ref": self.name, "priority": priority,
        })
    }
}

/// A customer with an API key; clones are the same one, with one book.
#[derive(Clone, Debug)]
pub struct Customer {
    doors: Arc<Vec<Whereabouts>>,
    turn: Arc<AtomicUsize>,
    key: Arc<Mutex<String>>,
    http: Http,
    book: Arc<Mutex<Book>>,
    requests: Arc<AtomicU64>,
}

impl Customer {
    /// A customer of the node that is `at`.
    pub fn new(at: Whereabouts, key: &str) -> Self {
        Self::of_many(vec![at], key)
    }

    /// A customer who goes from one node to the next with every request, as behind a balancer.
    pub fn of_many(doors: Vec<Whereabouts>, key: &str) -> Self {
        Self {
            doors: Arc::new(doors),
            turn: Arc::default(),
            key: Arc::new(Mutex::new(key.to_owned())),
            http: Http::new(),
            book: Arc::default(),
            requests: Arc::default(),
        }
    }

    /// The same customer, with the same book, who goes to this node alone.
    #[must_use]
    pub fn only_at(&self, door: &Whereabouts) -> Self {
        Self {
            doors: Arc::new(vec![door.clone()]),
            ..self.clone()
        }
    }

    /// Where the next request goes: to the next node that runs.
    fn door(&self) -> Option<SocketAddr> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let from = turn % self.doors.len();
        let (before, after) = self.doors.split_at(from);
        after.iter().chain(before).find_map(Whereabouts::api)
    }

    /// The secret of the key.
    pub fn key(&self) -> String {
        self.key.lock().clone()
    }

    /// Goes on with another key of the same account.
    pub fn change_key(&self, key: String) {
        *self.key.lock() = key;
    }

    /// What they know so far.
    pub fn book(&self) -> Book {
        self.book.lock().clone()
    }

    /// Asks the Integration API.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn ask(
        &self,
        method: Method,
        path: &str,
        sending: Sending,
    ) -> Result<Answer, Failure> {
        let Some(address) = self.door() else {
            return Err(Failure::NeverLeft("the node does not run".to_owned()));
        };
        let url = format!("http://{address}/integration/v1{path}");
        self.http
            .call(method, &url, sending.with("x-api-key", self.key()))
            .await
    }

    /// Reads something from a running node.
    ///
    /// # Panics
    /// It does not answer.
    pub async fn get(&self, path: &str) -> Answer {
        let answered = self.ask(Method::GET, path, Sending::nothing()).await;
        answered.unwrap_or_else(|failure| panic!("GET {path}: {failure}"))
    }

    /// Posts a document to a running node.
    ///
    /// # Panics
    /// It does not answer.
    pub async fn post(&self, path: &str, document: &Value) -> Answer {
        let answered = self.ask(Method::POST, path, Sending::json(document)).await;
        answered.unwrap_or_else(|failure| panic!("POST {path}: {failure}"))
    }

    /// Sends one message and writes down what came of it.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn send(&self, instance: u64, letter: &Letter) -> Result<Answer, Failure> {
        let sending = Sending::json(&letter.body(instance));
        let since = wall_micros();
        self.submit(instance, sending, std::slice::from_ref(letter), since)
            .await
    }

    /// Sends one message as often as it takes to get an answer, under one `Idempotency-Key`.
    pub async fn send_surely(&self, instance: u64, letter: &Letter) -> Answer {
        let (body, since) = (letter.body(instance), wall_micros());
        loop {
            let sending = Sending::json(&body).with("idempotency-key", &letter.name);
            match self
                .submit(instance, sending, std::slice::from_ref(letter), since)
                .await
            {
                Ok(answer) if !matches!(answer.status, 409 | 429 | 503) => return answer,
                Ok(_) | Err(_) => tokio::time::sleep(TRY_AGAIN_AFTER).await,
            }
        }
    }

    /// Writes down that it is not known whether a letter was accepted.
    pub fn give_up(&self, letter: &Letter) {
        doubt(&mut self.book.lock(), std::slice::from_ref(letter));
    }

    /// Sends 2 to 100 messages in one request and writes down what came of it.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn send_bulk(&self, instance: u64, letters: &[Letter]) -> Result<Answer, Failure> {
        let messages: Vec<_> = letters
            .iter()
            .map(|one| json!({ "recipient": one.to, "content": one.name, "client_ref": one.name }))
            .collect();
        let sending = Sending::json(&json!({ "instance": instance, "messages": messages }));
        self.submit(instance, sending, letters, wall_micros()).await
    }

    /// Asks for the sending of letters, the first time at `since`, and writes down what came of it.
    async fn submit(
        &self,
        instance: u64,
        sending: Sending,
        letters: &[Letter],
        since: i64,
    ) -> Result<Answer, Failure> {
        let request = self.requests.fetch_add(1, Ordering::Relaxed);
        let path = if letters.len() == 1 {
            "/messages/send"
        } else {
            "/messages/send-bulk"
        };
        let answered = self.ask(Method::POST, path, sending).await;
        let asked = (since, wall_micros());
        let mut book = self.book.lock();
        match &answered {
            Ok(answer) if answer.is_good() => {
                for (place, (letter, id)) in letters.iter().zip(ids(answer)).enumerate() {
                    book.accepted.push(Accepted {
                        id,
                        client_ref: letter.name.clone(),
                        recipient: letter.to.clone(),
                        instance,
                        lane: letter.lane(),
                        request: (request, place),
                        asked,
                    });
                }
            }
            Ok(answer) if answer.error_code() == "outcome_unknown" => doubt(&mut book, letters),
            Ok(answer) => book.refused.push(answer.status),
            Err(Failure::NeverLeft(_)) => {}
            Err(Failure::Lost(_)) => doubt(&mut book, letters),
        }
        answered
    }

    /// The status of a message, as the API tells it.
    ///
    /// # Panics
    /// The node does not answer, or does not know the message.
    pub async fn status(&self, id: u64) -> Status {
        let answer = self
            .get(&format!("/messages/{id}/status"))
            .await
            .expect_status(200);
        read_status(&answer.data())
    }

    /// Waits until a message has a status.
    ///
    /// # Panics
    /// It does not get it within `patience`.
    pub async fn await_status(&self, id: u64, wanted: Status, patience: Duration) {
        crate::eventually(patience, wanted, async || self.status(id).await).await;
    }

    /// How many messages of the account have a status, by the exact count of the list.
    ///
    /// # Panics
    /// The node does not answer.
    pub async fn count(&self, status: Status) -> u64 {
        let path = format!("/messages?per_page=1&status={}", status.label());
        let answer = self.get(&path).await.expect_status(200);
        answer.data()["total"].as_u64().expect("a page has a total")
    }

    /// How many messages of the account are not settled: one look, so that none moves meanwhile.
    ///
    /// # Panics
    /// The node does not answer.
    pub async fn unsettled(&self) -> u64 {
        let counts = self.get("/stats").await.expect_status(200).data()["by_status"].take();
        let unsettled = [Status::Scheduled, Status::Pending, Status::Processing];
        unsettled
            .iter()
            .filter_map(|status| counts[status.label()].as_u64())
            .sum()
    }

    /// Waits until every message is settled.
    ///
    /// # Panics
    /// Some are not within `patience`.
    pub async fn await_settled(&self, patience: Duration) {
        let mut left = 0;
        let settled = until("every message is settled", patience, async || {
            left = self.unsettled().await;
            (left == 0).then_some(())
        });
        settled.await;
    }
}

fn doubt(book: &mut Book, letters: &[Letter]) {
    let doubtful = letters.iter().map(|one| Indeterminate {
        client_ref: one.name.clone(),
    });
    book.indeterminate.extend(doubtful);
}

/// The ids that an accepting answer gave, in the order of the letters.
///
/// # Panics
/// It gave none.
pub fn ids(answer: &Answer) -> Vec<u64> {
    let data = answer.data();
    if let Some(id) = data["message_id"].as_u64() {
        return vec![id];
    }
    let ids = data["message_ids"]
        .as_array()
        .expect("a good answer has ids");
    ids.iter()
        .map(|id| id.as_u64().expect("an id is a number"))
        .collect()
}

fn read_status(document: &Value) -> Status {
    let word = document["status"].as_str().unwrap_or_default();
    Status::parse(word).unwrap_or_else(|| panic!("{document} has no status"))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
