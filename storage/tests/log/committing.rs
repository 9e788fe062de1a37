//! The committer: many producers, one writer.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Barrier};

use super::support::{SEGMENT, SmallDisk, config, dir, open};
use zajil_storage::embedded::log::{
    Class, Committer, FileLog, Group, Item, LogConfig, LogError, LogState, Lsn, PushError,
    QUEUE_BYTES, RECORD_OVERHEAD, Stage,
};

#[derive(Debug)]
struct Append {
    payload: Vec<u8>,
    /// What it claims to take, where that is more.
    bytes: usize,
    class: Class,
    lsn: Lsn,
}

impl Append {
    fn new(class: Class, payload: Vec<u8>) -> Self {
        Self {
            bytes: payload.len(),
            payload,
            class,
            lsn: Lsn::ZERO,
        }
    }
}

impl Item for Append {
    fn bytes(&self) -> usize {
        self.bytes
    }

    fn records(&self) -> usize {
        1
    }

    fn class(&self) -> Class {
        self.class
    }
}

/// What became of an item.
#[derive(Debug)]
enum Told {
    Durable(Append, Lsn),
    Refused(Append, String),
}

/// Writes every item, except those that it answers itself, and tells what became of it.
struct Telling(SyncSender<Told>);

const ANSWERED: &[u8] = b"a condition does not hold";
const PANICS: &[u8] = b"a fault in a rule";

impl Stage for Telling {
    type Item = Append;

    fn prepare(&mut self, mut item: Append, group: &mut Group<'_>) -> Option<Append> {
        assert_ne!(item.payload, PANICS);
        if item.payload == ANSWERED {
            self.0
                .send(Told::Refused(item, "answered".into()))
                .expect("somebody listens");
            return None;
        }
        item.lsn = group.push(3, &item.payload).expect("there is room");
        Some(item)
    }

    fn durable(&mut self, items: Vec<Append>, end: Lsn) {
        for item in items {
            self.0
                .send(Told::Durable(item, end))
                .expect("somebody listens");
        }
    }

    fn refused(&mut self, item: Append, error: &LogError) {
        self.0
            .send(Told::Refused(item, error.to_string()))
            .expect("somebody listens");
    }
}

fn start(config: LogConfig) -> (Arc<FileLog>, Arc<Committer<Append>>, Receiver<Told>) {
    let log = Arc::new(open(config).0);
    let (tell, told) = sync_channel(100_000);
    let committer = Committer::start(&log, Telling(tell)).expect("the thread starts");
    (log, Arc::new(committer), told)
}

#[test]
fn what_many_threads_append_at_once_is_all_durable_and_in_their_order() {
    const THREADS: u32 = 8;
    const EACH: u32 = 400;
    let dir = dir();
    let (log, committer, told) = start(config(dir.path()));
    let begin = Arc::new(Barrier::new(THREADS as usize));
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let (committer, begin) = (committer.clone(), begin.clone());
            std::thread::spawn(move || {
                begin.wait();
                for count in 0..EACH {
                    let mut payload = [thread.to_le_bytes(), count.to_le_bytes()].concat();
                    payload.resize(8 + (count as usize * 37) % 3_000, 0xee);
                    let class = if count % 2 == 0 {
                        Class::Accept
                    } else {
                        Class::Other
                    };
                    committer.push(Append::new(class, payload)).unwrap();
                }
            })
        })
        .collect();
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
    committer.close();
    assert_eq!(committer.waiting(), (0, 0));
    drop(committer);

    let mut next = [0; THREADS as usize];
    let mut expected = Vec::new();
    for told in told {
        let Told::Durable(item, end) = told else {
            panic!("it was refused: {told:?}")
        };
        assert!(item.lsn < end && end <= log.end());
        let number = |at: usize| u32::from_le_bytes(item.payload[at..at + 4].try_into().unwrap());
        assert_eq!(number(4), next[number(0) as usize]);
        next[number(0) as usize] += 1;
        assert_eq!(
            log.read(item.lsn, item.payload.len()).unwrap(),
            item.payload
        );
        expected.push((item.lsn, 3, item.payload));
    }
    assert_eq!(next, [EACH; THREADS as usize]);
    drop(log);
    assert_eq!(open(config(dir.path())).2, expected);
}

