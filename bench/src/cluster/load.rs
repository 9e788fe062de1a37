//! Customers of a cluster who write down what was promised to them: each message goes to somebody
//! new, so that the ledger tells by the recipient what became of it, and nobody waits for another
//! message to the same person.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use hdrhistogram::Histogram;
use http::Method;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use zajil_tests::Customer;
use zajil_tests::http::{Answer, Sending};

use crate::crowd;
use crate::measure::{micros, now};
use crate::workload::BULK;

/// A request that is not accepted within this, repeated as told, has failed: longer than the minute
/// for which a key may be told to be in flight whose owner died.
const PATIENCE: Duration = Duration::from_secs(90);

/// The wait before a request is repeated whose connection broke.
const TRY_AGAIN: Duration = Duration::from_millis(50);

/// The numbers that are written to begin so; eight digits follow.
const PREFIX: &str = "+9665";

/// A recipient, by the digits behind [`PREFIX`].
pub(crate) type Recipient = u32;

/// The recipient of a frame, if it is one of these.
pub(crate) fn recipient(number: &str) -> Option<Recipient> {
    number.strip_prefix(PREFIX)?.parse().ok()
}

/// What became of all requests.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// Who was promised a message.
    pub(crate) promised: BTreeSet<Recipient>,
    /// Requests that failed though they were repeated as told, by the last answer.
    pub(crate) failed: BTreeMap<String, u64>,
    /// Answers that told to repeat, by status; 0 is a connection that broke or was refused.
    pub(crate) repeated: BTreeMap<u16, u64>,
    /// How long each took until it was accepted, in microseconds.
    pub(crate) took: Vec<u64>,
}

impl Told {
    /// How many requests failed.
    pub(crate) fn failures(&self) -> u64 {
        self.failed.values().sum()
    }

    /// How long requests took.
    pub(crate) fn waits(&self) -> Histogram<u64> {
        let mut waits = micros();
        for took in &self.took {
            waits.saturating_record(*took);
        }
        waits
    }
}

/// Who sends; clones write into the same book.
#[derive(Clone, Debug)]
pub(crate) struct Sender {
    customer: Customer,
    next: Arc<AtomicU32>,
    told: Arc<Mutex<Told>>,
}

/// Messages that are posted without pause until they are told to stop.
#[derive(Debug)]
pub(crate) struct Posting {
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Sender {
    pub(crate) fn new(customer: Customer) -> Self {
        Self {
            customer,
            next: Arc::default(),
            told: Arc::default(),
        }
    }

    /// What became of the requests so far.
    pub(crate) fn told<T>(&self, read: impl FnOnce(&Told) -> T) -> T {
        read(&self.told.lock())
    }

    /// Queues `count` messages at each of some instances, in bulks.
    pub(crate) async fn feed(&self, instances: &[u64], count: usize) -> Result<()> {
        let bulks = count.div_ceil(BULK);
        // Instances take turns, so that none has all of its queue before another has any.
        let jobs: Vec<_> = (0..bulks)
            .flat_map(|n| {
                instances
                    .iter()
                    .map(move |one| (*one, BULK.min(count - n * BULK)))
            })
            .collect();
        let sender = self.clone();
        crowd::each(jobs, move |(instance, count)| {
            let sender = sender.clone();
            async move {
                let accepted = sender.send(instance, count).await;
                ensure!(
                    accepted,
                    "messages cannot be queued: {:?}",
                    sender.told(|told| told.failed.clone())
                );
                Ok(())
            }
        })
        .await
    }

    /// Posts single messages to these instances in turn, so many a second whatever the answers are.
    pub(crate) fn post(&self, instances: &[u64], rate: f64) -> Posting {
        let stop = CancellationToken::new();
        let (sender, instances, stopped) = (self.clone(), instances.to_vec(), stop.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut beats = tokio::time::interval(Duration::from_secs_f64(1.0 / rate));
            // Each lasts for `PATIENCE` at most, so there are never more than the rate times that.
            let mut requests = JoinSet::new();
            let mut turn = instances.iter().copied().cycle();
            while stopped.run_until_cancelled(beats.tick()).await.is_some() {
                if let Some(instance) = turn.next() {
                    let sender = sender.clone();
                    requests.spawn(async move { sender.send(instance, 1).await });
                }
                while requests.try_join_next().is_some() {}
            }
            requests.join_all().await;
        });
        Posting { stop, tasks }
    }

    /// Sends messages in one request, repeats it as told, and writes down what came of it; answers
    /// whether it was accepted.
    async fn send(&self, instance: u64, count: usize) -> bool {
        let many = u32::try_from(count).expect("a bulk is small");
        let first = self.next.fetch_add(many, Ordering::Relaxed);
        let recipients = first..first + many;
        let (path, body) = request(instance, recipients.clone());
        let key = format!("bench-{first}");
        let began = now();
        let mut last = String::new();
        while now() - began < PATIENCE {
            let sending = Sending::json(&body).with("idempotency-key", &key);
            let asked = self.customer.ask(Method::POST, path, sending).await;
            let (status, wait) = match &asked {
                Ok(answer) if answer.is_good() => {
                    let took = (now() - began).as_micros() as u64;
                    let mut told = self.told.lock();
                    told.promised.extend(recipients);
                    told.took.push(took);
                    return true;
                }
                Ok(answer) => (answer.status, told_wait(answer)),
                Err(_) => (0, Some(TRY_AGAIN)),
            };
            last = match &asked {
                Ok(answer) => format!("{status}: {}", answer.text()),
                Err(failure) => failure.to_string(),
            };
            let Some(wait) = wait else { break };
            *self.told.lock().repeated.entry(status).or_default() += 1;
            tokio::time::sleep(wait).await;
        }
        *self.told.lock().failed.entry(last).or_default() += 1;
        false
    }
}

impl Posting {
    /// Stops it; requests under way end first.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.tasks.join_all().await;
    }
}

/// How long to wait before the request is repeated, if the answer says that it may be.
fn told_wait(answer: &Answer) -> Option<Duration> {
    let in_flight = answer.status == 409 && answer.error_code() == "idempotency_in_flight";
    if !in_flight && !matches!(answer.status, 429 | 503) {
        return None;
    }
    let seconds = answer
        .number("retry-after")
        .and_then(|told| u64::try_from(told).ok());
    Some(seconds.map_or(TRY_AGAIN, Duration::from_secs))
}

/// The path and the body of a request.
fn request(instance: u64, recipients: std::ops::Range<Recipient>) -> (&'static str, Value) {
    let mut messages: Vec<_> = recipients
        .map(|one| json!({ "recipient": format!("{PREFIX}{one:08}"), "content": "Your code." }))
        .collect();
    if messages.len() > 1 {
        let body = json!({ "instance": instance, "messages": messages });
        return ("/messages/send-bulk", body);
    }
    let mut body = messages.remove(0);
    body["instance"] = json!(instance);
    ("/messages/send", body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recipient_is_known_again_by_the_number() {
        let (_, body) = request(7, 41..42);

        assert_eq!(recipient(body["recipient"].as_str().unwrap()), Some(41));
        assert_eq!(recipient("+15550000041"), None);
    }

    #[test]
    fn a_bulk_names_each_recipient_once() {
        let (path, body) = request(7, 0..3);

        assert_eq!(
            (path, &body["instance"]),
            ("/messages/send-bulk", &json!(7))
        );
        assert_eq!(body["messages"].as_array().unwrap().len(), 3);
    }
}
