//! A batch does what its people ask, and only what its state allows.

use std::time::Duration;

use proptest::prelude::*;
use zajil_model::batch::{Batch, BatchState, Command, Effect, NotDone, WrongState};
use zajil_model::time::Timestamp;

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_seconds(1_800_000_000) + Duration::from_secs(seconds)
}

/// A batch in each state, made at 0.
fn in_state(state: BatchState) -> Batch {
    let mut batch = Batch::draft(at(0));
    let commands: &[Command] = match state {
        BatchState::Draft => &[],
        BatchState::Running => &[Command::Start],
        BatchState::Paused => &[Command::Start, Command::Pause],
        BatchState::Finished => &[Command::Start, Command::Seal],
        BatchState::Cancelled => &[Command::Cancel],
    };
    for command in commands {
        assert_eq!(batch.command(*command, at(1)), Ok(Effect::Changed));
    }
    batch.review(0, at(2));
    assert_eq!(batch.state, state);
    batch
}

#[test]
fn each_change_of_state_raises_the_revision_and_nothing_else_does() {
    let mut batch = Batch::draft(at(0));
    let mut revisions = vec![batch.revision];

    for command in [
        Command::Start,
        Command::Start,
        Command::Pause,
        Command::Resume,
        Command::Seal,
    ] {
        batch.command(command, at(1)).unwrap();
        revisions.push(batch.revision);
    }
    batch.review(1, at(2));
    revisions.push(batch.revision);
    batch.review(0, at(3));
    revisions.push(batch.revision);

    assert_eq!(revisions, [0, 1, 1, 2, 3, 3, 3, 4]);
}

#[test]
fn each_state_allows_the_commands_that_it_should() {
    use BatchState::{Cancelled, Draft, Finished, Paused, Running};
    let allowed = [
        (Command::Start, vec![(Draft, Running), (Running, Running)]),
        (Command::Pause, vec![(Running, Paused), (Paused, Paused)]),
        (Command::Resume, vec![(Paused, Running), (Running, Running)]),
        (
            Command::Cancel,
            vec![
                (Draft, Cancelled),
                (Running, Cancelled),
                (Paused, Cancelled),
                (Cancelled, Cancelled),
            ],
        ),
        (
            Command::Seal,
            vec![
                (Draft, Draft),
                (Running, Running),
                (Paused, Paused),
                (Finished, Finished),
            ],
        ),
    ];

    for (command, moves) in allowed {
        for from in BatchState::ALL {
            let mut batch = in_state(from);
            let done = batch.command(command, at(3)).map(|_| batch.state);
            let to = moves
                .iter()
                .find(|(start, _)| *start == from)
                .map(|(_, end)| *end);
            assert_eq!(
                done,
                to.ok_or(WrongState {
                    state: from,
                    command
                }),
                "{command:?}"
            );
        }
    }
}

#[test]
fn asking_again_for_what_is_so_changes_nothing() {
    let mut batch = in_state(BatchState::Paused);
    let before = batch.clone();

    assert_eq!(batch.pause(at(9)), Ok(Effect::Unchanged));
    assert_eq!(batch, before);
}

#[test]
fn a_resume_that_comes_late_does_not_undo_a_pause_that_was_asked_for_after_it() {
    let mut batch = in_state(BatchState::Paused);
    let asked_after = batch.commands;
    let resume = |batch: &mut Batch, at| batch.command_after(asked_after, Command::Resume, at);
    let pause = |batch: &mut Batch, at| batch.command_after(batch.commands, Command::Pause, at);
    let late_at_a_pause_of_what_was_paused = {
        let mut batch = batch.clone();
        assert_eq!(pause(&mut batch, at(3)), Ok(Effect::Unchanged));
        resume(&mut batch, at(4))
    };
    assert_eq!(late_at_a_pause_of_what_was_paused, Err(NotDone::Outdated));

    assert_eq!(resume(&mut batch, at(3)), Ok(Effect::Changed));
    assert_eq!(resume(&mut batch, at(4)), Ok(Effect::Unchanged));
    assert_eq!(pause(&mut batch, at(5)), Ok(Effect::Changed));
    let before = batch.clone();

    assert_eq!(resume(&mut batch, at(6)), Err(NotDone::Outdated));
    assert_eq!(batch, before);
}

#[test]
fn a_cancel_and_a_seal_are_done_whatever_changed_since() {
    for command in [Command::Cancel, Command::Seal] {
        let mut batch = in_state(BatchState::Paused);

        assert_eq!(batch.command_after(7, command, at(3)), Ok(Effect::Changed));
    }
}

