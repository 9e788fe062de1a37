//! One WhatsApp number: the actor that owns its queues, its pace and its session.
//!
//! The handler translates: a message becomes a call of one of the parts below, and then
//! [`InstanceState::pump`] carries on whatever can go on. Nothing here waits for the store or the
//! network: appends and reads answer with a message, the transport with events.
//!
//! The way of a message: [`inbox`] reads it ahead into the window, [`outbox`] clears it, records
//! the attempt and hands it over, [`outcomes`] writes down what became of it.

use std::sync::Arc;

use futures_util::future::try_join3;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use rand::rngs::SmallRng;
use tokio::sync::oneshot;
use zajil_model::id::{BatchId, InstanceId, MessageId};
use zajil_model::instance::{Instance, Wanted};
use zajil_model::lane::Window;
use zajil_model::lifecycle::Status;
use zajil_model::message::Chunk;
use zajil_model::time::{Mono, Timestamp};
use zajil_storage::{MessageRecord, StoreError};
use zajil_transport::{Delivered, OpenError, Transport};

use crate::batch::PartState;
use crate::context::Context;
use crate::directory::SuppressionSet;
pub use crate::instance::ahead::Loaded;
use crate::instance::cap::Cap;
pub use crate::instance::cap::CapWritten;
pub use crate::instance::expire::Swept;
use crate::instance::handed::{Arrived, Handed};
use crate::instance::handle::Handle;
use crate::instance::inbox::{Inbox, Told};
use crate::instance::outbox::{Item, Outbox};
use crate::instance::outcomes::Outcomes;
pub use crate::instance::schedule::Scheduled;
use crate::instance::session::SessionState;
use crate::instance::upkeep::Upkeep;
use crate::send::{InstanceFigures, Waiting};
use crate::shard::Suspects;

mod admit;
mod ahead;
mod cap;
mod checkpoint;
mod claims;
mod damage;
mod expire;
mod expiries;
mod flights;
mod frames;
pub mod handed;
pub mod handle;
mod inbox;
mod outbox;
mod outcomes;
mod parts;
mod purge;
mod reads;
mod requests;
mod schedule;
mod session;
mod upkeep;
mod written;

/// What an instance is told.
#[derive(Debug)]
pub enum InstanceMsg {
    /// Messages were accepted, within the credit that was granted.
    Stored(Arc<Chunk>),
    /// Messages were accepted with ids older than others, within the credit that was granted.
    StoredLate(Arc<Chunk>),
    /// Messages were accepted that the actor was not told of.
    Grew,
    /// A part of a batch has new rows.
    PartGrew(BatchId),
    /// A message was accepted whose time is far off.
    DueAt(Timestamp),
    /// The state of a part, as the batch says; answered when it is in force.
    Part(BatchId, PartState, oneshot::Sender<bool>),
    /// The state of a part, as it was read.
    PartRead(BatchId, Option<PartState>),
    /// The time that the actor asked for came.
    Due,
    /// What was read ahead of a queue.
    Loaded(Loaded),
    /// What was read of the schedule.
    Scheduled(Scheduled),
    /// A page of a backlog was looked through for what expired.
    Swept(Swept),
    /// The store answered something that the actor waits for: see [`written`].
    Wrote,
    /// The opt-outs of the account were read.
    Suppressions(Option<Arc<SuppressionSet>>),
    /// The transport of a generation was opened.
    Opened(u32, Result<Arc<dyn Transport>, OpenError>),
    /// More of the daily cap was reserved, or was not.
    CapWritten(CapWritten),
    /// Something happened on the transport of a generation.
    Happened(u32, Delivered),
    /// The instance was changed; answered when it is in force.
    Apply(Arc<Instance>, oneshot::Sender<()>),
    /// A person asked for the session to be opened again.
    Connect,
    /// Withdraws one message.
    Cancel(MessageId, oneshot::Sender<Result<Status, StoreError>>),
    /// Withdraws everything.
    Purge(oneshot::Sender<Result<(), StoreError>>),
    /// That everything up to an id was withdrawn is durable.
    Purged(MessageId),
    /// What is known of waiting messages changed behind the actor's back: reads them again.
    ReadAgain,
    /// Answered in turn: what was cleared before is with the transport by now, or never leaves.
    Barrier(oneshot::Sender<()>),
    /// What it is doing.
    View(oneshot::Sender<InstanceFigures>),
    /// What a message waits for.
    Waiting(MessageRecord, oneshot::Sender<Option<Waiting>>),
    /// The shard is about to go to another node: answered when nothing is in flight any more.
    Quiet(oneshot::Sender<Handed>),
    /// The shard goes, whatever is in flight: answered when what is being recorded is durable.
    HandOver(oneshot::Sender<Handed>),
    /// Take nothing more on, finish what is in flight, and leave.
    Drain,
}

