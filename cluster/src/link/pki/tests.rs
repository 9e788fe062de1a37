//! Keys that are made are good, private and never lost.

use std::os::unix::fs::PermissionsExt;

use super::super::tls::{CertificateFault, CredentialFiles, Credentials, CredentialsError};
use super::*;

const DAY: Duration = Duration::from_secs(24 * 3_600);

fn now() -> Timestamp {
    Timestamp::from_seconds(1_800_000_000)
}

fn three(folder: &Path) -> ClusterId {
    let cluster = unique_id().unwrap();
    create(folder, &cluster, 3, now(), DAY * 30).unwrap();
    cluster
}

fn read_at(
    folder: &Path,
    node: u64,
    cluster: &ClusterId,
    time: Timestamp,
) -> Result<Credentials, CredentialsError> {
    let files = CredentialFiles::within(&folder.join(format!("node-{node}")));
    Credentials::read(&files, NodeId(node), cluster, time)
}

#[test]
fn a_cluster_has_good_credentials_for_each_node_and_for_one_added_later() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = three(folder.path());

    let added = add(folder.path(), NodeId(4), now() + DAY, DAY * 30).unwrap();

    assert_eq!(added.name, format!("node-4.{cluster}.zajil"));
    for node in 1..=4 {
        read_at(folder.path(), node, &cluster, now() + DAY).unwrap();
    }
}

#[test]
fn every_file_is_its_owners_alone() {
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys");
    three(&keys);

    let mut open = vec![keys];
    let mut seen = 0;
    while let Some(path) = open.pop() {
        seen += 1;
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        if path.is_dir() {
            assert_eq!(mode, PRIVATE_FOLDER, "{}", path.display());
            open.extend(fs::read_dir(&path).unwrap().map(|it| it.unwrap().path()));
        } else {
            assert_eq!(mode, PRIVATE_FILE, "{}", path.display());
        }
    }
    assert_eq!(seen, 1 + 4 + 3 * 6);
}

#[test]
fn nothing_is_ever_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = three(folder.path());
    let before = fs::read(folder.path().join("node-2/key.pem")).unwrap();

    let again = create(folder.path(), &cluster, 1, now(), DAY);
    let twice = add(folder.path(), NodeId(2), now(), DAY);

    assert!(matches!(again, Err(PkiError::Exists(_))));
    assert!(matches!(twice, Err(PkiError::Exists(_))));
    let after = fs::read(folder.path().join("node-2/key.pem")).unwrap();
    assert_eq!(before, after);
}

#[test]
fn a_node_cannot_be_added_to_what_is_no_cluster() {
    let folder = tempfile::tempdir().unwrap();

    let refused = add(folder.path(), NodeId(2), now(), DAY);

    assert!(matches!(refused, Err(PkiError::NoCluster(_))));
}

#[test]
fn what_is_wrong_with_a_certificate_is_told_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = three(folder.path());
    let other: ClusterId = "elsewhere".parse().unwrap();
    let fault = |read: Result<Credentials, _>| match read.unwrap_err() {
        CredentialsError::Certificate { fault, .. } => fault,
        other => panic!("{other}"),
    };

    let late = read_at(folder.path(), 1, &cluster, now() + DAY * 31);
    let early = read_at(folder.path(), 1, &cluster, now() - DAY * 2);
    let elsewhere = read_at(folder.path(), 1, &other, now());
    assert_eq!(fault(late), CertificateFault::Expired);
    assert_eq!(fault(early), CertificateFault::NotYet);
    assert_eq!(fault(elsewhere), CertificateFault::OtherName);

    let stranger = tempfile::tempdir().unwrap();
    create(stranger.path(), &cluster, 1, now(), DAY).unwrap();
    let theirs = stranger.path().join("node-1/ca.pem");
    fs::copy(theirs, folder.path().join("node-1/ca.pem")).unwrap();
    let unsigned = read_at(folder.path(), 1, &cluster, now());
    assert_eq!(fault(unsigned), CertificateFault::OtherAuthority);
}

#[test]
fn a_key_of_another_node_or_a_missing_file_is_told_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = three(folder.path());
    let key = |node: u64| folder.path().join(format!("node-{node}/key.pem"));

    fs::copy(key(2), key(1)).unwrap();
    let unfit = read_at(folder.path(), 1, &cluster, now());
    fs::remove_file(key(3)).unwrap();
    let missing = read_at(folder.path(), 3, &cluster, now());

    assert!(matches!(unfit, Err(CredentialsError::Key(_))));
    let text = missing.unwrap_err().to_string();
    assert!(text.contains("node-3/key.pem"), "{text}");
}