#[test]
fn a_group_of_answered_items_writes_nothing() {
    let dir = dir();
    let (log, committer, told) = start(config(dir.path()));
    let end = log.end();
    committer
        .push(Append::new(Class::Other, ANSWERED.to_vec()))
        .unwrap();
    committer.close();
    assert!(matches!(told.recv().unwrap(), Told::Refused(_, why) if why == "answered"));
    assert_eq!((log.end(), log.groups()), (end, 0));
}

#[test]
fn too_much_waiting_refuses_accepts_first() {
    const CLAIMED: usize = 50_000;
    let dir = dir();
    let (log, committer, told) = start(config(dir.path()));
    let group = log.group(1, Class::Other).unwrap();
    // The committer waits for the group of the test, so that everything pushed is still held.
    let push = |class| {
        let claimed = Append {
            bytes: CLAIMED,
            ..Append::new(class, ANSWERED.to_vec())
        };
        committer.push(claimed)
    };
    let fits = QUEUE_BYTES.div_ceil(CLAIMED + RECORD_OVERHEAD);
    for _ in 0..fits {
        push(Class::Accept).unwrap();
    }
    assert!(matches!(push(Class::Accept), Err(PushError::Overloaded(_))));
    for _ in 0..(2 * QUEUE_BYTES).div_ceil(CLAIMED + RECORD_OVERHEAD) - fits {
        push(Class::Other).unwrap();
    }
    assert!(matches!(push(Class::Other), Err(PushError::Overloaded(_))));
    drop(group);
    committer.close();
    assert_eq!(committer.waiting(), (0, 0));
    assert!(told.try_iter().count() > 2 * fits - 2);
    assert!(matches!(push(Class::Other), Err(PushError::Closed(_))));
}

#[test]
fn a_full_disk_refuses_the_accepts_of_a_group_and_writes_the_rest() {
    let dir = dir();
    let disk = Arc::new(SmallDisk(AtomicU64::new(3 * SEGMENT)));
    let (log, committer, told) = start(LogConfig {
        medium: disk,
        ..config(dir.path())
    });
    let accept = || Append::new(Class::Accept, vec![2; 20_000]);
    loop {
        committer.push(accept()).unwrap();
        if matches!(told.recv().unwrap(), Told::Refused(..)) {
            break;
        }
    }
    assert_eq!(log.state(), LogState::Full);
    let hold = log.group(1, Class::Other).unwrap();
    committer.push(accept()).unwrap();
    committer
        .push(Append::new(Class::Other, vec![1; 10]))
        .unwrap();
    committer.push(accept()).unwrap();
    drop(hold);
    committer.close();
    drop(committer);
    let (mut durable, mut refused) = (0, 0);
    for told in told {
        match told {
            Told::Durable(item, _) => durable += usize::from(item.class == Class::Other),
            Told::Refused(item, why) => {
                assert_eq!(
                    (item.class, why.as_str()),
                    (Class::Accept, "no space is left for the log")
                );
                refused += 1;
            }
        }
    }
    assert_eq!((durable, refused), (1, 2));
}

#[test]
fn a_panic_in_the_stage_fails_the_log_and_closes_the_queue() {
    let dir = dir();
    let fatal = Arc::new(AtomicU64::new(0));
    let count = fatal.clone();
    let on_fatal = Arc::new(move |_: &LogError| {
        count.fetch_add(1, Ordering::SeqCst);
    });
    let (log, committer, _told) = start(LogConfig {
        on_fatal,
        ..config(dir.path())
    });
    committer
        .push(Append::new(Class::Other, PANICS.to_vec()))
        .unwrap();
    committer.close();
    assert_eq!(
        (log.state(), fatal.load(Ordering::SeqCst)),
        (LogState::Failed, 1)
    );
    let late = committer.push(Append::new(Class::Other, vec![1]));
    assert!(matches!(late, Err(PushError::Closed(_))));
}
