//! Open load: a thread a connection, each with its share of the beats.
//!
//! Threads, because a runtime's timer wakes only at whole milliseconds and then all at once. An
//! answer is timed from when its request should have left; where the thread slept until then,
//! from when it woke, so that the lateness of the system's timer is not the server's.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use super::requests::answer;
use super::{Counts, Outcome, Plan, Requests, Until};
use crate::measure;

/// A connection that gets no answer for so long is given up.
const PATIENCE: Duration = Duration::from_secs(10);

/// When the requests of one connection leave.
struct Beat {
    zero: Instant,
    first: f64,
    every: f64,
    until: Instant,
}

impl Beat {
    fn at(&self, n: u64) -> Instant {
        self.zero + Duration::from_secs_f64(self.first + self.every * n as f64)
    }
}

pub(super) fn run(
    plan: &Plan,
    requests: &Requests,
    rate: f64,
    zero: Instant,
    began: Instant,
) -> Counts {
    let seconds = match plan.until {
        Until::Seconds(seconds) => seconds,
        Until::Accepted(wanted) => wanted as f64 / rate,
    };
    let until = began + Duration::from_secs_f64(seconds);
    let mut all = Counts::new(began);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..plan.connections)
            .map(|n| {
                let every = plan.connections as f64 / rate;
                let beat = Beat {
                    zero,
                    first: n as f64 / rate,
                    every,
                    until,
                };
                let most = ((until - zero).as_secs_f64() / every).ceil() as usize + 1;
                let mut counts = Counts::with_room(began, most);
                scope.spawn(move || {
                    let mut next = 0;
                    while beat.at(next) < until {
                        if converse(plan, requests, &beat, n, &mut next, &mut counts).is_err() {
                            counts.note(Outcome::Broke, Duration::ZERO, measure::now());
                            next += 1;
                        }
                    }
                    counts
                })
            })
            .collect();
        for thread in threads {
            all.merge(thread.join().expect("a connection does not panic"));
        }
    });
    all
}

fn converse(
    plan: &Plan,
    requests: &Requests,
    beat: &Beat,
    connection: usize,
    next: &mut u64,
    counts: &mut Counts,
) -> io::Result<()> {
    let mut stream = TcpStream::connect(plan.address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut buffer = vec![0; 32 << 10];
    loop {
        let due = beat.at(*next);
        if due >= beat.until {
            return Ok(());
        }
        let now = measure::now();
        let from = if now < due {
            thread::sleep(due - now);
            measure::now()
        } else {
            due
        };
        let number = *next * plan.connections as u64 + connection as u64;
        stream.write_all(requests.get(number))?;
        let mut filled = 0;
        let status = loop {
            if let Some((status, _)) = answer(&buffer[..filled]) {
                break status;
            }
            match stream.read(&mut buffer[filled..])? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => filled += read,
            }
        };
        let at = measure::now();
        // What was due before the counting began belongs to the warm-up.
        if from >= counts.began {
            counts.note(Outcome::Answered(status), at - from, at);
        }
        *next += 1;
    }
}
