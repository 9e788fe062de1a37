//! Uploads: cut and taken up again, and what becomes of each row.

use zajil_actors::batch::{BatchError, Duplicates, NewBatch, NewRow};
use zajil_actors::directory::Suppression;
use zajil_model::batch::Command;
use zajil_model::lifecycle::Status;
use zajil_model::time::Clock;

use crate::campaign::{Campaign, row, rows};
use crate::support::phone;

#[tokio::test]
async fn rows_become_messages_of_the_instances_by_recipient() {
    let campaign = Campaign::new().await;
    let id = campaign.draft().await;

    campaign.upload(id, 0, rows(0..300)).await;

    let view = campaign
        .batches
        .view(campaign.account.id, id)
        .await
        .unwrap();
    assert_eq!(
        (view.progress.taken, view.counts[Status::Pending as usize]),
        (300, 300)
    );
    assert_eq!(view.by_instance.len(), 3, "{:?}", view.by_instance);
    assert!(
        view.by_instance.iter().all(|(_, counts)| counts[1] > 50),
        "{:?}",
        view.by_instance
    );
    assert_eq!(*campaign.listeners.grew.lock(), 3);
    let page = campaign
        .batches
        .messages(campaign.account.id, id, None, None, 500)
        .await
        .unwrap();
    let mut texts: Vec<_> = page
        .messages
        .iter()
        .map(|record| record.message().payload.headline())
        .collect();
    texts.sort_unstable();
    texts.dedup();
    assert_eq!(texts.len(), 300);
    assert!(texts.contains(&"Hello person 42"));
}

#[tokio::test]
async fn a_cut_upload_goes_on_and_repeating_all_of_it_takes_nothing_twice() {
    let campaign = Campaign::new().await;
    let id = campaign.draft().await;
    campaign.upload(id, 0, rows(0..1_000)).await;

    let campaign = campaign.restarted().await;
    let account = campaign.account.id;
    let gap = campaign
        .batches
        .upload(account, id, 1_001)
        .await
        .unwrap_err();
    assert_eq!(gap, BatchError::RowGap { expected: 1_000 });
    let mut upload = campaign.batches.upload(account, id, 0).await.unwrap();
    let twin = campaign.batches.upload(account, id, 0).await.unwrap_err();
    assert_eq!(twin, BatchError::RowGap { expected: 1_000 });
    upload.append_rows(rows(0..1_000)).await.unwrap();
    let progress = upload
        .append_rows(rows(1_000..1_500))
        .await
        .unwrap()
        .progress;
    drop(upload);

    assert_eq!(
        (progress.rows_received, progress.taken, progress.duplicates),
        (1_500, 1_500, 0)
    );
    let view = campaign.batches.view(account, id).await.unwrap();
    assert_eq!(view.counts.iter().sum::<u64>(), 1_500);
}

#[tokio::test]
async fn what_is_no_message_is_counted_and_said() {
    let campaign = Campaign::new().await;
    let account = campaign.account.id;
    let entry = Suppression {
        phone: phone(3),
        reason: None,
        source: "api".to_owned(),
        created_at: campaign.node.clock.now(),
    };
    campaign
        .node
        .directory
        .suppress(account, entry)
        .await
        .unwrap();
    let id = campaign.draft().await;
    let nameless = NewRow {
        variables: Vec::new(),
        ..row(4).unwrap()
    };
    let unreadable = vec![("recipient".to_owned(), vec!["is no phone".to_owned()])];
    let block = vec![
        row(1),
        row(2),
        row(1),
        row(3),
        Ok(nameless),
        Err(unreadable.clone()),
    ];

    let mut upload = campaign.batches.upload(account, id, 0).await.unwrap();
    let told = upload.append_rows(block).await.unwrap();
    drop(upload);
    let campaign = campaign.restarted().await;
    campaign.upload(id, 6, vec![row(2), row(5)]).await;

    let progress = campaign.batches.view(account, id).await.unwrap().progress;
    assert_eq!(
        (
            progress.taken,
            progress.duplicates,
            progress.suppressed,
            progress.refused
        ),
        (3, 2, 1, 2)
    );
    let refused = campaign
        .batches
        .refused(account, id, None, 10)
        .await
        .unwrap();
    assert_eq!(refused, told.first_refusals);
    assert_eq!(
        (refused[0].row, refused[0].errors[0].0.as_str()),
        (4, "variables.name")
    );
    assert_eq!((refused[1].row, &refused[1].errors), (5, &unreadable));
}

#[tokio::test]
async fn a_recipient_may_come_twice_when_the_batch_says_so() {
    let campaign = Campaign::new().await;
    let new = NewBatch {
        duplicates: Duplicates::Keep,
        ..campaign.new_batch()
    };
    let id = campaign
        .batches
        .create(campaign.account.id, new)
        .await
        .unwrap()
        .record
        .id;

    campaign.upload(id, 0, vec![row(1), row(1)]).await;

    let progress = campaign
        .batches
        .view(campaign.account.id, id)
        .await
        .unwrap()
        .progress;
    assert_eq!((progress.taken, progress.duplicates), (2, 0));
}

#[tokio::test]
async fn a_sealed_or_cancelled_batch_takes_no_more_rows() {
    let campaign = Campaign::new().await;
    let account = campaign.account.id;
    let (sealed, cancelled) = (campaign.draft().await, campaign.draft().await);

    for (id, command) in [(sealed, Command::Seal), (cancelled, Command::Cancel)] {
        let mut upload = campaign.batches.upload(account, id, 0).await.unwrap();
        upload.append_rows(rows(0..10)).await.unwrap();
        campaign.command(id, command).await;

        let late = upload.append_rows(rows(10..20)).await.unwrap_err();
        drop(upload);

        assert_eq!(late, BatchError::TakesNoRows);
        let again = campaign.batches.upload(account, id, 10).await.unwrap_err();
        assert_eq!(again, BatchError::TakesNoRows);
        assert_eq!(
            campaign
                .batches
                .view(account, id)
                .await
                .unwrap()
                .progress
                .taken,
            10
        );
    }
}
