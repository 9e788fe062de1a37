//! Mass cancels, on every kind of store.

use std::time::Duration;

use zajil_model::id::MessageId;
use zajil_model::lifecycle::{Event, Status};
use zajil_model::message::Queue;
use zajil_storage::{Entry, TotalsFilter};

use crate::compare::same;
use crate::model::Naive;
use crate::promises::on_every_kind;
use crate::world::{Ending, account, instance, message};

#[test]
fn a_mass_cancel_is_counted_at_once_and_told_of_every_message() {
    on_every_kind(|mut world| async move {
        let mut naive = Naive::default();
        for n in 0..60 {
            let mut messages: Vec<_> = (0..100).map(|m| message(n * 100 + m)).collect();
            messages[7].send_at = Some(world.now + Duration::from_secs(9_000));
            let chunk = world.chunk(1, Queue::Normal, messages);
            naive.accept(&chunk);
            world.accept(1, &chunk).await;
        }
        let ids: Vec<MessageId> = naive.messages.keys().copied().collect();
        world.tell(1, vec![(ids[4_321], Event::Attempt(1))]).await;
        let (at, upto) = (world.now, ids[5_499]);
        naive.outcome(zajil_model::lifecycle::Outcome {
            id: ids[4_321],
            at,
            event: Event::Attempt(1),
        });
        naive.cancel_all(instance(1), None, upto, at);

        let (account, of) = (account(), instance(1));
        let entry = Entry::CancelAll {
            account,
            instance: of,
            queue: None,
            upto,
            at,
        };
        world.append(1, vec![entry]).await.unwrap();
        let filter = TotalsFilter {
            instances: vec![of],
            ..TotalsFilter::default()
        };
        let totals = world.store.totals(filter).await.unwrap();
        let late = vec![(ids[3], Event::Acked), (ids[4_321], Event::Acked)];
        world.tell(1, late.clone()).await;

        assert_eq!(totals.of(Status::Cancelled), 5_499);
        assert_eq!(totals.of(Status::Processing), 1);
        assert_eq!(
            totals.of(Status::Scheduled) + totals.of(Status::Pending),
            500
        );
        for (id, event) in late {
            naive.outcome(zajil_model::lifecycle::Outcome { id, at, event });
        }
        same(&world, &naive).await;
        world.reopen(Ending::Dropped).await;
        same(&world, &naive).await;
    });
}
