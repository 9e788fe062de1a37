//! The command line as a process: help, `zajil check`, and what is said when no node runs.

use std::path::Path;
use std::process::{Command, Output};

fn zajil(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_zajil"))
        .args(args)
        .current_dir(folder)
        .output()
        .expect("zajil runs")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("UTF-8")
}

#[test]
fn every_command_explains_itself() {
    let folder = tempfile::tempdir().unwrap();
    let commands = [
        "",
        "serve",
        "simulator",
        "account",
        "account create",
        "user",
        "user create",
        "key",
        "key create",
        "key list",
        "key revoke",
        "key rotate",
        "instance",
        "instance create",
        "instance list",
        "instance show",
        "instance pace",
        "instance pause",
        "instance resume",
        "instance connect",
        "instance disconnect",
        "instance purge",
        "instance delete",
        "message",
        "message send",
        "message status",
        "message list",
        "message cancel",
        "batch",
        "batch send",
        "batch list",
        "batch show",
        "batch pause",
        "batch resume",
        "batch cancel",
        "batch report",
        "backup",
        "restore",
        "restore release",
        "export",
        "import",
        "check",
        "cluster",
        "cluster init",
        "cluster status",
        "cluster drain",
        "completions",
    ];

    for command in commands {
        let mut args: Vec<&str> = command.split_whitespace().collect();
        args.push("--help");
        let output = zajil(folder.path(), &args);
        let help = stdout(&output);

        assert!(output.status.success(), "{command}: {}", stderr(&output));
        assert!(help.contains("Usage: zajil"), "{command}: {help}");
        assert!(
            help.lines().next().is_some_and(|line| line.len() > 10),
            "{command}: {help}"
        );
    }
}

#[test]
fn check_shows_what_is_in_force_and_where_it_comes_from() {
    let folder = tempfile::tempdir().unwrap();
    let toml = "[operations]\ntoken = \"hush-hush\"\n[storage]\nretention = \"60d\"\n";
    std::fs::write(folder.path().join("zajil.toml"), toml).unwrap();

    let output = zajil(folder.path(), &["check", "--set", "log.level=debug"]);
    let shown = stdout(&output);

    assert!(output.status.success(), "{}", stderr(&output));
    assert!(
        shown.contains("retention = \"60d\"") && shown.contains("# zajil.toml"),
        "{shown}"
    );
    assert!(
        shown.contains("level = \"debug\"") && shown.contains("# flag --set"),
        "{shown}"
    );
    assert!(shown.contains("listen = \"127.0.0.1:8080\""), "{shown}");
    assert!(!shown.contains("hush-hush"), "{shown}");
}

#[test]
fn check_tells_everything_that_is_wrong_and_fails() {
    let folder = tempfile::tempdir().unwrap();
    let toml = "[storage]\nretention = \"1d\"\n[api]\nlistn = \"127.0.0.1:1\"\n";
    std::fs::write(folder.path().join("zajil.toml"), toml).unwrap();

    let output = zajil(folder.path(), &["check", "--data-dir", ""]);
    let faults = stderr(&output);

    assert_eq!(output.status.code(), Some(2));
    assert!(
        faults.contains("storage.retention = \"1d\" (zajil.toml): must be"),
        "{faults}"
    );
    assert!(faults.contains("did you mean api.listen?"), "{faults}");
    assert!(
        faults.contains("node.data_dir = \"\" (flag --data-dir)"),
        "{faults}"
    );
}

#[test]
fn a_node_does_not_start_with_wrong_settings() {
    let folder = tempfile::tempdir().unwrap();

    let output = zajil(folder.path(), &["serve", "--listen", "nowhere"]);

    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("flag --listen"),
        "{}",
        stderr(&output)
    );
    assert!(!folder.path().join("zajil-data").exists());
}

