//! Brings what this node holds in line with the shard rows, and the rows with who is there.
//!
//! It takes no orders: it looks at the rows when something happened and every five seconds, asks
//! [`plan`](zajil_model::placement::plan) what to do, and does it, [`AT_ONCE`] shards at a time. What
//! fails is seen again at the next look.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use zajil_model::id::Shard;
use zajil_model::lease::shard::{Owner, ShardRow};
use zajil_model::lease::{NodeId, NodeRow};
use zajil_model::placement::missed::Missed;
use zajil_model::placement::order;
use zajil_model::placement::plan::{Patience, SOON, Seen, Step};
use zajil_model::time::Mono;

use crate::membership::{Fact, View};
use crate::shared::Shared;

mod give;
mod invite;
mod lose;
mod scan;
mod take;

pub use invite::TakeError;
pub(crate) use invite::{INVITES, Invite};
pub(crate) use lose::lose_all;

/// Shards that are opened or closed at the same time: enough to be through with a third of all in
/// a few rounds, and what a store bears in changes of rows.
pub(crate) const AT_ONCE: usize = 64;

/// How often the rows are read when nothing happened: what was missed is mended by then.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// The shortest time between two looks, whatever happens.
const LEAST_PAUSE: Duration = Duration::from_millis(100);

/// The shortest time between two looks because others tell that shards moved: they do so often while
/// many do, and who asks an owner of before is told who follows it.
const NEWS_PAUSE: Duration = Duration::from_millis(500);

/// The shortest time between two looks because an owner does not answer: it may be gone, or be
/// about to be called dead, and many ask for it.
const DOUBT_PAUSE: Duration = Duration::from_millis(500);

/// One life of this node, and whether it goes on.
#[derive(Clone, Debug)]
pub(crate) struct Life {
    pub(crate) me: Owner,
    pub(crate) over: CancellationToken,
}

/// Something to do with one shard.
#[derive(Debug)]
struct Job {
    shard: Shard,
    row: ShardRow,
    what: What,
}

#[derive(Debug)]
enum What {
    Step(Step),
    Invited(Invite),
}

/// What was done.
#[derive(Debug)]
enum Done {
    Looked(Option<scan::Rows>),
    Shard(Shard),
    Gave(Shard, Option<give::Given>),
}

/// Reconciles until this life is over and what was begun in it has ended.
pub(crate) async fn run(shared: &Arc<Shared>, life: &Life, invites: &mut mpsc::Receiver<Invite>) {
    let mut peers = shared.peers.subscribe();
    let known = peers.wait_for(Option::is_some);
    tokio::select! {
        biased;
        () = life.over.cancelled() => return,
        _ = known => {}
    }
    let mut reconciler = Reconciler::new(shared, life);
    let mut gossip = shared.ports.membership.changed();
    while !life.over.is_cancelled() {
        reconciler.begin();
        let wait = reconciler.wait();
        tokio::select! {
            biased;
            () = life.over.cancelled() => {}
            Some(done) = reconciler.work.next() => reconciler.done(done),
            Some(invite) = invites.recv() => reconciler.invited(invite),
            () = shared.look.notified() => reconciler.look_soon(),
            () = shared.ports.ownership.doubted() => reconciler.look_within(DOUBT_PAUSE),
            () = heard(&mut gossip) => reconciler.heard(&shared.ports.membership.peers()),
            () = sleep(wait) => {}
        }
    }
    // What is being opened or closed looks at the life itself, and ends soon.
    while reconciler.work.next().await.is_some() {}
}

/// Waits for gossip; for ever when there is none any more.
async fn heard(gossip: &mut watch::Receiver<View>) {
    if gossip.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

struct Reconciler<'a> {
    shared: &'a Arc<Shared>,
    life: &'a Life,
    patience: Patience,
    work: FuturesUnordered<BoxFuture<'static, Done>>,
    todo: Todo,
    looks: Looks,
    heard: Heard,
}

/// What is being done and what is to do.
#[derive(Debug)]
struct Todo {
    queue: VecDeque<Job>,
    busy: BTreeSet<Shard>,
    /// Who waits to hear of a shard that is busy: each gave one of at most [`AT_ONCE`] that this
    /// node took by the row, before it was told.
    waiting: Vec<Invite>,
    /// What shards that are given away wait for.
    turns: give::Turns,
}

