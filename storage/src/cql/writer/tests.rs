//! Groups of appends, over a database.

use futures_util::FutureExt as _;
use zajil_model::id::{InstanceId, Shard};

use super::super::testing;
use super::*;

#[test]
fn a_group_is_not_answered_as_done_when_its_shard_was_lost_while_it_was_written() {
    testing::Ground::with(async |ground| {
        let (shard, means) = (Shard::new(1).unwrap(), ground.means());
        let taken = Open::take(&means, shard, None, Arc::default());
        let open = Arc::new(taken.await.unwrap().0);
        let (told, answer) = oneshot::channel();
        // To apply it takes no look into the database, which would find the loss out.
        let record = Record::Sweep(InstanceId::new(3).unwrap());
        let record = vec![encode_alone(record)];
        let begun = ground.db.clock.mono();
        let call = Call::new(record, Answer::Own(told), begun, &Arc::default());

        let appends = metrics::Appends::new();
        let mut written = Box::pin(carry_out(&open, 3_600, vec![call], &appends));
        assert!(written.as_mut().now_or_never().is_none());
        // The record is on its way; it becomes durable, but behind what the next owner reads.
        open.ground.alive.lose(StoreError::NotOpen(shard));
        let claims = written.await;

        assert_eq!(answer.await, Ok(Err(StoreError::Closed)));
        assert!(claims.is_none());
        assert_eq!(open.projection.stands_at().0, 0);
    });
}
