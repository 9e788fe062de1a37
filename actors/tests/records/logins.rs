//! Signing in to the dashboard.

use zajil_actors::directory::{DirectoryError, LoginError};

use crate::support::{ELSEWHERE, HOME, Node, seconds};

#[tokio::test]
async fn a_user_signs_in_and_out() {
    let node = Node::new();
    let account = node.account("acme").await;
    let directory = &node.directory;
    directory
        .create_user(account.id, "Ann@Example.com", "Ann", "correct horse")
        .await
        .unwrap();

    let login = directory
        .login(" ann@example.com", "correct horse", HOME)
        .await
        .unwrap();
    let signed_in = directory.session(&login.token).await.unwrap().unwrap();
    assert_eq!(
        (signed_in.user.name.as_str(), signed_in.user.account),
        ("Ann", account.id)
    );

    directory.logout(&login.token).await.unwrap();
    assert!(directory.session(&login.token).await.unwrap().is_none());
}

#[tokio::test]
async fn a_session_ends_by_itself_and_survives_a_restart_until_then() {
    let node = Node::new();
    let account = node.account("acme").await;
    node.directory
        .create_user(account.id, "a@b.c", "Ann", "correct horse")
        .await
        .unwrap();
    let login = node
        .directory
        .login("a@b.c", "correct horse", HOME)
        .await
        .unwrap();

    let node = node.restarted();
    node.clock.pass(seconds(11 * 3_600));
    assert!(
        node.directory
            .session(&login.token)
            .await
            .unwrap()
            .is_some()
    );

    node.clock.pass(seconds(3_601));
    assert!(
        node.directory
            .session(&login.token)
            .await
            .unwrap()
            .is_none()
    );
}

#[tokio::test]
async fn failures_make_the_next_attempt_wait_longer_from_the_same_address() {
    let node = Node::new();
    let account = node.account("acme").await;
    let directory = &node.directory;
    directory
        .create_user(account.id, "a@b.c", "Ann", "correct horse")
        .await
        .unwrap();

    for _ in 0..3 {
        let refused = directory.login("a@b.c", "wrong", HOME).await.unwrap_err();
        assert_eq!(refused, LoginError::Wrong);
    }
    let waits = directory
        .login("a@b.c", "correct horse", HOME)
        .await
        .unwrap_err();
    assert!(matches!(waits, LoginError::Wait(1..=2)), "{waits:?}");
    assert!(
        directory
            .login("a@b.c", "correct horse", ELSEWHERE)
            .await
            .is_ok()
    );

    node.clock.pass(seconds(2));
    assert_eq!(
        directory.login("a@b.c", "wrong", HOME).await.unwrap_err(),
        LoginError::Wrong
    );
    node.clock.pass(seconds(1));
    let waits = directory
        .login("a@b.c", "correct horse", HOME)
        .await
        .unwrap_err();
    assert!(
        matches!(waits, LoginError::Wait(_)),
        "twice as long: {waits:?}"
    );
    node.clock.pass(seconds(2));
    assert!(
        directory
            .login("a@b.c", "correct horse", HOME)
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn an_unknown_user_is_answered_like_a_wrong_password() {
    let node = Node::new();

    let refused = node
        .directory
        .login("nobody@b.c", "correct horse", HOME)
        .await
        .unwrap_err();

    assert_eq!(refused, LoginError::Wrong);
}

#[tokio::test]
async fn an_email_belongs_to_one_user() {
    let node = Node::new();
    let (one, other) = (node.account("one").await, node.account("other").await);
    let directory = &node.directory;
    directory
        .create_user(one.id, "a@b.c", "Ann", "correct horse")
        .await
        .unwrap();

    let taken = directory
        .create_user(other.id, "A@B.C", "Bob", "correct horse")
        .await;
    let short = directory
        .create_user(other.id, "b@b.c", "Bob", "short")
        .await;

    assert!(
        matches!(taken, Err(DirectoryError::Field { field: "email", .. })),
        "{taken:?}"
    );
    assert!(
        matches!(
            short,
            Err(DirectoryError::Field {
                field: "password",
                ..
            })
        ),
        "{short:?}"
    );
}