impl Default for Todo {
    fn default() -> Self {
        Self {
            queue: VecDeque::new(),
            busy: BTreeSet::new(),
            waiting: Vec::new(),
            turns: give::Turns::new(),
        }
    }
}

/// When the rows are read.
#[derive(Debug, Default)]
struct Looks {
    running: bool,
    /// How soon the rows are read again, as something happened since that reading began.
    again: Option<Duration>,
    last: Mono,
    next: Mono,
}

/// What was heard of the others, and what they are told.
#[derive(Debug, Default)]
struct Heard {
    /// What gossip said that concerns shards.
    said: Vec<(NodeId, u64, bool)>,
    /// Who did not take what it was given.
    missed: Missed,
    /// Whether shards changed since the others were told.
    news: bool,
    version: u64,
}

impl<'a> Reconciler<'a> {
    fn new(shared: &'a Arc<Shared>, life: &'a Life) -> Self {
        Self {
            shared,
            life,
            patience: Patience::default(),
            work: FuturesUnordered::new(),
            todo: Todo::default(),
            looks: Looks::default(),
            heard: Heard::default(),
        }
    }

    /// Begins what there is room for.
    fn begin(&mut self) {
        let now = self.shared.mono();
        if !self.looks.running && now >= self.looks.next {
            (self.looks.running, self.looks.again) = (true, None);
            let shared = Arc::clone(self.shared);
            self.work.push(Box::pin(
                async move { Done::Looked(scan::read(&shared).await) },
            ));
        }
        while self.todo.busy.len() < AT_ONCE
            && let Some(job) = self.todo.queue.pop_front()
        {
            self.todo.busy.insert(job.shard);
            self.work.push(self.job(job));
        }
        self.shared.set_busy(self.todo.busy.len());
        if self.heard.news && self.todo.busy.is_empty() {
            self.heard.news = false;
            self.heard.version += 1;
            let version = Fact::ShardsVersion(self.heard.version);
            self.shared.ports.membership.publish(version);
        }
    }

