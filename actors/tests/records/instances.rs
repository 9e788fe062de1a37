//! Instances, templates, opt-outs and audit lines of an account.

use zajil_actors::directory::{AuditLine, DirectoryError, PageRequest, Suppression};
use zajil_model::time::Clock;

use crate::support::{Node, new_instance, phone, seconds};

#[tokio::test]
async fn an_instance_is_found_by_its_id_and_by_its_name_in_its_account_only() {
    let node = Node::new();
    let (one, other) = (node.account("one").await, node.account("other").await);
    let made = node.instance(&one, "sales").await;

    for node in [node.restarted(), node] {
        let directory = &node.directory;
        let by_id = directory
            .instance(one.id, &made.id.to_string())
            .await
            .unwrap()
            .unwrap();
        let by_name = directory.instance(one.id, "sales").await.unwrap().unwrap();
        let anyones = directory.instance_by_id(made.id).await.unwrap().unwrap();

        assert_eq!(
            (by_id.id, by_name.id, anyones.account),
            (made.id, made.id, one.id)
        );
        assert!(
            directory
                .instance(other.id, &made.id.to_string())
                .await
                .unwrap()
                .is_none()
        );
        assert!(
            directory
                .instance(other.id, "sales")
                .await
                .unwrap()
                .is_none()
        );
    }
}

#[tokio::test]
async fn a_name_that_another_node_gave_to_another_instance_leads_there() {
    let node = Node::new();
    let one = node.account("one").await;
    let first = node.instance(&one, "sales").await;
    let elsewhere = node.restarted();

    let renamed = elsewhere
        .directory
        .update_instance(one.id, first.id, |instance| instance.name = "former".into());
    renamed.await.unwrap();
    let second = elsewhere.instance(&one, "sales").await;
    node.directory.forget_changeable();

    let found = node.directory.instance(one.id, "sales").await.unwrap();
    assert_eq!(found.map(|instance| instance.id), Some(second.id));
    let former = node.directory.instance(one.id, "former").await.unwrap();
    assert_eq!(former.map(|instance| instance.id), Some(first.id));
}

#[tokio::test]
async fn a_name_belongs_to_one_instance_of_an_account_and_is_free_again_once_it_changed() {
    let node = Node::new();
    let (one, other) = (node.account("one").await, node.account("other").await);
    let directory = &node.directory;
    let sales = node.instance(&one, "sales").await;
    let support = node.instance(&one, "support").await;
    assert!(
        directory
            .create_instance(other.id, new_instance("sales"))
            .await
            .is_ok()
    );

    for name in ["sales", "12345", ""] {
        let refused = directory.create_instance(one.id, new_instance(name)).await;
        let field = matches!(
            refused,
            Err(DirectoryError::Field {
                field: "instance_name",
                ..
            })
        );
        assert!(field, "{name}: {refused:?}");
    }
    let rename = |name: &'static str| {
        directory.update_instance(one.id, support.id, move |instance| {
            instance.name = name.into()
        })
    };
    assert!(rename("sales").await.is_err());
    directory.delete_instance(one.id, sales.id).await.unwrap();
    assert!(directory.instance(one.id, "sales").await.unwrap().is_none());

    rename("sales").await.unwrap();

    assert_eq!(
        directory
            .instance(one.id, "sales")
            .await
            .unwrap()
            .unwrap()
            .id,
        support.id
    );
    assert!(
        directory
            .instance(one.id, "support")
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        directory
            .create_instance(one.id, new_instance("support"))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn a_changed_instance_is_seen_at_once_and_after_a_restart() {
    let node = Node::new();
    let account = node.account("acme").await;
    let made = node.instance(&account, "sales").await;

    node.directory
        .update_instance(account.id, made.id, |instance| instance.paused = true)
        .await
        .unwrap();

    for node in [node.restarted(), node] {
        assert!(
            node.directory
                .instance(account.id, "sales")
                .await
                .unwrap()
                .unwrap()
                .paused
        );
        let listed = node
            .directory
            .instances(account.id, None, 10)
            .await
            .unwrap();
        assert!(listed[0].paused);
    }
}

#[tokio::test]
async fn an_opt_out_is_in_force_for_those_who_hold_the_set_and_after_a_restart() {
    let node = Node::new();
    let account = node.account("acme").await;
    let set = node.directory.suppressions(account.id).await.unwrap();
    let entry = Suppression {
        phone: phone(1),
        reason: Some("asked".to_owned()),
        source: "api".to_owned(),
        created_at: node.clock.now(),
    };

    let (_, new) = node
        .directory
        .suppress(account.id, entry.clone())
        .await
        .unwrap();
    let later = Suppression {
        reason: None,
        ..entry.clone()
    };
    let (kept, again) = node.directory.suppress(account.id, later).await.unwrap();

    assert_eq!((new, again, kept), (true, false, entry));
    assert!(set.clear(phone(1), "hello").is_err());
    assert!(set.clear(phone(2), "hello").is_ok());
    let restarted = node
        .restarted()
        .directory
        .suppressions(account.id)
        .await
        .unwrap();
    assert!(restarted.contains(phone(1)));

    assert!(
        node.directory
            .unsuppress(account.id, phone(1))
            .await
            .unwrap()
    );
    assert!(
        !node
            .directory
            .unsuppress(account.id, phone(1))
            .await
            .unwrap()
    );
    assert!(!set.contains(phone(1)));
    let page = PageRequest { skip: 0, limit: 10 };
    assert_eq!(
        node.directory
            .list_suppressions(account.id, page)
            .await
            .unwrap()
            .total,
        0
    );
}

#[tokio::test]
async fn templates_are_listed_newest_first_and_their_names_are_unique() {
    let node = Node::new();
    let account = node.account("acme").await;
    let directory = &node.directory;
    for name in ["one", "two", "three"] {
        directory
            .create_template(account.id, name, "Hello {{name}}")
            .await
            .unwrap();
    }

    let page = PageRequest { skip: 1, limit: 5 };
    let listed = directory.templates(account.id, page).await.unwrap();
    let names: Vec<_> = listed
        .items
        .iter()
        .map(|template| template.name.as_str())
        .collect();

    assert_eq!((names, listed.total), (vec!["two", "one"], 3));
    assert!(
        directory
            .create_template(account.id, "two", "again")
            .await
            .is_err()
    );
    let other = node.account("other").await;
    assert!(
        directory
            .template(other.id, listed.items[0].id)
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        directory
            .template(account.id, listed.items[0].id)
            .await
            .unwrap()
            .is_some()
    );
}

#[tokio::test]
async fn audit_lines_are_paged_newest_first() {
    let node = Node::new();
    let account = node.account("acme").await;
    for n in 0..5 {
        let line = AuditLine {
            at: node.clock.now(),
            actor: "system".to_owned(),
            action: "key.created".to_owned(),
            subject: n.to_string(),
            address: None,
            detail: None,
        };
        node.directory.audit(account.id, line).await.unwrap();
        node.clock.pass(seconds(n % 2));
    }

    let (first, cursor) = node
        .directory
        .audit_lines(account.id, None, 3)
        .await
        .unwrap();
    let (rest, end) = node
        .directory
        .audit_lines(account.id, cursor.as_deref(), 3)
        .await
        .unwrap();

    let subjects: Vec<_> = first
        .iter()
        .chain(&rest)
        .map(|line| line.subject.as_str())
        .collect();
    assert_eq!((subjects, end), (vec!["4", "3", "2", "1", "0"], None));
    assert!(
        node.directory
            .audit_lines(account.id, Some("x"), 3)
            .await
            .is_err()
    );
}
