//! API keys.

use std::collections::BTreeSet;
use std::sync::Arc;

use zajil_actors::directory::{AuthError, NewKey, Permission};
use zajil_model::time::Clock;

use crate::support::{ELSEWHERE, HOME, Node, new_key, seconds};

#[tokio::test]
async fn a_key_opens_its_account_until_it_is_revoked() {
    let node = Node::new();
    let account = node.account("acme").await;
    let directory = &node.directory;
    let (key, text) = directory
        .create_key(account.id, new_key("shop"))
        .await
        .unwrap();

    let known = directory
        .authenticate(text.reveal(), HOME, node.clock.now())
        .await
        .unwrap();
    assert_eq!((known.id, known.account), (key.id, account.id));

    directory.revoke_key(account.id, key.id).await.unwrap();
    let refused = directory
        .authenticate(text.reveal(), HOME, node.clock.now())
        .await;
    assert_eq!(refused.unwrap_err(), AuthError::Invalid);
}

#[tokio::test]
async fn a_key_that_was_revoked_elsewhere_is_refused_after_five_seconds() {
    let (node, other) = {
        let node = Node::new();
        let other = node.restarted();
        (node, other)
    };
    let account = other.account("acme").await;
    let (key, text) = other
        .directory
        .create_key(account.id, new_key("shop"))
        .await
        .unwrap();
    node.directory
        .authenticate(text.reveal(), HOME, node.clock.now())
        .await
        .unwrap();

    other
        .directory
        .revoke_key(account.id, key.id)
        .await
        .unwrap();
    node.clock.pass(seconds(5));

    let refused = node
        .directory
        .authenticate(text.reveal(), HOME, node.clock.now())
        .await;
    assert_eq!(refused.unwrap_err(), AuthError::Invalid);
}

#[tokio::test]
async fn the_text_of_a_key_is_stored_nowhere() {
    let node = Node::new();
    let account = node.account("acme").await;
    let (key, text) = node
        .directory
        .create_key(account.id, new_key("shop"))
        .await
        .unwrap();

    let shown = format!("{key:?} {text:?}");

    assert!(!shown.contains(text.reveal()));
    assert_eq!(key.last4, text.reveal()[text.reveal().len() - 4..]);
}

#[tokio::test]
async fn a_rotated_key_keeps_its_id_and_both_texts_are_good_during_the_overlap() {
    let node = Node::new();
    let account = node.account("acme").await;
    let directory = &node.directory;
    let (key, first) = directory
        .create_key(account.id, new_key("shop"))
        .await
        .unwrap();
    directory
        .authenticate(first.reveal(), HOME, node.clock.now())
        .await
        .unwrap();

    let (rotated, second) = directory.rotate_key(account.id, key.id, 60).await.unwrap();

    assert_eq!(rotated.id, key.id);
    for text in [&first, &second] {
        let known = directory
            .authenticate(text.reveal(), HOME, node.clock.now())
            .await
            .unwrap();
        assert_eq!(known.id, key.id);
    }
    node.clock.pass(seconds(60));
    let refused = directory
        .authenticate(first.reveal(), HOME, node.clock.now())
        .await;
    assert_eq!(refused.unwrap_err(), AuthError::Invalid);
    assert!(
        directory
            .authenticate(second.reveal(), HOME, node.clock.now())
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn a_key_is_good_only_from_its_addresses_and_until_it_expires() {
    let node = Node::new();
    let account = node.account("acme").await;
    let new = NewKey {
        allowed_ips: vec!["192.0.2.0/24".parse().unwrap()],
        expires_at: Some(node.clock.now() + seconds(100)),
        permissions: BTreeSet::from([Permission::SendMessage]),
        ..new_key("shop")
    };
    let (key, text) = node.directory.create_key(account.id, new).await.unwrap();
    assert!(key.may(Permission::SendMessage) && !key.may(Permission::ReadMessages));

    let authenticate = |address| {
        node.directory
            .authenticate(text.reveal(), address, node.clock.now())
    };
    assert!(authenticate(HOME).await.is_ok());
    assert_eq!(
        authenticate(ELSEWHERE).await.unwrap_err(),
        AuthError::AddressNotAllowed(Arc::clone(&key))
    );
    node.clock.pass(seconds(100));
    assert_eq!(authenticate(HOME).await.unwrap_err(), AuthError::Invalid);
}

#[tokio::test]
async fn the_last_use_of_a_key_is_written_once_a_minute() {
    let node = Node::new();
    let account = node.account("acme").await;
    let (key, text) = node
        .directory
        .create_key(account.id, new_key("shop"))
        .await
        .unwrap();
    let begin = node.clock.now();
    let mut written = BTreeSet::new();

    for _ in 0..100 {
        node.directory
            .authenticate(text.reveal(), HOME, node.clock.now())
            .await
            .unwrap();
        node.settle().await;
        let stored = node
            .directory
            .key(account.id, key.id)
            .await
            .unwrap()
            .unwrap();
        written.insert(stored.last_used_at.unwrap());
        node.clock.pass(seconds(1));
    }

    assert_eq!(written, BTreeSet::from([begin, begin + seconds(60)]));
}

#[tokio::test]
async fn the_first_start_makes_one_account_that_can_send_and_only_once() {
    let node = Node::new();

    let made = node.directory.plan_first_start().await.unwrap().unwrap();
    assert!(node.directory.make_first_start(&made).await.unwrap());

    let key = node
        .directory
        .authenticate(made.key_text.reveal(), HOME, node.clock.now())
        .await
        .unwrap();
    assert!(
        Permission::ALL
            .into_iter()
            .all(|permission| key.may(permission))
    );
    assert!(
        node.directory
            .login(&made.user.email, &made.password, HOME)
            .await
            .is_ok()
    );
    let instance = node
        .directory
        .instance(made.account.id, "my-instance")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(instance.id, made.instance.id);
    assert!(
        node.restarted()
            .directory
            .plan_first_start()
            .await
            .unwrap()
            .is_none()
    );
}

#[tokio::test]
async fn of_two_first_starts_at_once_one_makes_everything_and_the_other_nothing() {
    let node = Node::new();
    let one = node.directory.plan_first_start().await.unwrap().unwrap();
    let other = node.directory.plan_first_start().await.unwrap().unwrap();

    let made = [
        node.directory.make_first_start(&one).await.unwrap(),
        node.directory.make_first_start(&other).await.unwrap(),
    ];

    assert_eq!(made, [true, false]);
    let accounts = node.directory.accounts().await.unwrap();
    assert_eq!(accounts.len(), 1);
    assert_eq!(accounts[0].id, one.account.id);
}
