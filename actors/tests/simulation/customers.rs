//! The customers: they post, cancel, pause and opt out at whichever node, and write down what they
//! were told.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::Mutex;
use rand::Rng;
use rand::rngs::SmallRng;
use zajil_model::id::{AccountId, Shard};
use zajil_model::instance::Instance;
use zajil_model::message::{DEFAULT_TTL_SECONDS, Lane, Message, OnAmbiguous, Payload};
use zajil_model::phone::Phone;
use zajil_model::time::Timestamp;

use crate::book::{Book, Held};
use crate::clock::wall;
use crate::oracle::Oracle;
use crate::process::Process;
use crate::rare::Rare;
use crate::wire::Wire;

pub(crate) mod campaign;
mod campaigns;
mod desk;
mod keyed;

use campaign::Campaign;
use campaigns::Epochs;
use desk::Desk;
use keyed::{Keyed, Unanswered};

/// Recipients of each instance: few, so that order matters.
const RECIPIENTS: u64 = 5;

/// Of these, the last opts out.
const OPTS_OUT: u64 = RECIPIENTS - 1;

/// After a resumption of which nobody knows, a pause proves nothing for so long: the resumption may
/// still come.
const MURKY_FOR: Duration = Duration::from_secs(40);

/// Messages that are asked for together, for one instance.
#[derive(Clone, Debug)]
struct Post {
    instance: Arc<Instance>,
    lane: Lane,
    messages: Vec<Message>,
    request: u64,
}

/// An instance, as who uses it knows.
#[derive(Debug)]
struct Used {
    instance: Arc<Instance>,
    paused: bool,
    /// Somebody is changing it.
    busy: Arc<Mutex<Busy>>,
}

#[derive(Debug, Default)]
struct Busy {
    changing: bool,
    /// Counts what was asked for: of what was overtaken nothing is written down.
    turn: u64,
    murky_until: Duration,
}

/// See above.
#[derive(Debug)]
pub(crate) struct Customers {
    pub(crate) account: AccountId,
    used: Vec<Used>,
    pub(crate) book: Arc<Book>,
    oracle: Arc<Oracle>,
    wire: Wire,
    requests: u64,
    /// What was refused and is asked for again.
    again: Arc<Mutex<Vec<Post>>>,
    unanswered: Unanswered,
    pub(crate) campaigns: Vec<Campaign>,
}

impl Customers {
    pub(crate) fn new(
        account: AccountId,
        instances: Vec<Arc<Instance>>,
        campaigns: Vec<Campaign>,
        oracle: Arc<Oracle>,
        wire: Wire,
    ) -> Self {
        let use_it = |instance| Used {
            instance,
            paused: false,
            busy: Arc::default(),
        };
        Self {
            account,
            used: instances.into_iter().map(use_it).collect(),
            book: Arc::default(),
            oracle,
            wire,
            requests: 0,
            again: Arc::default(),
            unanswered: Arc::default(),
            campaigns,
        }
    }

    pub(crate) fn instances(&self) -> Vec<Arc<Instance>> {
        self.used.iter().map(|used| used.instance.clone()).collect()
    }

    /// Somebody asks for something at this node. `moving` says which shards have no owner now.
    pub(crate) fn ask(
        &mut self,
        random: &mut SmallRng,
        at: &Process,
        moving: &dyn Fn(Shard) -> bool,
    ) {
        let Some(desk) = Desk::at(at, &self.book, &self.oracle) else {
            return;
        };
        let handle = at.handle().clone();
        match random.random_range(0..100) {
            ..45 => {
                let count = if random.random_bool(0.5) {
                    1
                } else {
                    random.random_range(2..6)
                };
                let post = self.post(random, count);
                let again = Arc::clone(&self.again);
                handle.spawn(async move { desk.post(post, again).await });
            }
            45..57 => {
                // A bulk over several instances: each gets its part.
                let posts: Vec<Post> = (0..3).map(|_| self.post(random, 2)).collect();
                if posts.iter().any(|post| moving(post.instance.id.shard())) {
                    self.oracle.reached.note(Rare::BulkWhileMoving);
                }
                let again = Arc::clone(&self.again);
                handle.spawn(async move {
                    let each = |post| desk.post(post, Arc::clone(&again));
                    join_all(posts.into_iter().map(each)).await;
                });
            }
            57..67 => {
                let keyed = Keyed {
                    post: self.post(random, 2),
                    began: self.wire.now(),
                    asked: 0,
                };
                let wait = Duration::from_millis(random.random_range(0..1_500));
                self.ask_with_key(keyed, wait, desk, &handle);
            }
            67..71 => {
                let repeated = self.unanswered.lock().pop_first();
                if let Some((_, keyed)) = repeated {
                    self.ask_with_key(keyed, Duration::ZERO, desk, &handle);
                }
            }
            71..75 => {
                let post = self.again.lock().pop();
                if let Some(mut post) = post {
                    // Another request, for the same messages.
                    self.requests += 1;
                    post.request = self.requests;
                    let again = Arc::clone(&self.again);
                    handle.spawn(async move { desk.post(post, again).await });
                }
            }
            75..77 => {
                let place = random.random_range(0..self.used.len());
                let instance = Arc::clone(&self.used[place].instance);
                handle.spawn(async move { desk.purge(&instance).await });
            }
            77..85 => {
                let account = self.account;
                if let Some(id) = self.book.some_accepted(random.random_range(0..8)) {
                    handle.spawn(async move {
                        if desk.engine.cancel(account, id).await.is_ok() {
                            desk.says(|| format!("{id} is cancelled"));
                            desk.oracle.reached.note(Rare::Cancelled);
                            desk.book.barrier(Held::Message(id), desk.now());
                        }
                    });
                }
            }
            85..96 => {
                let place = random.random_range(0..self.used.len());
                let pause = !self.used[place].paused;
                if pause && moving(self.used[place].instance.id.shard()) {
                    self.oracle.reached.note(Rare::PauseWhileMoving);
                }
                self.turn(place, pause, &desk, &handle);
            }
            _ => {
                let instance = random.random_range(0..self.used.len() as u64);
                let (account, phone) = (self.account, recipient(instance, OPTS_OUT));
                if self
                    .used
                    .iter()
                    .any(|used| moving(used.instance.id.shard()))
                {
                    self.oracle.reached.note(Rare::OptOutWhileMoving);
                }
                handle.spawn(async move { desk.opt_out(account, phone).await });
            }
        }
    }

