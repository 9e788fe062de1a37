//! The window of an instance against a naive model of its rules, and at full length.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use proptest::prelude::*;
use zajil_model::id::{BatchId, MessageId, Shard, Tick};
use zajil_model::lane::{Blocked, Ready, Taken, Window};
use zajil_model::message::Queue;
use zajil_model::phone::Phone;
use zajil_model::time::Timestamp;

mod naive;

use naive::{Naive, PARTS, Waiting};

fn recipient(n: u64) -> Phone {
    Phone::parse(&format!("+9665{n:08}")).expect("a number of twelve digits")
}

fn id(n: u64) -> MessageId {
    MessageId::give(Tick(n), Shard::of(1))
}

fn part(n: u64) -> Queue {
    Queue::Part(BatchId::new(n).expect("a small number"))
}

fn queue(n: u64) -> Queue {
    match n {
        0 => Queue::High,
        1 => Queue::Normal,
        _ => part(n),
    }
}

#[derive(Clone, Debug)]
enum Step {
    Push {
        queue: u64,
        recipient: u64,
        delay: u64,
        ttl: u64,
    },
    Take,
    TakeExpired,
    Finish(usize),
    Retry(usize, u64),
    Remove(usize),
    RemoveWhere(u64, usize),
    Pause(u64, bool),
    Postpone(u64, u64),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let queue = 0..2 + PARTS;
    let delay = prop_oneof![3 => Just(0), 1 => 1..40_u64];
    prop_oneof![
        8 => (queue.clone(), 0..6_u64, delay.clone(), 1..400_u64)
            .prop_map(|(queue, recipient, delay, ttl)| Step::Push { queue, recipient, delay, ttl }),
        10 => Just(Step::Take),
        1 => Just(Step::TakeExpired),
        6 => any::<usize>().prop_map(Step::Finish),
        2 => (any::<usize>(), delay).prop_map(|(which, delay)| Step::Retry(which, delay)),
        1 => any::<usize>().prop_map(Step::Remove),
        1 => (queue.clone(), any::<usize>()).prop_map(|(q, upto)| Step::RemoveWhere(q, upto)),
        1 => (queue.clone(), any::<bool>()).prop_map(|(q, paused)| Step::Pause(q, paused)),
        1 => (queue, 0..100_u64).prop_map(|(q, by)| Step::Postpone(q, by)),
        3 => (0..20_u64).prop_map(Step::Pass),
    ]
}

/// The window and the model, doing the same.
#[derive(Debug, Default)]
struct Twins {
    window: Window<u64>,
    naive: Naive,
    now: u64,
    given: u64,
    out: BTreeSet<MessageId>,
}