#[test]
fn of_a_batch_that_changed_since_a_command_only_confirms_what_is_so() {
    for state in BatchState::ALL {
        for command in [Command::Start, Command::Pause, Command::Resume] {
            let (mut now, mut late) = (in_state(state), in_state(state));
            let allowed = now.command(command, at(3));
            let done = late.command_after(late.commands + 7, command, at(3));

            match (allowed, done) {
                (Err(wrong), done) => assert_eq!(done, Err(NotDone::WrongState(wrong))),
                (Ok(Effect::Changed), done) => assert_eq!(done, Err(NotDone::Outdated)),
                (Ok(Effect::Unchanged), done) => assert_eq!(done, Ok(Effect::Unchanged)),
            }
        }
    }
}

#[test]
fn a_refused_command_says_why() {
    let refused = in_state(BatchState::Finished).pause(at(3)).unwrap_err();

    assert_eq!(refused.to_string(), "a finished batch cannot be paused");
}

#[test]
fn only_a_sealed_batch_with_nothing_unsettled_finishes() {
    let mut batch = in_state(BatchState::Running);

    assert_eq!(batch.review(0, at(3)), Effect::Unchanged);
    assert_eq!(batch.seal(), Ok(Effect::Changed));
    assert_eq!(batch.review(1, at(4)), Effect::Unchanged);
    assert_eq!(batch.review(0, at(5)), Effect::Changed);
    assert_eq!(
        (batch.state, batch.ended_at),
        (BatchState::Finished, Some(at(5)))
    );
}

#[test]
fn a_sealed_draft_waits_for_its_start() {
    let mut batch = Batch::draft(at(0));
    assert_eq!(batch.seal(), Ok(Effect::Changed));

    assert_eq!(batch.review(0, at(1)), Effect::Unchanged);
    assert!(!batch.takes_rows());
}

#[test]
fn a_batch_that_is_not_finished_after_37_days_is_cancelled() {
    for state in [BatchState::Draft, BatchState::Running, BatchState::Paused] {
        let mut batch = in_state(state);

        assert_eq!(batch.review(1, at(37 * 86_400 - 1)), Effect::Unchanged);
        assert_eq!(batch.review(1, at(37 * 86_400)), Effect::Changed);
        assert_eq!(batch.state, BatchState::Cancelled);
    }
    assert_eq!(
        in_state(BatchState::Finished).review(0, at(40 * 86_400)),
        Effect::Unchanged
    );
}

#[test]
fn rows_do_not_age_while_their_batch_stands_still() {
    let mut batch = Batch::draft(at(0));
    assert_eq!(batch.row_expires_at(100), None);

    batch.start(at(10)).unwrap();
    assert_eq!(batch.row_expires_at(100), Some(at(110)));

    batch.pause(at(60)).unwrap();
    assert_eq!(batch.row_expires_at(100), None);
    assert_eq!(batch.paused_total(at(65)), Duration::from_secs(5));

    batch.resume(at(1_060)).unwrap();
    assert_eq!(batch.row_expires_at(100), Some(at(1_110)));

    batch.pause(at(1_070)).unwrap();
    batch.resume(at(1_080)).unwrap();
    assert_eq!(batch.row_expires_at(100), Some(at(1_120)));
}

#[test]
fn a_stored_batch_reads_back_and_an_old_one_has_defaults() {
    let mut batch = in_state(BatchState::Paused);
    batch.resume(at(30)).unwrap();

    let stored = rmp_serde::to_vec_named(&batch).unwrap();
    let old = serde_json::json!({ "state": "draft", "created_at": at(0) }).to_string();

    assert_eq!(rmp_serde::from_slice::<Batch>(&stored).unwrap(), batch);
    assert_eq!(
        serde_json::from_str::<Batch>(&old).unwrap(),
        Batch::draft(at(0))
    );
}

proptest! {
    #[test]
    fn a_pause_lengthens_a_life_by_exactly_its_length(
        spans in proptest::collection::vec((1..1_000_u64, 1..1_000_u64), 0..20),
    ) {
        let mut batch = Batch::draft(at(0));
        batch.start(at(0)).unwrap();
        let mut now = 0;
        for (run, pause) in &spans {
            batch.pause(at(now + run)).unwrap();
            now += run + pause;
            batch.resume(at(now)).unwrap();
        }
        let paused: u64 = spans.iter().map(|(_, pause)| pause).sum();

        prop_assert_eq!(batch.row_expires_at(60), Some(at(60 + paused)));
        prop_assert_eq!(batch.paused_total(at(now)), Duration::from_secs(paused));
    }
}