/// What an instance actor is started with.
#[derive(Debug)]
pub struct InstanceArgs {
    /// The way in to it.
    pub handle: Arc<Handle>,
    /// As its account set it up.
    pub instance: Arc<Instance>,
    /// Parts of batches that have work for it.
    pub parts: Vec<BatchId>,
    /// What its predecessors died in.
    pub suspects: Suspects,
}

/// The actor of one instance.
#[derive(Debug)]
pub struct InstanceActor {
    /// The ports and shared parts of the node.
    pub context: Arc<Context>,
}

/// Who this is, and what it was given.
pub(crate) struct Me {
    pub(crate) context: Arc<Context>,
    pub(crate) handle: Arc<Handle>,
    pub(crate) myself: ActorRef<InstanceMsg>,
    pub(crate) instance: Arc<Instance>,
    pub(crate) suspects: Suspects,
    pub(crate) random: SmallRng,
}

impl Me {
    pub(crate) fn id(&self) -> InstanceId {
        self.instance.id
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.context.clock.now()
    }

    /// Whether this node's lease lets frames of this instance leave now.
    fn may_send(&self) -> bool {
        let shard = self.handle.shard();
        let epoch = self.context.clocks.epoch(shard);
        let ownership = &self.context.ownership;
        epoch.is_some_and(|epoch| ownership.may_send_for(shard, epoch, self.mono()))
    }

    pub(crate) fn mono(&self) -> Mono {
        self.context.clock.mono()
    }

    /// A function that tells this actor something later, from wherever.
    pub(crate) fn teller(&self) -> impl Fn(InstanceMsg) + Send + Sync + use<> {
        let myself = self.myself.clone();
        // An actor that is gone reads what it missed when it starts again.
        move |msg| drop(myself.cast(msg))
    }
}

/// Everything an instance actor keeps.
pub struct InstanceState {
    pub(crate) me: Me,
    pub(crate) window: Window<Item>,
    pub(crate) inbox: Inbox,
    pub(crate) outbox: Outbox,
    pub(crate) outcomes: Outcomes,
    pub(crate) session: SessionState,
    upkeep: Upkeep,
}

impl std::fmt::Debug for InstanceState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InstanceState")
            .field("instance", &self.me.id())
            .finish_non_exhaustive()
    }
}

impl Actor for InstanceActor {
    type Msg = InstanceMsg;
    type State = InstanceState;
    type Arguments = InstanceArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<InstanceMsg>,
        args: InstanceArgs,
    ) -> Result<InstanceState, ActorProcessingErr> {
        let context = self.context.clone();
        // From here on it is told of everything; what was before, the reads below see.
        args.handle.set_actor(Some(myself.clone()));
        // Before anything is read: what another owner changed is in the rows once the shard is back.
        let epoch = context.clocks.ensure(args.handle.shard(), 1).await?;
        let instance = up_to_date(&context, args.instance).await?;
        let store = context.store.as_ref();
        let (saved, purged, cap) = try_join3(
            checkpoint::read(&context, instance.id),
            purge::read(store, instance.id),
            Cap::read(&context, &instance, epoch),
        )
        .await?;
        let mut inbox = Inbox::new(&args.parts, purged);
        inbox.count_unseen(store, instance.id).await?;
        let arrived = context.arrivals.take(instance.id, Some(epoch));
        let me = Me {
            random: context.random(instance.id),
            context,
            handle: args.handle,
            myself,
            instance,
            suspects: args.suspects,
        };
        let mono = me.mono();
        let mut state = InstanceState {
            inbox,
            outbox: Outbox::new(&me, &saved.pace, cap, mono),
            outcomes: Outcomes::default(),
            session: SessionState::new(&me, saved.closed),
            window: Window::new(),
            upkeep: Upkeep::new(mono),
            me,
        };
        if let Some(Arrived { handed, at, .. }) = arrived {
            state.outbox.pace.go_on(&handed.pace, at);
        }
        state.begin(args.parts);
        Ok(state)
    }

    async fn handle(
        &self,
        _myself: ActorRef<InstanceMsg>,
        msg: InstanceMsg,
        state: &mut InstanceState,
    ) -> Result<(), ActorProcessingErr> {
        let idle_may_end = matches!(msg, InstanceMsg::Due);
        state.on(msg);
        state.pump();
        state.tell_if_quiet();
        if (idle_may_end && state.may_leave()) || state.is_drained() {
            state.leave();
        }
        Ok(())
    }

    async fn post_stop(
        &self,
        _myself: ActorRef<InstanceMsg>,
        state: &mut InstanceState,
    ) -> Result<(), ActorProcessingErr> {
        state.session.leave(&state.me);
        Ok(())
    }
}

