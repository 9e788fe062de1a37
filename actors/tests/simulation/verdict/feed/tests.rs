//! That the comparison of the change feed can fail: each kind of fault, planted.

use zajil_model::id::{Shard, Tick};
use zajil_model::lifecycle::Status;
use zajil_model::time::Timestamp;

use super::*;

fn change(place: u64, message: u64, status: Status) -> (Cursor, StatusChange) {
    let id = MessageId::give(Tick(message), Shard::of(1));
    let at = Timestamp::from_seconds(0);
    let record = place;
    (
        Cursor { record, within: 0 },
        StatusChange { id, status, at },
    )
}

fn page(changes: &[(Cursor, StatusChange)]) -> ChangePage {
    ChangePage {
        changes: changes.to_vec(),
        next: changes.last().map(|(place, _)| Cursor {
            record: place.record,
            within: place.within + 1,
        }),
        upto: Cursor::default(),
    }
}

#[test]
fn a_feed_that_goes_back_is_found() {
    let sent = change(5, 1, Status::Sent);
    let of_another = change(6, 2, Status::Processing);
    let back = change(7, 1, Status::Processing);
    let earlier = change(4, 3, Status::Processing);

    let takes = |second| {
        let mut reader = Reader::default();
        reader.takes_in(&page(&[sent])).unwrap();
        reader.takes_in(&page(&[second]))
    };

    assert_eq!(takes(of_another), Ok(()));
    assert!(takes(back).is_err());
    assert!(takes(earlier).is_err());
}

#[test]
fn a_change_that_was_missed_or_made_up_is_found() {
    let all = [change(5, 1, Status::Processing), change(6, 1, Status::Sent)];
    let whole = BTreeMap::from(all);
    let seen = |changes: &[(Cursor, StatusChange)]| {
        let mut reader = Reader::default();
        reader.takes_in(&page(changes)).unwrap();
        same(&whole, &reader, "a reader")
    };

    assert_eq!(seen(&all), Ok(()));
    assert!(seen(&all[1..]).is_err());
    assert!(seen(&[all[0], all[1], change(7, 2, Status::Sent)]).is_err());
}