    fn ask_with_key(
        &self,
        keyed: Keyed,
        wait: Duration,
        desk: Desk,
        handle: &tokio::runtime::Handle,
    ) {
        let unanswered = Arc::clone(&self.unanswered);
        handle.spawn(async move { desk.ask_with_key(keyed, wait, unanswered).await });
    }

    /// Whoever has a key and no answer asks again, at this node.
    pub(crate) fn repeat_all(&self, at: &Process) {
        let Some(desk) = Desk::at(at, &self.book, &self.oracle) else {
            return;
        };
        let unanswered = std::mem::take(&mut *self.unanswered.lock());
        for keyed in unanswered.into_values() {
            self.ask_with_key(keyed, Duration::ZERO, desk.clone(), at.handle());
        }
    }

    /// Whether everybody with a key has an answer, or asks.
    pub(crate) fn all_answered(&self) -> bool {
        self.unanswered.lock().is_empty()
    }

    /// Somebody does something for a campaign at this node; in `peace` it is brought to its end.
    pub(crate) fn campaign(
        &self,
        random: &mut SmallRng,
        at: &Process,
        peace: bool,
        epochs: Epochs<'_>,
    ) {
        let Some(desk) = Desk::at(at, &self.book, &self.oracle) else {
            return;
        };
        let campaign = &self.campaigns[random.random_range(0..self.campaigns.len())];
        let desk = (desk, self.account);
        let now = self.wire.now();
        campaign.go_on(desk, at.handle(), random, (now, peace, epochs));
    }

    /// Nobody pauses anything any more, at this node.
    pub(crate) fn resume_all(&mut self, at: &Process) {
        let Some(desk) = Desk::at(at, &self.book, &self.oracle) else {
            return;
        };
        for place in 0..self.used.len() {
            self.used[place].busy.lock().changing = false;
            self.turn(place, false, &desk, at.handle());
        }
    }

    fn turn(&mut self, place: usize, pause: bool, desk: &Desk, handle: &tokio::runtime::Handle) {
        let used = &mut self.used[place];
        let now = self.wire.now();
        let turn = {
            let mut busy = used.busy.lock();
            if busy.changing {
                return;
            }
            (busy.changing, busy.turn) = (true, busy.turn + 1);
            busy.turn
        };
        used.paused = pause;
        if !pause {
            self.book.resumes(used.instance.id, now);
        }
        let (busy, desk) = (Arc::clone(&used.busy), desk.clone());
        let instance = Arc::clone(&used.instance);
        handle.spawn(async move {
            let done = desk.turn(&instance, pause).await;
            let mut busy = busy.lock();
            let overtaken = busy.turn != turn;
            if !overtaken {
                busy.changing = false;
            }
            if !done || overtaken {
                busy.murky_until = desk.now() + MURKY_FOR;
            } else if pause && busy.murky_until < desk.now() {
                desk.says(|| format!("instance {} is paused", instance.id));
                desk.book.barrier(Held::Instance(instance.id), desk.now());
            }
        });
    }

    fn post(&mut self, random: &mut SmallRng, count: usize) -> Post {
        self.requests += 1;
        let request = self.requests;
        let number = random.random_range(0..self.used.len());
        let lane = if random.random_bool(0.2) {
            Lane::High
        } else {
            Lane::Normal
        };
        let message = |place: usize, random: &mut SmallRng| Message {
            recipient: recipient(number as u64, random.random_range(0..RECIPIENTS)),
            payload: Payload::Text("hello".into()),
            send_at: self.some_time(random),
            ttl_seconds: DEFAULT_TTL_SECONDS,
            client_ref: Some(format!("{request}-{place}").into()),
            on_ambiguous: OnAmbiguous::Unknown,
        };
        Post {
            instance: Arc::clone(&self.used[number].instance),
            lane,
            messages: (0..count).map(|place| message(place, random)).collect(),
            request,
        }
    }

    fn some_time(&self, random: &mut SmallRng) -> Option<Timestamp> {
        let later = Duration::from_millis(random.random_range(1_000..45_000));
        random
            .random_bool(0.06)
            .then(|| wall(self.wire.now()) + later)
    }
}

/// A recipient of an instance.
fn recipient(instance: u64, number: u64) -> Phone {
    let text = format!("+9665012{instance:02}{number:03}");
    Phone::parse(&text).expect("it is a number that can be")
}
