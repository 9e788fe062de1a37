//! Requests with a key: whoever was not answered asks again with it, at whichever node, and gets its
//! messages once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use zajil_actors::idempotency::{Begin, Scope, Ticket};
use zajil_actors::send::{AcceptError, Reserved};
use zajil_model::id::{Epoch, MessageId, RequestId};
use zajil_model::time::{Mono, Timestamp};

use super::Post;
use super::desk::{Desk, refs, submission};
use crate::rare::Rare;

/// For how many owners in a row ids are reserved, as the edge does it.
const OWNERS: usize = 3;

/// A request with a key that has no answer.
#[derive(Debug)]
pub(super) struct Keyed {
    pub(super) post: Post,
    /// When it was asked for first: since then it may have been accepted.
    pub(super) began: Duration,
    /// How often it was asked for.
    pub(super) asked: u64,
}

/// The requests with a key that have no answer, by their number: those of a node that dies come back
/// in any order.
pub(super) type Unanswered = Arc<Mutex<BTreeMap<u64, Keyed>>>;

/// A request that is on its way. Dropped without an answer, as when its node dies, it is repeated.
struct OnItsWay {
    keyed: Option<Keyed>,
    unanswered: Unanswered,
}

impl Drop for OnItsWay {
    fn drop(&mut self) {
        let keyed = self.keyed.take().map(|keyed| (keyed.post.request, keyed));
        self.unanswered.lock().extend(keyed);
    }
}

impl Desk {
    /// Asks with a key; between writing the ids down and using them, `wait` goes by.
    pub(super) async fn ask_with_key(
        &self,
        mut keyed: Keyed,
        wait: Duration,
        unanswered: Unanswered,
    ) {
        keyed.asked += 1;
        let (post, began, asked) = (keyed.post.clone(), keyed.began, keyed.asked);
        let mut on_its_way = OnItsWay {
            keyed: Some(keyed),
            unanswered,
        };
        self.book.asks(refs(&post));
        let answer = self.once(&post, asked, wait).await;
        let ends = match &answer {
            Ok(_) => true,
            // Some give up when they are refused.
            Err(why) => why.is_certain() && post.request % 2 == 0,
        };
        self.answered(&post, began, answer);
        if ends {
            on_its_way.keyed = None;
        }
    }

    async fn once(&self, post: &Post, asked: u64, wait: Duration) -> Result<Reserved, AcceptError> {
        let (key, body) = (format!("key-{}", post.request), post.request.to_be_bytes());
        let scope = Scope {
            account: post.instance.account,
            method: "POST",
            path: "/messages",
            key: &key,
        };
        match self.engine.idempotency().begin(scope, &body).await {
            Ok(Begin::Fresh(ticket)) => self.carry_out(ticket, post, asked, wait).await,
            Ok(Begin::Replay { body, .. }) => {
                self.oracle.reached.note(Rare::Replayed);
                Ok(replayed(&body, post))
            }
            // Its fate is open: an earlier try may come to something yet.
            Ok(Begin::InFlight) => {
                self.oracle.reached.note(Rare::StillInFlight);
                Err(AcceptError::OutcomeUnknown)
            }
            Ok(Begin::Mismatch) => panic!("a key is used for one body"),
            Err(_) => Err(AcceptError::OutcomeUnknown),
        }
    }

    async fn carry_out(
        &self,
        mut ticket: Ticket,
        post: &Post,
        asked: u64,
        wait: Duration,
    ) -> Result<Reserved, AcceptError> {
        let request = RequestId(u128::from(post.request) << 64 | u128::from(asked));
        let count = post.messages.len() as u32;
        let mut refused = AcceptError::Sealed;
        for _ in 0..OWNERS {
            let reserved = match self.engine.reserve(&post.instance, count, true).await {
                Ok(reserved) => reserved,
                // No id was given to anything.
                Err(AcceptError::OutcomeUnknown) => return Err(AcceptError::Moved),
                Err(why) => return Err(why),
            };
            let body = reserved.first.get().to_string();
            if ticket
                .promise(&reserved, 201, body.as_bytes())
                .await
                .is_err()
            {
                return Err(AcceptError::OutcomeUnknown);
            }
            tokio::time::sleep(wait).await;
            match self
                .engine
                .accept(reserved, submission(post, request))
                .await
            {
                Ok(accepted) => {
                    if !wait.is_zero() {
                        self.oracle.reached.note(Rare::AcceptedUnderReservedIds);
                    }
                    drop(ticket.finish(201, body.as_bytes()).await);
                    return Ok(accepted);
                }
                Err(AcceptError::Sealed) => self.oracle.reached.note(Rare::SealedIds),
                Err(why) => {
                    refused = why;
                    break;
                }
            }
        }
        if refused.is_certain() {
            drop(ticket.abandon().await);
        }
        Err(refused)
    }
}

/// What was answered before.
fn replayed(body: &[u8], post: &Post) -> Reserved {
    let text = std::str::from_utf8(body).expect("it was text");
    let first = text.parse().ok().and_then(MessageId::new);
    Reserved {
        first: first.expect("it was the id of a message"),
        count: post.messages.len() as u32,
        batch: None,
        created_at: Timestamp::from_micros(0),
        epoch: Epoch(0),
        given_at: Mono::default(),
    }
}