/// An instance as its row says now: who wanted it may have seen it before it was paused. One that
/// was deleted has no session.
async fn up_to_date(
    context: &Context,
    seen: Arc<Instance>,
) -> Result<Arc<Instance>, ActorProcessingErr> {
    let known = context.directory.instance_by_id(seen.id).await?;
    let deleted = || Instance {
        wanted: Wanted::Disconnected,
        ..seen.as_ref().clone()
    };
    Ok(known.unwrap_or_else(|| Arc::new(deleted())))
}

/// However it ends, its window counts no longer.
impl Drop for InstanceState {
    fn drop(&mut self) {
        self.count_bytes(0);
    }
}

impl InstanceState {
    /// Asks for everything that a fresh actor needs.
    fn begin(&mut self, parts: Vec<BatchId>) {
        self.read_suppressions();
        for batch in parts {
            self.read_part(batch);
        }
        self.inbox.schedule.ask();
        self.session.open(&self.me);
    }

    fn on(&mut self, msg: InstanceMsg) {
        match msg {
            InstanceMsg::Stored(chunk) => self.on_stored(chunk, Told::InOrder),
            InstanceMsg::StoredLate(chunk) => self.on_stored(chunk, Told::Late),
            InstanceMsg::Grew => self.inbox.grew(&self.me.handle),
            InstanceMsg::PartGrew(batch) => self.on_part_grew(batch),
            InstanceMsg::DueAt(due) => self.inbox.schedule.due_at(due),
            InstanceMsg::Part(batch, part, reply) => self.on_part(batch, part, reply),
            InstanceMsg::PartRead(batch, part) => self.on_part_read(batch, part),
            InstanceMsg::Due => self.upkeep.woke(self.me.mono()),
            InstanceMsg::Loaded(loaded) => self.on_loaded(loaded),
            InstanceMsg::Scheduled(scheduled) => self.on_scheduled(scheduled),
            InstanceMsg::Swept(swept) => self.on_swept(swept),
            InstanceMsg::Wrote => {}
            InstanceMsg::Suppressions(set) => self.on_suppressions(set),
            InstanceMsg::Opened(generation, result) => self.on_opened(generation, result),
            InstanceMsg::CapWritten(written) => self.on_cap_written(written),
            InstanceMsg::Happened(generation, delivered) => self.on_happened(generation, delivered),
            InstanceMsg::Apply(instance, reply) => self.on_apply(instance, reply),
            InstanceMsg::Connect => self.session.reopen(&self.me),
            InstanceMsg::Cancel(id, reply) => self.on_cancel(id, reply),
            InstanceMsg::Purge(reply) => self.on_purge(reply),
            InstanceMsg::Purged(upto) => self.inbox.was_purged(upto),
            InstanceMsg::ReadAgain => self.read_all_again(),
            InstanceMsg::Barrier(reply) => requests::answer(reply, ()),
            InstanceMsg::View(reply) => requests::answer(reply, self.figures()),
            InstanceMsg::Waiting(record, reply) => {
                requests::answer(reply, self.waiting_for(&record));
            }
            InstanceMsg::Quiet(reply) => self.upkeep.quiet.push(reply),
            InstanceMsg::HandOver(reply) => {
                self.outbox.flights.abandon();
                self.upkeep.quiet.push(reply);
            }
            InstanceMsg::Drain => {
                self.upkeep.draining = true;
                self.hold_all_back();
            }
        }
    }

    /// Carries on whatever can go on now, and asks to be woken for what comes next.
    fn pump(&mut self) {
        let (now, mono) = (self.me.now(), self.me.mono());
        self.take_answers();
        self.time_out(now, mono);
        self.open_when_due(now);
        self.expire(now);
        if self.can_send(now) {
            self.hand_over(now, mono);
            self.arm(now, mono);
        } else if self.outbox.claims.are_taken() {
            // However long it stands still: a crash meanwhile leaves nothing unknown.
            self.hold_all_back();
        }
        if !self.upkeep.draining {
            self.read_ahead(now);
            self.sweep(now);
        }
        self.flush_when_due(mono);
        self.count_bytes(self.window.bytes());
        self.wake_when_needed(now, mono);
        self.ask_for_answers(mono);
    }

    /// Whether a frame may leave now, pace aside.
    pub(crate) fn can_send(&self, now: Timestamp) -> bool {
        !self.upkeep.draining
            && self.me.may_send()
            && !self.me.instance.paused
            && !self.me.instance.held
            && !self.me.context.is_held()
            && self.session.can_send(now)
            && self.outbox.has_suppressions()
    }
}
