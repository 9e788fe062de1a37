//! Retention, over a database.

use zajil_model::id::Shard;

use super::super::testing;
use super::*;
use crate::codec::CancelAll;
use crate::projection::Positioned;
use crate::projection::testing::chunk;

const WEEK: Duration = Duration::from_secs(7 * 86_400);

/// A shard is served that has a chunk, all of it cancelled.
async fn with_something_old(ground: &testing::Ground, shared: &Arc<Shared>, shard: Shard) {
    Arc::clone(shared).open_shard(shard, None).await.unwrap();
    let (open, now) = (shared.serving(shard).unwrap().open, ground.db.clock.now());
    let chunk = chunk(now, 0);
    let cancel = CancelAll {
        account: chunk.account,
        instance: chunk.instance,
        queue: None,
        upto: chunk.last(),
        at: now,
    };
    let sweep = Record::Sweep(chunk.instance);
    let records = [Record::Accept(chunk), Record::CancelAll(cancel), sweep];
    let applied = ground.ask(move || {
        let places = open.log.take(3, now).unwrap();
        let records = places.into_iter().zip(records);
        let records = records.map(|(lsn, record)| Positioned {
            lsn,
            len: 0,
            record,
        });
        open.projection.apply(records.collect()).unwrap();
        open.projection.advance(open.log.next());
        open.log.applied();
    });
    applied.await;
}

#[test]
fn what_is_old_goes_everywhere_else_when_some_shards_have_left() {
    testing::Ground::with(async |ground| {
        let shared = ground.shared().await;
        let shards: Vec<Shard> = (1..8).map(|n| Shard::new(n).unwrap()).collect();
        for shard in &shards {
            with_something_old(&ground, &shared, *shard).await;
        }
        let kept = |shard: &Shard| {
            let serving = shared.serving(*shard).unwrap();
            serving.open.projection.kept_periods()
        };

        // Two are lost, and two others were taken without a word.
        for shard in &shards[..2] {
            let lost = StoreError::NotOpen(*shard);
            shared.serving(*shard).unwrap().open.ground.alive.lose(lost);
        }
        for shard in &shards[2..4] {
            let taken = Open::take(&shared.means, *shard, None, Arc::default());
            taken.await.unwrap();
        }
        ground.clock.later(WEEK * 5);
        let gone = Arc::clone(&shared).retire(ground.db.clock.now(), WEEK);
        let gone = gone.await;

        assert_eq!(gone, Ok(1));
        assert_eq!(
            shards.iter().map(kept).collect::<Vec<_>>(),
            [1, 1, 1, 1, 0, 0, 0]
        );
    });
}