    fn job(&self, job: Job) -> BoxFuture<'static, Done> {
        let (shared, life) = (Arc::clone(self.shared), self.life.clone());
        let Job { shard, row, what } = job;
        match what {
            What::Step(Step::Take) => Box::pin(async move {
                let owner_row = take::owner_row(&shared, &life, &row);
                let taken = take::take(&shared, &life, shard, row, owner_row, None).await;
                if let Err(error) = taken {
                    take::report(&shared, shard, &error);
                }
                Done::Shard(shard)
            }),
            What::Invited(invite) => Box::pin(async move {
                invite::accept(&shared, &life, invite).await;
                Done::Shard(shard)
            }),
            What::Step(Step::Give(to)) => {
                let turns = self.todo.turns.clone();
                Box::pin(async move {
                    let given = give::give(&shared, &life, shard, row, to, turns).await;
                    Done::Gave(shard, given)
                })
            }
            What::Step(Step::Lose) => Box::pin(async move {
                lose::lose(&shared, shard).await;
                Done::Shard(shard)
            }),
        }
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Looked(rows) => {
                self.looks.running = false;
                self.looks.last = self.shared.mono();
                self.looks.next = self.looks.last + LOOK_EVERY;
                if let Some(rows) = rows {
                    self.decide(&rows);
                }
                if let Some(pause) = self.looks.again {
                    self.look_within(pause);
                }
            }
            Done::Shard(shard) => self.finished(shard),
            Done::Gave(shard, given) => {
                match given {
                    Some(given) if given.told => self.heard.missed.told(given.to),
                    Some(given) => self.heard.missed.untold(shard, given.to, given.released),
                    None => {}
                }
                self.finished(shard);
            }
        }
    }

    fn finished(&mut self, shard: Shard) {
        self.todo.busy.remove(&shard);
        self.heard.news = true;
        let of_shard = |invite: &mut Invite| invite.shard == shard;
        for invite in self.todo.waiting.extract_if(.., of_shard) {
            invite.answer_as_held(self.shared);
        }
    }

    /// Another node released a shard to this one.
    fn invited(&mut self, invite: Invite) {
        let shard = invite.shard;
        if self.shared.is_leaving() {
            return invite.answer_as_held(self.shared);
        }
        if self.todo.busy.contains(&shard) {
            return self.todo.waiting.push(invite);
        }
        // At most one job a shard, so the queue is bounded by their number.
        self.todo.queue.retain(|job| job.shard != shard);
        let row = invite.row(self.life.me.node);
        let what = What::Invited(invite);
        self.todo.queue.push_front(Job { shard, row, what });
    }

    fn look_soon(&mut self) {
        self.look_within(LEAST_PAUSE);
    }

    fn look_within(&mut self, pause: Duration) {
        let soonest = self.looks.again.map_or(pause, |again| again.min(pause));
        self.looks.again = Some(soonest);
        self.looks.next = self.looks.next.min(self.looks.last + pause);
    }

    fn heard(&mut self, view: &View) {
        let matters =
            |peer: &crate::membership::Peer| (peer.node, peer.shards_version, peer.draining);
        let said: Vec<_> = view.iter().map(matters).collect();
        if said == self.heard.said {
            return;
        }
        let who = |(node, _, draining): &(NodeId, u64, bool)| (*node, *draining);
        let is_news_alone = said.iter().map(who).eq(self.heard.said.iter().map(who));
        self.heard.said = said;
        self.look_within(if is_news_alone {
            NEWS_PAUSE
        } else {
            LEAST_PAUSE
        });
    }

    fn wait(&self) -> Duration {
        let now = self.shared.mono();
        if self.looks.running {
            return LOOK_EVERY;
        }
        self.looks.next.since(now)
    }

    /// The rows were read: what is to do, and when to read them again.
    fn decide(&mut self, rows: &scan::Rows) {
        let nodes = self.nodes();
        scan::tell(self.shared, rows, &nodes);
        if !self.shared.is_active() || self.life.over.is_cancelled() {
            return;
        }
        let held = self.shared.ports.ownership.held();
        let silent = self.silent(rows, &nodes);
        let seen = Seen {
            me: self.life.me,
            leaving: self.shared.is_leaving(),
            rows: &rows.shards,
            nodes: &nodes,
            held: &held,
            silent: &silent,
        };
        let now = self.shared.mono();
        let plan = self.patience.plan(&seen, now);
        let fresh = |(shard, step): (Shard, Step)| Job {
            shard,
            row: rows.shards[&shard],
            what: What::Step(step),
        };
        let busy = &self.todo.busy;
        let steps = plan
            .steps
            .into_iter()
            .filter(|(shard, _)| !busy.contains(shard));
        let invited = |job: &Job| matches!(job.what, What::Invited(_));
        self.todo.queue.retain(invited);
        let known: BTreeSet<Shard> = self.todo.queue.iter().map(|job| job.shard).collect();
        let steps = steps.filter(|(shard, _)| !known.contains(shard));
        let mut fresh: Vec<Job> = steps.map(fresh).collect();
        fresh.sort_by_key(|job| order(job.shard));
        self.todo.queue.extend(fresh);
        if let Some(again) = plan.again {
            self.looks.next = now + again.clamp(LEAST_PAUSE, LOOK_EVERY);
        } else if !self.todo.queue.is_empty() {
            self.looks.next = now + SOON;
        }
    }

    /// The lease rows of all nodes, this one's as it should be by now.
    fn nodes(&self) -> BTreeMap<NodeId, NodeRow> {
        let peers = self.shared.peers.borrow().clone().unwrap_or_default();
        let mut nodes = (*peers).clone();
        if let Some(holder) = self.shared.holder.borrow().as_ref() {
            let state = self.shared.state();
            nodes.insert(
                self.life.me.node,
                NodeRow {
                    state,
                    ..*holder.row()
                },
            );
        }
        nodes
    }

    /// The nodes that nothing is given to.
    fn silent(&mut self, rows: &scan::Rows, nodes: &BTreeMap<NodeId, NodeRow>) -> BTreeSet<NodeId> {
        let now = self.shared.mono();
        let mut silent = self.heard.missed.look(&rows.shards, nodes, now);
        let view = self.shared.ports.membership.peers();
        let me = self.life.me.node;
        let unheard = |node: &NodeId| *node != me && view.get(*node).is_none();
        silent.extend(nodes.keys().copied().filter(unheard));
        silent
    }
}
