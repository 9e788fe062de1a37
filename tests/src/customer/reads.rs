//! What a customer reads of all their messages.

use serde_json::Value;
use tokio::task::JoinSet;
use zajil_model::lifecycle::Status;

use super::{Customer, read_status, text};
use crate::ledger::Final;

/// Messages of a page when all are read.
const PAGE: usize = 200;

/// How many read the statuses of all messages at once.
const READERS: usize = 8;

impl Customer {
    /// Every message of the account, newest first: the documents of the list.
    ///
    /// # Panics
    /// The node does not answer.
    pub async fn list(&self) -> Vec<Value> {
        let mut all = Vec::new();
        let mut cursor = String::new();
        loop {
            let path = format!("/messages?per_page={PAGE}{cursor}");
            let mut page = self.get(&path).await.expect_status(200).data();
            let Value::Array(messages) = page["data"].take() else {
                panic!("a page has data")
            };
            all.extend(messages);
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return all,
            }
        }
    }

    /// What the API says of every message of the account, in no order.
    ///
    /// # Panics
    /// The node does not answer.
    pub async fn finals(&self) -> Vec<Final> {
        let listed = self.list().await;
        let share = listed.len().div_ceil(READERS).max(1);
        let mut readers = JoinSet::new();
        for some in listed.chunks(share) {
            let (customer, some) = (self.clone(), some.to_vec());
            readers.spawn(async move {
                let mut finals = Vec::new();
                for one in &some {
                    finals.push(customer.last_of(one).await);
                }
                finals
            });
        }
        readers.join_all().await.concat()
    }

    /// What the API says of a message that it listed.
    async fn last_of(&self, listed: &Value) -> Final {
        let id = listed["id"].as_u64().expect("a message has an id");
        let told = self
            .get(&format!("/messages/{id}/status"))
            .await
            .expect_status(200)
            .data();
        Final {
            id,
            client_ref: text(&listed["client_ref"]),
            recipient: text(&listed["recipient_number"]),
            status: read_status(&told),
            wa_id: told["message_key"]["id"].as_str().map(str::to_owned),
        }
    }

    /// Every status change of the account so far, from the feed: message and status, in its order.
    ///
    /// # Panics
    /// The node does not answer.
    pub async fn changes(&self) -> Vec<(u64, Status)> {
        let mut all = Vec::new();
        let mut after = String::new();
        loop {
            let path = format!("/messages/changes?limit=1000{after}");
            let page = self.get(&path).await.expect_status(200).data();
            let changes = page["changes"].as_array().expect("the feed has changes");
            let read = |change: &Value| {
                (
                    change["message_id"]
                        .as_u64()
                        .expect("a change names its message"),
                    read_status(change),
                )
            };
            all.extend(changes.iter().map(read));
            if changes.is_empty() {
                return all;
            }
            after = format!(
                "&after={}",
                page["next_cursor"].as_str().expect("it goes on")
            );
        }
    }
}
