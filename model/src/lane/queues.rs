//! What of each queue may go, which queue is next, and how much more of it fits into memory.

use std::collections::{BTreeMap, VecDeque};

use rustc_hash::FxHashMap;

use super::lines::SlotIndex;
use super::shares::Shares;
use super::{BULK_CAP, LEAST_WINDOW, QUEUE_CAP};
use crate::id::BatchId;
use crate::message::{Lane, Queue};

/// One queue in the window.
#[derive(Debug, Default)]
pub(super) struct QueueState {
    /// Those that may go, by order.
    ready: BTreeMap<u64, SlotIndex>,
    /// All of them, by order, while the queue is paused.
    shelf: BTreeMap<u64, SlotIndex>,
    len: usize,
    paused: bool,
    /// Whether a part stands in `Queues::turns`.
    in_turn: bool,
}

/// All queues of an instance.
#[derive(Debug, Default)]
pub(super) struct Queues {
    high: QueueState,
    normal: QueueState,
    /// Parts with messages in the window, or paused, or still in `turns`.
    parts: FxHashMap<BatchId, QueueState>,
    /// The parts in the order of their turns: each that has something ready, and some that had.
    turns: VecDeque<BatchId>,
    /// How many may go, by lane.
    ready: [usize; 3],
    bulk_len: usize,
    shares: Shares,
}

impl Queues {
    fn state(&self, queue: Queue) -> Option<&QueueState> {
        match queue {
            Queue::High => Some(&self.high),
            Queue::Normal => Some(&self.normal),
            Queue::Part(batch) => self.parts.get(&batch),
        }
    }

    fn state_mut(&mut self, queue: Queue) -> &mut QueueState {
        match queue {
            Queue::High => &mut self.high,
            Queue::Normal => &mut self.normal,
            Queue::Part(batch) => self.parts.entry(batch).or_default(),
        }
    }

    fn forget_if_idle(&mut self, queue: Queue) {
        let Queue::Part(batch) = queue else { return };
        let idle = |part: &QueueState| part.len == 0 && !part.paused && !part.in_turn;
        if self.parts.get(&batch).is_some_and(idle) {
            self.parts.remove(&batch);
        }
    }

    /// Messages of a queue that wait.
    pub(super) fn len_of(&self, queue: Queue) -> usize {
        self.state(queue).map_or(0, |state| state.len)
    }

    /// Messages that may go.
    pub(super) fn ready_count(&self) -> usize {
        self.ready.iter().sum()
    }

    /// A message came into the window.
    pub(super) fn came(&mut self, queue: Queue) {
        self.state_mut(queue).len += 1;
        self.bulk_len += usize::from(queue.lane() == Lane::Bulk);
    }

    /// A message left the window.
    pub(super) fn left(&mut self, queue: Queue) {
        self.state_mut(queue).len -= 1;
        self.bulk_len -= usize::from(queue.lane() == Lane::Bulk);
        self.forget_if_idle(queue);
    }

    /// A message may go from now on.
    pub(super) fn add_ready(&mut self, queue: Queue, order: u64, at: SlotIndex) {
        let state = self.state_mut(queue);
        state.ready.insert(order, at);
        let joins = !std::mem::replace(&mut state.in_turn, true);
        self.ready[queue.lane() as usize] += 1;
        if let (Queue::Part(batch), true) = (queue, joins) {
            self.turns.push_back(batch);
        }
    }

    /// A message may not go any more.
    pub(super) fn remove_ready(&mut self, queue: Queue, order: u64) {
        let removed = self.state_mut(queue).ready.remove(&order).is_some();
        self.ready[queue.lane() as usize] -= usize::from(removed);
    }

    /// The message whose turn it is; it stays until [`Self::remove_ready`].
    pub(super) fn turn(&mut self) -> Option<SlotIndex> {
        let lane = self.shares.turn(self.ready.map(|ready| ready > 0))?;
        let state = match lane {
            Lane::High => &self.high,
            Lane::Normal => &self.normal,
            Lane::Bulk => self.turn_of_part()?,
        };
        state.ready.first_key_value().map(|(_, at)| *at)
    }

    fn turn_of_part(&mut self) -> Option<&QueueState> {
        while let Some(batch) = self.turns.pop_front() {
            let part = self.parts.get_mut(&batch).expect("a part in turn is kept");
            if !part.ready.is_empty() {
                self.turns.push_back(batch);
                return self.parts.get(&batch);
            }
            part.in_turn = false;
            self.forget_if_idle(Queue::Part(batch));
        }
        None
    }

    /// Whether a queue is paused.
    pub(super) fn is_paused(&self, queue: Queue) -> bool {
        self.state(queue).is_some_and(|state| state.paused)
    }

    /// Pauses a queue or lets it go on; answers whether that changed anything.
    pub(super) fn set_paused(&mut self, queue: Queue, paused: bool) -> bool {
        let before = std::mem::replace(&mut self.state_mut(queue).paused, paused);
        self.forget_if_idle(queue);
        before != paused
    }

    /// Puts a message of a paused queue on its shelf.
    pub(super) fn shelve(&mut self, queue: Queue, order: u64, at: SlotIndex) {
        self.state_mut(queue).shelf.insert(order, at);
    }

    /// Takes a message off the shelf.
    pub(super) fn unshelve(&mut self, queue: Queue, order: u64) {
        self.state_mut(queue).shelf.remove(&order);
    }

    /// Takes all messages off the shelf, in order.
    pub(super) fn clear_shelf(&mut self, queue: Queue) -> impl Iterator<Item = SlotIndex> + use<> {
        std::mem::take(&mut self.state_mut(queue).shelf).into_values()
    }

    /// How many more messages of a queue to read ahead: see [`super::Window::room`].
    pub(super) fn room(&self, queue: Queue, target: usize) -> usize {
        let idle = QueueState::default();
        let state = self.state(queue).unwrap_or(&idle);
        if state.paused {
            return 0;
        }
        let mut fits = QUEUE_CAP.saturating_sub(state.len);
        if queue.lane() == Lane::Bulk {
            let beside_others = BULK_CAP.saturating_sub(self.bulk_len);
            fits = fits.min(beside_others.max(LEAST_WINDOW.saturating_sub(state.len)));
        }
        target.saturating_sub(state.ready.len()).min(fits)
    }
}
