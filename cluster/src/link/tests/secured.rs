//! Mutual TLS: who is let in, and what the others are told.

use std::path::Path;

use super::super::pki;
use super::super::tls::{CertificateFault, CredentialFiles, Credentials};
use super::*;
use crate::testing::now;

const DAY: Duration = Duration::from_secs(24 * 3_600);

/// Three nodes' keys in a folder of their own.
fn keys() -> tempfile::TempDir {
    made_at(now())
}

fn made_at(time: zajil_model::time::Timestamp) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let cluster = identity(HERE).cluster;
    pki::create(folder.path(), &cluster, 3, time, DAY * 30).unwrap();
    folder
}

/// A node that shows the certificate of one node, and may say that it is another.
async fn start_as(node: NodeId, keys: &Path, shows: NodeId, book: &Arc<Book>) -> Node {
    let files = CredentialFiles::within(&keys.join(format!("node-{}", shows.0)));
    let credentials = Credentials::load(&files, shows, &identity(node).cluster).unwrap();
    let mut settings = settings(identity(node), book);
    settings.credentials = Some(credentials);
    start(settings, book).await
}

async fn two_nodes_with(here: &Path, there: &Path) -> (Node, Node) {
    let book = Arc::new(Book::default());
    let here = start_as(HERE, here, HERE, &book).await;
    let there = start_as(THERE, there, THERE, &book).await;
    (here, there)
}

