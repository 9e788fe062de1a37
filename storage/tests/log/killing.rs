//! A process that is killed at any moment loses nothing that it acknowledged.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use super::support::{config, dir, open, write};

/// Tells the process that is killed where its log is.
const DIR: &str = "ZAJIL_TEST_LOG_DIR";

/// Groups that a process may acknowledge before it is killed, in each of the rounds.
const ROUNDS: [usize; 8] = [1, 2, 3, 40, 41, 150, 400, 401];

/// A payload that says which it is, and is as long as no other near it.
fn payload(number: u64) -> Vec<u8> {
    let mut payload = number.to_le_bytes().to_vec();
    payload.resize(8 + (number as usize * 131) % 5_000, 0xa5);
    payload
}

#[test]
#[ignore = "it is the process that another test kills"]
fn the_process_that_is_killed() {
    let Some(dir) = std::env::var_os(DIR) else {
        return;
    };
    let (log, _, replayed) = open(config(Path::new(&dir)));
    for number in replayed.len() as u64.. {
        write(&log, &[&payload(number)]);
        println!("acknowledged {number}");
        std::io::stdout().flush().expect("somebody listens");
    }
}

#[test]
fn a_process_that_is_killed_loses_nothing_that_it_acknowledged() {
    let dir = dir();
    let mut acknowledged = None;
    for count in ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "log::killing::the_process_that_is_killed"])
            .args(["--ignored", "--nocapture"])
            .env(DIR, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let told = output.lines().filter_map(|line| {
            line.unwrap()
                .rsplit_once("acknowledged ")
                .map(|(_, number)| number.parse().unwrap())
        });
        let mut told = told.inspect(|number: &u64| acknowledged = Some(*number));
        assert_eq!(told.by_ref().take(count).count(), count);
        child.kill().unwrap();
        // What it still told before it died counts too.
        told.for_each(drop);
        child.wait().unwrap();

        let (log, _, replayed) = open(config(dir.path()));
        assert!(
            replayed.len() as u64 > acknowledged.unwrap(),
            "what was acknowledged is there"
        );
        for (number, (lsn, _, found)) in (0..).zip(&replayed) {
            assert_eq!(*found, payload(number));
            assert_eq!(log.read(*lsn, found.len()).unwrap(), *found);
        }
    }
}