#[test]
fn without_a_node_a_command_says_how_to_find_one() {
    let folder = tempfile::tempdir().unwrap();

    let output = zajil(folder.path(), &["message", "list", "--token", "any"]);

    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("no node runs with the data folder"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn shells_get_completions() {
    let folder = tempfile::tempdir().unwrap();

    for shell in ["bash", "zsh", "fish"] {
        let output = zajil(folder.path(), &["completions", shell]);

        assert!(stdout(&output).contains("zajil"), "{shell}");
    }
}

#[test]
fn the_configuration_page_lists_every_setting() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = std::fs::read_to_string(root.join("docs/CONFIGURATION.md")).unwrap();

    let table = stdout(&zajil(&root, &["check", "--table"]));

    assert!(
        page.ends_with(&table),
        "write the output of `zajil check --table` to its end:\n{table}"
    );
}

#[test]
fn a_cluster_is_made_once_and_grows_by_a_node() {
    let folder = tempfile::tempdir().unwrap();
    let init = |args: &[&str]| {
        let args = [&["cluster", "init", "--dir", "keys"], args].concat();
        zajil(folder.path(), &args)
    };

    let made = init(&["--nodes", "2", "--name", "souq"]);
    let again = init(&["--nodes", "2"]);
    let added = init(&["--add", "3"]);

    assert!(made.status.success(), "{}", stderr(&made));
    assert!(stdout(&made).contains("keys/node-2  all that node-2.souq.zajil needs"));
    assert!(stdout(&made).contains("zajil cluster init --dir keys --add 3"));
    assert!(!again.status.success());
    assert!(stderr(&again).contains("never overwritten"));
    assert!(added.status.success(), "{}", stderr(&added));
    for file in [
        "ca.pem",
        "cert.pem",
        "key.pem",
        "gossip.key",
        "cluster.toml",
    ] {
        assert!(
            folder.path().join("keys/node-3").join(file).exists(),
            "{file}"
        );
    }
}

#[test]
fn what_is_made_for_a_node_is_good_as_its_configuration_but_for_the_database() {
    let folder = tempfile::tempdir().unwrap();
    let made = zajil(
        folder.path(),
        &["cluster", "init", "--dir", "keys", "--nodes", "2"],
    );
    assert!(made.status.success(), "{}", stderr(&made));
    let made = folder.path().join("keys/node-2/cluster.toml");
    std::fs::copy(made, folder.path().join("zajil.toml")).unwrap();

    let lacking = zajil(folder.path(), &["check"]);
    let database = "storage.contact_points=127.0.0.1:9042";
    let whole = zajil(folder.path(), &["check", "--set", database]);

    assert_eq!(lacking.status.code(), Some(2));
    let faults = stderr(&lacking);
    assert!(
        faults.contains("storage.contact_points") && faults.lines().count() <= 3,
        "{faults}"
    );
    assert!(whole.status.success(), "{}", stderr(&whole));
    let shown = stdout(&whole);
    assert!(
        shown.contains("keys/node-2\"") && shown.contains("node = \"2\""),
        "{shown}"
    );
}

#[test]
fn a_drain_needs_somebody_to_ask() {
    let folder = tempfile::tempdir().unwrap();
    let nobody = "http://127.0.0.1:1";

    for command in ["status", "drain"] {
        let args = [
            "cluster",
            command,
            "--operations-url",
            nobody,
            "--token",
            "t",
        ];
        let output = zajil(folder.path(), &args);

        assert_eq!(output.status.code(), Some(1), "{command}");
        let told = stderr(&output);
        assert!(told.contains("no node answers at 127.0.0.1:1"), "{told}");
    }
}

#[test]
fn what_cannot_be_a_cluster_is_refused_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let wrong = [
        ["--nodes", "0", "--name", "souq"],
        ["--nodes", "3", "--name", "No Name"],
        ["--nodes", "3", "--days", "0"],
        ["--add", "3", "--name", "souq"],
    ];

    for args in wrong {
        let args = [&["cluster", "init", "--dir", "keys"], &args[..]].concat();
        let output = zajil(folder.path(), &args);

        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(!folder.path().join("keys").exists(), "{args:?}");
    }
}
