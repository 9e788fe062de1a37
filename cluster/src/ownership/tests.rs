use super::*;

const ME: NodeId = NodeId(1);
const OTHER: NodeId = NodeId(2);

fn shard() -> Shard {
    Shard::of(1)
}

#[test]
fn a_node_by_itself_may_always_send() {
    let ownership = Ownership::alone();

    assert!(ownership.may_send(Mono::from_nanos(0)));
    assert!(ownership.may_send(Mono::from_nanos(u64::MAX - 1)));
    assert!(Shard::all().all(|shard| ownership.owns(shard)));
    assert!(ownership.may_send_for(shard(), Epoch(3), Mono::from_nanos(7)));
}

#[test]
fn a_node_that_did_not_join_owns_and_sends_nothing() {
    let ownership = Ownership::shared(ME);

    assert!(!ownership.may_send(Mono::from_nanos(0)));
    assert_eq!(ownership.place(shard()), Place::Nobody);
    assert_eq!(ownership.owned(), 0);
}

#[test]
fn a_shard_is_served_between_its_opening_and_its_closing() {
    let ownership = Ownership::shared(ME);

    ownership.opening(shard(), Epoch(4));
    assert_eq!(ownership.place(shard()), Place::Moving);
    assert!(ownership.opened(shard(), Epoch(4)));
    assert_eq!(ownership.place(shard()), Place::Here(Epoch(4)));
    assert!(ownership.closing(shard(), Epoch(4)));
    assert_eq!(ownership.place(shard()), Place::Moving);
    assert_eq!(ownership.epoch(shard()), Some(Epoch(4)));
    assert!(ownership.dropped(shard(), Epoch(4)));
    assert_eq!(ownership.epoch(shard()), None);
}

#[test]
fn a_shard_that_leaves_is_served_and_answered_for_and_sends_nothing() {
    let ownership = Ownership::shared(ME);
    let now = Mono::from_nanos(1);
    ownership.lease(&Lease::granted(Mono::from_nanos(0)));
    ownership.opening(shard(), Epoch(4));
    ownership.opened(shard(), Epoch(4));

    assert!(ownership.leaving(shard(), Epoch(4)) && ownership.is_leaving(shard()));

    assert!(ownership.owns(shard()) && ownership.owned() == 1);
    assert!(ownership.may_answer_for(shard(), Epoch(4), now));
    assert!(!ownership.may_send_for(shard(), Epoch(4), now));
    assert!(ownership.closing(shard(), Epoch(4)) && !ownership.owns(shard()));
}

#[test]
fn what_was_lost_while_it_opened_is_not_served() {
    let ownership = Ownership::shared(ME);
    ownership.opening(shard(), Epoch(4));

    ownership.dropped(shard(), Epoch(4));

    assert!(!ownership.opened(shard(), Epoch(4)));
    assert!(!ownership.owns(shard()));
}

#[test]
fn a_good_lease_of_a_later_life_is_not_one_for_an_earlier_epoch() {
    let ownership = Ownership::shared(ME);
    ownership.lease(&Lease::granted(Mono::from_nanos(0)));
    ownership.opening(shard(), Epoch(6));

    assert!(ownership.may_send_for(shard(), Epoch(6), Mono::from_nanos(1)));
    assert!(!ownership.may_send_for(shard(), Epoch(4), Mono::from_nanos(1)));
}

#[test]
fn a_hint_of_an_old_owner_changes_nothing() {
    let ownership = Ownership::shared(ME);
    ownership.learn(shard(), Some(OTHER), Epoch(5));

    ownership.learn(shard(), Some(NodeId(3)), Epoch(4));
    ownership.learn(shard(), None, Epoch(5));
    assert_eq!(ownership.place(shard()), Place::There(OTHER, Epoch(5)));

    ownership.learn(shard(), None, Epoch(6));
    assert_eq!(ownership.place(shard()), Place::Moving);
}

#[test]
fn a_hint_does_not_take_away_what_is_held() {
    let ownership = Ownership::shared(ME);
    ownership.opening(shard(), Epoch(4));

    ownership.learn(shard(), Some(OTHER), Epoch(9));

    assert!(ownership.opened(shard(), Epoch(4)));
}

#[test]
fn who_waits_for_a_moving_shard_is_woken() {
    let ownership = Ownership::shared(ME);
    let mut changed = ownership.changed();
    changed.mark_unchanged();

    ownership.saw(shard(), Some(OTHER), Epoch(2));
    assert!(changed.has_changed());
    changed.mark_unchanged();
    ownership.saw(shard(), Some(OTHER), Epoch(2));

    assert!(!changed.has_changed(), "nothing new was said");
}