fn fault(refused: Result<Bytes, LinkError>) -> CertificateFault {
    match refused.unwrap_err() {
        LinkError::Refused {
            refusal: Refusal::Certificate(fault),
            ..
        } => fault,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn nodes_of_one_authority_talk_in_both_lanes() {
    let keys = keys();
    let (here, there) = two_nodes_with(keys.path(), keys.path()).await;

    let control = here.asks(ask(DETAILS, "").about(3, 4).within(5_000)).await;
    let bulk = here.asks(ask(BYTES, "16777216").by(Lane::Bulk)).await;
    let back = there.link.call(HERE, ask(ECHO, "back")).await;

    assert_eq!(control.unwrap(), "NodeId(1) Some(Shard(3)) Epoch(4) 5");
    assert_eq!(bulk.unwrap().len(), BULK_LIMIT);
    assert_eq!(back.unwrap(), "back");
}

#[tokio::test]
async fn a_slow_call_holds_up_no_other_under_tls_and_ends_with_its_caller() {
    let keys = keys();
    let (here, there) = two_nodes_with(keys.path(), keys.path()).await;

    let others = async {
        there.desk.began(1).await;
        for _ in 0..100 {
            here.asks(ask(ECHO, "quick").long(10_000)).await.unwrap();
        }
    };
    tokio::select! {
        _ = here.asks(ask(HANG, "")) => panic!("it hangs"),
        () = others => {}
    }

    there.desk.dropped(1).await;
}

#[tokio::test]
async fn a_node_of_another_authority_is_refused_by_whom_it_asks() {
    let (keys, others) = (keys(), keys());
    let (here, there) = two_nodes_with(keys.path(), others.path()).await;

    let refused = here.asks(ask(ECHO, "")).await;

    assert_eq!(fault(refused), CertificateFault::OtherAuthority);
    // The one that was asked hears that its certificate was not taken.
    there.refused("certificate").await;
}

#[tokio::test]
async fn an_asked_node_refuses_a_caller_of_another_authority() {
    let (keys, others) = (keys(), keys());
    // The caller trusts the right authority, and shows a certificate of another one.
    for file in ["cert.pem", "key.pem"] {
        let file = Path::new("node-1").join(file);
        std::fs::copy(others.path().join(&file), keys.path().join(&file)).unwrap();
    }
    let (here, there) = two_nodes_with(keys.path(), keys.path()).await;

    let refused = here.asks(ask(ECHO, "")).await;

    assert_eq!(fault(refused), CertificateFault::Ours);
    there.refused("certificate").await;
    let seen = &there.link.status().refused[0];
    let reason = "its certificate is not of this cluster's authority";
    assert_eq!(seen.detail, reason);
}

#[tokio::test]
async fn a_node_with_the_certificate_of_another_one_is_refused_by_whom_it_asks() {
    let keys = keys();
    let book = Arc::new(Book::default());
    let impostor = start_as(HERE, keys.path(), NodeId(3), &book).await;
    let there = start_as(THERE, keys.path(), THERE, &book).await;

    let refused = impostor.asks(ask(ECHO, "")).await;

    assert_eq!(fault(refused), CertificateFault::Ours);
    there.refused("certificate").await;
    let seen = &there.link.status().refused[0];
    assert_eq!(seen.who, "127.0.0.1, as node 1");
    assert!(seen.detail.contains("for another node"), "{}", seen.detail);
}

#[tokio::test]
async fn a_node_with_the_certificate_of_another_one_is_asked_nothing() {
    let keys = keys();
    let book = Arc::new(Book::default());
    let here = start_as(HERE, keys.path(), HERE, &book).await;
    let _impostor = start_as(THERE, keys.path(), NodeId(3), &book).await;

    let refused = here.asks(ask(ECHO, "")).await;

    assert_eq!(fault(refused), CertificateFault::OtherName);
}

#[tokio::test]
async fn a_certificate_that_has_expired_is_refused_on_both_sides() {
    let old = made_at(now() - DAY * 40);
    let (here, there) = two_nodes_with(old.path(), old.path()).await;

    let refused = here.asks(ask(ECHO, "")).await;

    assert_eq!(fault(refused), CertificateFault::Expired);
    there.refused("certificate").await;
}

#[tokio::test]
async fn a_caller_whose_certificate_has_expired_is_told_so() {
    let keys = keys();
    let cluster = identity(HERE).cluster;
    // Signed by the same authority, and over since long ago.
    std::fs::remove_dir_all(keys.path().join("node-1")).unwrap();
    pki::add(keys.path(), HERE, now() - DAY * 40, DAY).unwrap();
    assert_eq!(pki::cluster_in(keys.path()).unwrap(), cluster);
    let (here, there) = two_nodes_with(keys.path(), keys.path()).await;

    let refused = here.asks(ask(ECHO, "")).await;

    assert_eq!(fault(refused), CertificateFault::Ours);
    there.refused("certificate").await;
    let detail = &there.link.status().refused[0].detail;
    assert!(detail.contains("has expired"), "{detail}");
}

#[tokio::test]
async fn a_node_without_keys_does_not_reach_one_that_has_them() {
    let keys = keys();
    let book = Arc::new(Book::default());
    let plain = start(settings(identity(HERE), &book), &book).await;
    let there = start_as(THERE, keys.path(), THERE, &book).await;

    let refused = plain.asks(ask(ECHO, "")).await.unwrap_err();

    assert_eq!(refused.fate(), Fate::NotSent);
    there.refused("not_a_node").await;
}

#[tokio::test]
async fn without_keys_nothing_leaves_this_machine() {
    let book = Arc::new(Book::default());
    let link = TcpLink::new(settings(identity(HERE), &book));
    let outside: SocketAddr = "192.0.2.1:7946".parse().unwrap();
    book.write(THERE, outside);
    let everywhere = TcpListener::bind("0.0.0.0:0").await.unwrap();

    let asked = link.call(THERE, ask(ECHO, "")).await;
    let listened = link.listen(everywhere, Arc::new(Desk::default()));

    let node = THERE;
    let refusal = Refusal::Unprotected(outside);
    assert_eq!(asked, Err(LinkError::Refused { node, refusal }));
    let refused = listened.unwrap_err().to_string();
    assert!(refused.contains("zajil cluster init"), "{refused}");
    let loopback = "[::1]:7946".parse().unwrap();
    assert_eq!(check_security(&[loopback], None), Ok(()));
    let both = check_security(&[loopback, outside], None);
    assert_eq!(both, Err(Unprotected(outside)));
}
