//! Contacts.

use zajil_actors::directory::{
    Contact, ContactChange, ContactFilter, DirectoryError, NewContact, Page, PageRequest,
};
use zajil_model::id::AccountId;
use zajil_model::phone::Phone;

use crate::support::{Node, phone};

fn contact(recipient: Phone, name: &str, group: i64) -> NewContact {
    NewContact {
        phone: recipient,
        name: Some(name.to_owned()),
        label: None,
        group_id: Some(group),
    }
}

async fn all(node: &Node, account: AccountId, filter: &ContactFilter) -> Page<Contact> {
    node.directory
        .contacts(
            account,
            filter,
            PageRequest {
                skip: 0,
                limit: 200,
            },
        )
        .await
        .unwrap()
}

#[tokio::test]
async fn a_phone_belongs_to_one_contact_of_an_account() {
    let node = Node::new();
    let (one, other) = (node.account("one").await, node.account("other").await);
    let directory = &node.directory;
    let ann = directory
        .create_contact(one.id, contact(phone(1), "Ann", 1))
        .await
        .unwrap();
    let bob = directory
        .create_contact(one.id, contact(phone(2), "Bob", 1))
        .await
        .unwrap();
    let taken = |result: Result<Contact, DirectoryError>| {
        matches!(
            result,
            Err(DirectoryError::Field {
                field: "phone_number",
                ..
            })
        )
    };

    assert!(taken(
        directory
            .create_contact(one.id, contact(phone(1), "Eve", 1))
            .await
    ));
    let to_ann = ContactChange {
        phone: Some(phone(1)),
        ..ContactChange::default()
    };
    assert!(taken(
        directory
            .update_contact(one.id, bob.id, to_ann.clone())
            .await
    ));
    assert!(
        directory
            .create_contact(other.id, contact(phone(1), "Ann", 1))
            .await
            .is_ok()
    );

    directory.delete_contact(one.id, ann.id).await.unwrap();
    assert_eq!(
        directory
            .update_contact(one.id, bob.id, to_ann)
            .await
            .unwrap()
            .phone,
        phone(1)
    );
    assert!(
        directory
            .create_contact(one.id, contact(phone(2), "Bo", 1))
            .await
            .is_ok()
    );
    assert!(directory.delete_contact(one.id, ann.id).await.is_err());
}

#[tokio::test]
async fn a_change_touches_what_it_names_and_can_empty_it() {
    let node = Node::new();
    let account = node.account("acme").await;
    let made = node
        .directory
        .create_contact(account.id, contact(phone(1), "Ann", 7))
        .await
        .unwrap();

    let change = ContactChange {
        name: Some(None),
        ..ContactChange::default()
    };
    node.directory
        .update_contact(account.id, made.id, change)
        .await
        .unwrap();

    let stored = node
        .directory
        .contact(account.id, made.id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(stored, Contact { name: None, ..made });
}

#[tokio::test]
async fn totals_are_exact_with_and_without_a_filter_even_when_many_are_added_at_once() {
    let node = Node::new();
    let account = node.account("acme").await;
    let adding = (0..200).map(|n| {
        let directory = node.directory.clone();
        let new = contact(phone(n), &format!("Person {n}"), (n % 2) as i64);
        node.tracker
            .spawn(async move { directory.create_contact(account.id, new).await })
    });
    for added in adding.collect::<Vec<_>>() {
        added.await.unwrap().unwrap();
    }

    let unfiltered = all(&node, account.id, &ContactFilter::default()).await;
    let group = ContactFilter {
        group_id: Some(1),
        ..ContactFilter::default()
    };
    let search = ContactFilter {
        search: Some("PERSON 19".to_owned()),
        ..ContactFilter::default()
    };

    assert_eq!((unfiltered.total, unfiltered.items.len()), (200, 200));
    assert!(
        unfiltered.items.is_sorted_by(|a, b| a.id > b.id),
        "newest first"
    );
    assert_eq!(all(&node, account.id, &group).await.total, 100);
    assert_eq!(all(&node, account.id, &search).await.total, 11);
    let last = PageRequest {
        skip: 195,
        limit: 50,
    };
    let page = node
        .directory
        .contacts(account.id, &ContactFilter::default(), last)
        .await
        .unwrap();
    assert_eq!((page.items.len(), page.total), (5, 200));
}