impl Twins {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.now as i64)
    }

    fn later(&self, by: u64) -> Timestamp {
        self.now() + Duration::from_millis(by)
    }

    fn flying(&self, which: usize) -> Option<Ready<u64>> {
        let flying = &self.naive.flying;
        (!flying.is_empty()).then(|| flying[which % flying.len()].clone())
    }

    fn gone(&mut self, id: MessageId) {
        assert!(self.out.insert(id), "{id} left twice");
    }

    fn push(&mut self, queue_no: u64, who: u64, delay: u64, ttl: u64) {
        self.given += 1;
        let ready = Ready {
            id: id(self.given),
            queue: queue(queue_no),
            recipient: recipient(who),
            not_before: self.later(delay),
            expires_at: self.later(ttl),
            attempts: 0,
            bytes: 10 + who as u32,
            item: self.given,
        };
        assert!(self.window.push(ready.clone(), self.now()));
        assert!(
            !self.window.push(ready.clone(), self.now()),
            "a second push changes nothing"
        );
        self.naive.push(ready);
    }

    fn take(&mut self) -> bool {
        let taken = self.window.take(self.now());
        self.naive.follow(taken.as_ref(), self.now());
        if let Some(Taken::Expired(ready)) = &taken {
            self.gone(ready.id);
        }
        taken.is_some()
    }

    fn finish(&mut self, which: usize) {
        if let Some(ready) = self.flying(which) {
            assert!(self.window.finished(ready.id));
            self.naive.flying.retain(|flying| flying.id != ready.id);
            self.gone(ready.id);
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Push {
                queue,
                recipient,
                delay,
                ttl,
            } => {
                self.push(queue, recipient, delay, ttl);
            }
            Step::Take => drop(self.take()),
            Step::TakeExpired => {
                let expired = self.window.take_expired(self.now());
                assert_eq!(expired.is_some(), self.naive.expired(self.now()));
                if let Some(ready) = expired {
                    assert_eq!(self.naive.remove(ready.id).as_ref(), Some(&ready));
                    self.gone(ready.id);
                }
            }
            Step::Finish(which) => self.finish(which),
            Step::Retry(which, delay) => {
                if let Some(mut ready) = self.flying(which) {
                    ready.attempts += 1;
                    ready.not_before = self.later(delay);
                    assert!(self.window.retry(ready.clone(), self.now()));
                    self.naive.retry(ready);
                }
            }
            Step::Remove(which) => {
                let id = id(which as u64 % (self.given + 1));
                let removed = self.window.remove(id);
                assert_eq!(removed, self.naive.remove(id));
                if removed.is_some() {
                    self.gone(id);
                }
            }
            Step::RemoveWhere(number, upto) => {
                let (queue, upto) = (queue(number), id(upto as u64 % (self.given + 1)));
                let named = |w: &&Waiting| w.ready.queue == queue && w.ready.id <= upto;
                let mut expected: Vec<MessageId> = self
                    .naive
                    .waiting
                    .iter()
                    .filter(named)
                    .map(|w| w.ready.id)
                    .collect();
                expected.sort_unstable();
                let removed = self.window.remove_where(|other| other == queue, upto);
                assert_eq!(removed.iter().map(|r| r.id).collect::<Vec<_>>(), expected);
                for id in expected {
                    self.naive.remove(id);
                    self.gone(id);
                }
            }
            Step::Pause(number, paused) => {
                self.window.set_paused(queue(number), paused);
                self.naive.pause(queue(number), paused);
            }
            Step::Postpone(number, by) => {
                let by = Duration::from_millis(by);
                self.window.postpone_expiry(queue(number), by);
                let of = |w: &&mut Waiting| w.ready.queue == queue(number);
                for waiting in self.naive.waiting.iter_mut().filter(of) {
                    waiting.ready.expires_at = waiting.ready.expires_at + by;
                }
            }
            Step::Pass(by) => self.now += by,
        }
    }

    fn check(&self) {
        let (window, naive, now) = (&self.window, &self.naive, self.now());
        assert_eq!(window.len(), naive.waiting.len());
        assert_eq!(window.in_flight_count(), naive.flying.len());
        let flying: BTreeSet<_> = naive.flying.iter().map(|r| r.id).collect();
        assert_eq!(window.in_flight().collect::<BTreeSet<_>>(), flying);
        assert_eq!(
            window.bytes(),
            naive.waiting.iter().map(|w| w.ready.bytes as usize).sum()
        );
        assert_eq!(window.next_wake(now), naive.next_wake(now));
        for number in 0..2 + PARTS {
            let of = naive
                .waiting
                .iter()
                .filter(|w| w.ready.queue == queue(number))
                .count();
            assert_eq!(window.len_of(queue(number)), of);
        }
        for (at, waiting) in naive.waiting.iter().enumerate() {
            let (told, held) = (window.blocked_reason(waiting.ready.id), naive.held(at, now));
            let not_yet_woken = told == Blocked::NotBefore && held == Blocked::Ready;
            assert!(told == held || not_yet_woken, "{told:?} is {held:?}");
        }
        for id in &self.out {
            assert_eq!(window.blocked_reason(*id), Blocked::Absent);
        }
    }

    /// Lets everything out that is still in.
    fn drain(&mut self) {
        for number in 0..2 + PARTS {
            self.step(&Step::Pause(number, false));
        }
        while !self.window.is_empty() || self.window.in_flight_count() > 0 {
            if !self.take() {
                self.finish(0);
                self.now += 1;
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn the_window_keeps_order_time_lanes_and_pause_and_loses_nothing(
        steps in proptest::collection::vec(step(), 1..250),
    ) {
        let mut twins = Twins::default();
        for step in steps {
            twins.step(&step);
            twins.check();
        }
        twins.drain();

        prop_assert_eq!(twins.out.len() as u64, twins.given, "each message left once");
        prop_assert_eq!(twins.window.bytes(), 0);
        prop_assert_eq!(twins.window.next_wake(twins.now()), None);
    }
}

fn at_once(n: u64, queue: Queue, who: u64) -> Ready<()> {
    let (not_before, expires_at) = (Timestamp::from_seconds(0), Timestamp::from_seconds(86_400));
    let (id, recipient) = (id(n), recipient(who));
    Ready {
        id,
        queue,
        recipient,
        not_before,
        expires_at,
        attempts: 0,
        bytes: 200,
        item: (),
    }
}

fn go(window: &mut Window<()>) -> Option<Ready<()>> {
    match window.take(Timestamp::from_seconds(1))? {
        Taken::Go(ready) => Some(ready),
        Taken::Expired(ready) => panic!("{ready:?} expired"),
    }
}

#[test]
fn a_paused_campaign_does_not_hold_another_one_to_the_same_people() {
    let mut window = Window::new();
    let now = Timestamp::from_seconds(1);
    window.push(at_once(1, part(2), 7), now);
    window.push(at_once(2, part(3), 7), now);

    window.set_paused(part(2), true);

    assert_eq!(go(&mut window).map(|ready| ready.id), Some(id(2)));
    assert_eq!(window.blocked_reason(id(1)), Blocked::Paused);
    assert_eq!(window.room(part(2), 20), 0);
}

#[test]
fn a_code_overtakes_a_campaign_on_the_same_number() {
    let mut window = Window::new();
    let now = Timestamp::from_seconds(1);
    for n in 0..100 {
        window.push(at_once(n, part(2), n), now);
    }
    for _ in 0..50 {
        go(&mut window);
    }

    window.push(at_once(500, Queue::High, 500), now);

    assert_eq!(go(&mut window).map(|ready| ready.id), Some(id(500)));
}

#[test]
fn held_recipients_do_not_use_up_the_window_and_never_more_than_the_cap() {
    let mut window = Window::new();
    let (now, target) = (Timestamp::from_seconds(1), 20);
    for n in 0..1_000 {
        window.push(at_once(n, Queue::Normal, 7), now);
    }

    assert_eq!(window.room(Queue::Normal, target), 19);
    assert_eq!(window.room(Queue::High, target), 20);
    for n in 1_000..1_020 {
        window.push(at_once(n, Queue::Normal, 7), now);
    }
    assert_eq!(window.room(Queue::Normal, target), 4);
}

#[test]
fn many_stuck_campaigns_leave_each_a_little_room() {
    let mut window = Window::new();
    let now = Timestamp::from_seconds(1);
    for n in 0..4_096 {
        window.push(at_once(n, part(2 + n / 1_024), n / 1_024), now);
    }

    assert_eq!(window.room(part(9), 20), 4);
    assert_eq!(window.room(part(2), 20), 0);
}

#[test]
fn a_million_messages_go_once_each_in_the_order_of_their_recipients() {
    const MESSAGES: u64 = 1_000_000;
    const RECIPIENTS: u64 = 5_000;
    let mut window = Window::new();
    let (mut pushed, mut went, mut flying) = (0, 0, VecDeque::new());
    let mut last = vec![0; RECIPIENTS as usize];
    while went < MESSAGES {
        while pushed < MESSAGES && window.room(Queue::Normal, 256) > 0 {
            pushed += 1;
            let who = pushed * 7 % RECIPIENTS;
            assert!(window.push(
                at_once(pushed, Queue::Normal, who),
                Timestamp::from_seconds(1)
            ));
        }
        while let Some(ready) = go(&mut window) {
            let who = (ready.id.tick().0 * 7 % RECIPIENTS) as usize;
            assert!(ready.id.tick().0 > last[who]);
            last[who] = ready.id.tick().0;
            went += 1;
            flying.push_back(ready.id);
            if flying.len() > 64 {
                let done = flying.pop_front().unwrap();
                assert!(window.finished(done));
            }
        }
    }

    assert_eq!((pushed, went, window.len()), (MESSAGES, MESSAGES, 0));
    assert_eq!(window.in_flight_count(), flying.len());
}
