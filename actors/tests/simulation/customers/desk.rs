//! Asking at one node, and writing down what it said.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use zajil_actors::engine::Engine;
use zajil_actors::send::{AcceptError, Reserved, Submission};
use zajil_model::id::{AccountId, RequestId};
use zajil_model::instance::Instance;
use zajil_model::phone::Phone;

use super::Post;
use crate::book::{Accepted, Book, Held};
use crate::clock::SimClock;
use crate::oracle::Oracle;
use crate::process::Process;
use crate::rare::Rare;

/// The node at which somebody asks.
#[derive(Clone)]
pub(super) struct Desk {
    pub(super) engine: Engine,
    pub(super) clock: Arc<SimClock>,
    pub(super) book: Arc<Book>,
    pub(super) oracle: Arc<Oracle>,
    pub(super) process: u32,
}

impl Desk {
    /// The desk of a process; `None` before its engine runs.
    pub(super) fn at(process: &Process, book: &Arc<Book>, oracle: &Arc<Oracle>) -> Option<Self> {
        Some(Self {
            engine: process.engine()?.clone(),
            clock: Arc::clone(&process.clock),
            book: Arc::clone(book),
            oracle: Arc::clone(oracle),
            process: process.number,
        })
    }
}

pub(super) fn refs(post: &Post) -> Vec<String> {
    let refs = post
        .messages
        .iter()
        .filter_map(|one| one.client_ref.as_deref());
    refs.map(str::to_owned).collect()
}

pub(super) fn submission(post: &Post, request: RequestId) -> Submission {
    Submission {
        instance: Arc::clone(&post.instance),
        lane: post.lane,
        messages: post.messages.clone(),
        request,
        bytes: post.messages.len() * 100,
    }
}

impl Desk {
    pub(super) fn now(&self) -> Duration {
        self.clock.true_now()
    }

    pub(super) fn says(&self, what: impl Fn() -> String) {
        self.oracle
            .trace(|| format!("at process {}: {}", self.process, what()));
    }

    pub(super) async fn post(&self, post: Post, again: Arc<Mutex<Vec<Post>>>) {
        let began = self.now();
        self.book.asks(refs(&post));
        let (bulk, request) = (post.messages.len() > 1, RequestId(post.request.into()));
        let answer = self.engine.send(submission(&post, request), bulk).await;
        if let Err(why) = &answer
            && *why != AcceptError::OutcomeUnknown
        {
            again.lock().push(post.clone());
        }
        self.answered(&post, began, answer);
    }

    pub(super) fn answered(
        &self,
        post: &Post,
        began: Duration,
        answer: Result<Reserved, AcceptError>,
    ) {
        let request = post.request;
        match answer {
            Ok(reserved) => {
                self.says(|| format!("request {request} is accepted as {}", reserved.first));
                for (place, (id, message)) in reserved.ids().zip(&post.messages).enumerate() {
                    self.book.accepted(Accepted {
                        id,
                        client_ref: message.client_ref.as_deref().unwrap_or_default().to_owned(),
                        instance: post.instance.id,
                        recipient: message.recipient,
                        lane: post.lane,
                        request: (request, place),
                        timed: message.send_at.is_some(),
                        asked: (began, self.now()),
                    });
                }
            }
            Err(why) => {
                self.says(|| format!("request {request} is not accepted: {why}"));
                self.book.not_accepted(refs(post), &why);
            }
        }
    }

    /// Pauses or resumes; whether it is certain to be done.
    pub(super) async fn turn(&self, instance: &Instance, pause: bool) -> bool {
        let directory = self.engine.directory();
        let changed = directory
            .update_instance(instance.account, instance.id, |it| it.paused = pause)
            .await;
        let Ok(changed) = changed else {
            return false;
        };
        match self.engine.apply_instance(changed).await {
            Ok(barrier) if barrier.is_confirmed() => true,
            Ok(_) => {
                self.oracle.reached.note(Rare::BarrierNotConfirmed);
                false
            }
            Err(_) => false,
        }
    }

    pub(super) async fn purge(&self, instance: &Arc<Instance>) {
        let began = self.now();
        self.says(|| format!("instance {} is to be purged", instance.id));
        match self.engine.purge(instance).await {
            Ok(barrier) if barrier.is_confirmed() => {
                self.says(|| format!("instance {} is purged", instance.id));
                self.oracle.reached.note(Rare::Purged);
                let of = Held::Purged(instance.id, began);
                self.book.barrier(of, self.now());
            }
            Ok(_) => self.oracle.reached.note(Rare::BarrierNotConfirmed),
            Err(_) => {}
        }
    }

    pub(super) async fn opt_out(&self, account: AccountId, phone: Phone) {
        let out = self
            .engine
            .suppress(account, phone, None, "simulation".to_owned())
            .await;
        match out {
            Ok(barrier) if barrier.is_confirmed() => {
                self.says(|| format!("{phone:?} opted out"));
                self.book.barrier(Held::Recipient(phone), self.now());
            }
            Ok(_) => self.oracle.reached.note(Rare::BarrierNotConfirmed),
            Err(_) => {}
        }
    }
}
