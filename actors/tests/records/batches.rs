//! Batches: states that every instance confirms.

use std::sync::Arc;
use std::time::Duration;

use zajil_actors::batch::{BatchError, BatchText, NewBatch, PartPhase, part_state};
use zajil_model::batch::{BatchState, Command};
use zajil_model::lifecycle::Status;
use zajil_model::time::Clock;

use crate::campaign::{Campaign, rows};
use crate::support::seconds;

#[tokio::test]
async fn every_instance_is_told_of_every_change_in_order() {
    let campaign = Campaign::new().await;
    let id = campaign.draft().await;
    let store = Arc::clone(&campaign.node.store);
    let phase = async || part_state(&*store, id).await.unwrap().unwrap().phase;
    assert_eq!(phase().await, PartPhase::Held);

    for (command, expected) in [
        (Command::Start, PartPhase::Running),
        (Command::Pause, PartPhase::Paused),
        (Command::Resume, PartPhase::Running),
        (Command::Cancel, PartPhase::Cancelled),
    ] {
        assert_eq!(campaign.command(id, command).await, Vec::<String>::new());
        assert_eq!(phase().await, expected);
    }

    for instance in &campaign.instances {
        let told = campaign.listeners.phases.lock()[&instance.id].clone();
        let all = [
            PartPhase::Running,
            PartPhase::Paused,
            PartPhase::Running,
            PartPhase::Cancelled,
        ];
        assert_eq!(told, all);
    }
    let refused = campaign
        .batches
        .change(campaign.account.id, id, Command::Start)
        .await;
    assert!(
        matches!(refused, Err(BatchError::WrongState(_))),
        "{refused:?}"
    );
}

#[tokio::test]
async fn time_paused_does_not_count_for_the_time_to_live() {
    let campaign = Campaign::new().await;
    let id = campaign.draft().await;
    campaign.command(id, Command::Start).await;
    let started = campaign.node.clock.now();
    let part = async || {
        part_state(&*campaign.node.store, id)
            .await
            .unwrap()
            .unwrap()
    };
    assert_eq!(part().await.expires_at(100), Some(started + seconds(100)));

    campaign.node.clock.pass(seconds(10));
    campaign.command(id, Command::Pause).await;
    assert_eq!(part().await.expires_at(100), None);
    campaign.node.clock.pass(seconds(1_000));
    campaign.command(id, Command::Resume).await;

    assert_eq!(part().await.expires_at(100), Some(started + seconds(1_100)));
}

#[tokio::test]
async fn an_instance_that_did_not_confirm_is_named_and_told_again_after_a_restart() {
    let campaign = Campaign::new().await;
    let id = campaign.draft().await;
    campaign.command(id, Command::Start).await;
    let deaf = campaign.instances[1].id;
    *campaign.listeners.deaf.lock() = Some(deaf);

    let missing = campaign.command(id, Command::Cancel).await;
    assert_eq!(missing, ["two"]);
    assert_eq!(campaign.state(id).await, BatchState::Cancelled);

    let campaign = campaign.restarted().await;
    let told = || campaign.listeners.phases.lock().get(&deaf).cloned();
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        if told().is_some() {
            break;
        }
    }
    assert_eq!(told().unwrap().last(), Some(&PartPhase::Cancelled));
}

#[tokio::test(start_paused = true)]
async fn a_batch_finishes_once_it_is_sealed_and_everything_is_settled() {
    let campaign = Campaign::new().await;
    let id = campaign.draft().await;
    campaign.upload(id, 0, rows(0..50)).await;
    campaign.command(id, Command::Start).await;
    campaign.send_all(id).await;
    tokio::time::sleep(seconds(5)).await;
    assert_eq!(
        campaign.state(id).await,
        BatchState::Running,
        "more rows may come"
    );

    campaign.command(id, Command::Seal).await;
    tokio::time::sleep(seconds(5)).await;

    assert_eq!(campaign.state(id).await, BatchState::Finished);
    let view = campaign
        .batches
        .view(campaign.account.id, id)
        .await
        .unwrap();
    assert_eq!(view.counts[Status::Sent as usize], 50);
}

#[tokio::test(start_paused = true)]
async fn a_batch_starts_by_itself_at_its_time_even_after_a_restart() {
    let campaign = Campaign::new().await;
    let at = campaign.node.clock.now() + seconds(3_600);
    let new = NewBatch {
        start_at: Some(at),
        ..campaign.new_batch()
    };
    let id = campaign
        .batches
        .create(campaign.account.id, new)
        .await
        .unwrap()
        .record
        .id;

    let campaign = campaign.restarted().await;
    campaign.node.clock.pass(seconds(3_599));
    tokio::time::sleep(seconds(3)).await;
    assert_eq!(campaign.state(id).await, BatchState::Draft);
    campaign.node.clock.pass(seconds(1));
    tokio::time::sleep(seconds(3)).await;

    assert_eq!(campaign.state(id).await, BatchState::Running);
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_is_forgotten_is_cancelled_after_37_days() {
    let campaign = Campaign::new().await;
    let id = campaign.draft().await;
    let campaign = campaign.restarted().await;

    campaign.node.clock.pass(seconds(37 * 86_400));
    tokio::time::sleep(seconds(40)).await;

    assert_eq!(campaign.state(id).await, BatchState::Cancelled);
}

#[tokio::test]
async fn a_batch_is_nobody_elses() {
    let campaign = Campaign::new().await;
    let id = campaign.draft().await;
    let other = campaign.node.account("other").await;

    assert_eq!(
        campaign.batches.view(other.id, id).await.unwrap_err(),
        BatchError::NotFound
    );
    let command = campaign.batches.change(other.id, id, Command::Start).await;
    assert_eq!(command.unwrap_err(), BatchError::NotFound);
    assert!(campaign.batches.upload(other.id, id, 0).await.is_err());
}

#[tokio::test]
async fn what_a_batch_cannot_be_is_refused_by_field() {
    let campaign = Campaign::new().await;
    let valid = || campaign.new_batch();
    let now = campaign.node.clock.now();
    let text = |content: &str| BatchText {
        content: content.to_owned(),
        ..valid().text
    };
    let twice = vec![
        Arc::clone(&campaign.instances[0]),
        Arc::clone(&campaign.instances[0]),
    ];

    for (field, new) in [
        (
            "name",
            NewBatch {
                name: String::new(),
                ..valid()
            },
        ),
        (
            "instances",
            NewBatch {
                instances: Vec::new(),
                ..valid()
            },
        ),
        (
            "instances",
            NewBatch {
                instances: twice,
                ..valid()
            },
        ),
        (
            "content",
            NewBatch {
                text: text(""),
                ..valid()
            },
        ),
        (
            "ttl",
            NewBatch {
                ttl_seconds: Some(59),
                ..valid()
            },
        ),
        (
            "start_at",
            NewBatch {
                start_at: Some(now + seconds(31 * 86_400)),
                ..valid()
            },
        ),
    ] {
        let refused = campaign
            .batches
            .create(campaign.account.id, new)
            .await
            .unwrap_err();
        let BatchError::Field { field: named, .. } = refused else {
            panic!("{refused:?}")
        };
        assert_eq!(named, field);
    }
}
