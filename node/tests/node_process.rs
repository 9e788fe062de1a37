//! A node as a process, steered from the command line as its people do it.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

/// A node that runs, and is killed when the test ends.
struct Running(Child);

impl Running {
    /// Starts a node on free ports in the folder and waits until it says that it listens.
    fn start(folder: &Path) -> Self {
        Self::start_on(folder, "zajil-data")
    }

    fn start_on(folder: &Path, data_dir: &str) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_zajil"))
            .args([
                "serve",
                "--data-dir",
                data_dir,
                "--listen",
                "127.0.0.1:0",
                "--operations-listen",
                "127.0.0.1:0",
            ])
            .current_dir(folder)
            .stdout(Stdio::piped())
            .spawn()
            .expect("zajil runs");
        let lines = BufReader::new(child.stdout.take().expect("it is a pipe")).lines();
        let listens = lines
            .map_while(Result::ok)
            .any(|line| line.starts_with("Zajil listens"));
        assert!(
            listens,
            "the node ended before it listened: {:?}",
            child.wait()
        );
        Self(child)
    }

    /// Waits until it ended by itself.
    fn ended(mut self) -> ExitStatus {
        self.0.wait().expect("it is our child")
    }

    fn signal(mut self, name: &str) -> ExitStatus {
        let pid = self.0.id().to_string();
        assert!(
            Command::new("kill")
                .args([name, &pid])
                .status()
                .expect("kill runs")
                .success()
        );
        self.0.wait().expect("it is our child")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already where the test went well.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn zajil(folder: &Path, args: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_zajil"))
        .args(args)
        .current_dir(folder)
        .output()
        .expect("it runs");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "zajil {args:?}: {told}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn an_operator_sees_a_node_and_has_it_leave() {
    let folder = tempfile::tempdir().unwrap();
    let node = Running::start(folder.path());

    let status = zajil(folder.path(), &["cluster", "status"]);
    let drained = zajil(folder.path(), &["cluster", "drain"]);

    let line = status.lines().nth(1).unwrap_or_default();
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(words[..3], ["local", "live", "1024"], "{status}");
    assert!(drained.ends_with("node local left\n"), "{drained}");
    assert!(node.ended().success());
}

#[test]
fn a_node_that_is_named_is_asked_and_not_the_one_that_runs_here() {
    let folder = tempfile::tempdir().unwrap();
    let _here = Running::start(folder.path());

    let other = Command::new(env!("CARGO_BIN_EXE_zajil"))
        .args(["cluster", "drain", "--url", "http://127.0.0.1:1"])
        .current_dir(folder.path())
        .output()
        .expect("it runs");

    assert!(!other.status.success());
    let status = zajil(folder.path(), &["cluster", "status"]);
    assert!(status.contains("live"), "{status}");
}

/// The request of the first start, exactly as it is to be pasted.
fn pasted(folder: &Path) -> serde_json::Value {
    let file = folder.join("zajil-data/first-run.txt");
    assert_eq!(
        std::fs::metadata(&file)
            .expect("the first start wrote it")
            .permissions()
            .mode()
            & 0o777,
        0o600
    );
    let text = std::fs::read_to_string(file).expect("it is text");
    let line = &text[text.find("curl ").expect("it holds the request")..];
    let output = Command::new("bash")
        .args(["-c", line])
        .output()
        .expect("it runs");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
}

#[test]
fn the_first_start_tells_a_request_that_works_as_pasted() {
    let folder = tempfile::tempdir().unwrap();
    let node = Running::start(folder.path());

    let answer = pasted(folder.path());

    assert_eq!(answer["success"], true, "{answer}");
    let id = answer["data"]["message_id"].to_string();
    assert!(zajil(folder.path(), &["message", "status", &id]).contains("+966501234567"));
    assert!(node.signal("-TERM").success());
    assert!(!folder.path().join("zajil-data/node.json").exists());
}

#[test]
fn what_was_accepted_is_there_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let node = Running::start(folder.path());
    let answer = pasted(folder.path());
    assert_eq!(answer["success"], true, "{answer}");

    assert!(!node.signal("-KILL").success());
    let _node = Running::start(folder.path());

    let id = answer["data"]["message_id"].to_string();
    assert!(zajil(folder.path(), &["message", "status", &id]).contains("+966501234567"));
}

#[test]
fn a_second_node_in_the_same_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let _node = Running::start(folder.path());

    let second = Command::new(env!("CARGO_BIN_EXE_zajil"))
        .args([
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--operations-listen",
            "127.0.0.1:0",
        ])
        .current_dir(folder.path())
        .output()
        .unwrap();

    assert_eq!(second.status.code(), Some(1), "{second:?}");
}

#[test]
fn everything_can_be_made_from_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let _node = Running::start(folder.path());
    let run = |args: &[&str]| zajil(folder.path(), args);

    let instance = run(&["instance", "create", "second", "--rate", "50/s"]);
    let key = run(&[
        "key",
        "create",
        "--name",
        "shop",
        "--permissions",
        "send_message",
    ]);
    let user = run(&["user", "create", "--email", "owner@example.com"]);
    let account = run(&["account", "create", "--name", "Another"]);

    assert!(instance.contains("second"), "{instance}");
    assert!(key.contains("sk_live_"), "{key}");
    assert!(
        user.contains("owner@example.com") && user.contains("password"),
        "{user}"
    );
    assert!(account.contains("Another"), "{account}");
    let mine = ["--account", "Another", "instance", "create", "third"];
    assert!(run(&[&mine[2..], &mine[..2]].concat()).contains("third"));
}

#[test]
fn a_campaign_is_sent_from_a_file_and_followed_to_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let row = |n: u32| format!("+9665{n:08},Guest {n}\n");
    let rows: String = (0..200).map(row).collect();
    std::fs::write(
        folder.path().join("guests.csv"),
        format!("phone,name\n{rows}"),
    )
    .unwrap();
    let _node = Running::start(folder.path());
    let run = |args: &[&str]| zajil(folder.path(), args);
    run(&["instance", "create", "fast", "--rate", "1000/s"]);

    let text = "Dear {{name}}, see you on Friday";
    let told = run(&[
        "batch",
        "send",
        "guests.csv",
        "--content",
        text,
        "--instance",
        "fast",
        "--json",
    ]);

    let batch: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!(batch["state"], "finished", "{batch}");
    assert_eq!(batch["taken"], 200, "{batch}");
    let report = run(&["batch", "report", &batch["id"].to_string()]);
    assert_eq!(report.lines().count(), 201, "{report}");
}

#[test]
fn what_waited_in_a_backup_is_held_back_until_it_is_released() {
    let folder = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| zajil(folder.path(), args);
    let node = Running::start(folder.path());
    run(&["instance", "pause", "my-instance"]);
    run(&[
        "message",
        "send",
        "--instance",
        "my-instance",
        "+966501234567",
        "Hello",
    ]);
    run(&["backup", "copy.zajil"]);
    assert!(node.signal("-TERM").success());

    run(&["restore", "copy.zajil", "--data-dir", "restored"]);
    let _restored = Running::start_on(folder.path(), "restored");

    let run = |args: &[&str]| run(&[args, &["--data-dir", "restored"]].concat());
    assert!(run(&["message", "list"]).contains("pending"));
    assert!(run(&["restore", "release"]).contains("settled  1"));
    assert!(run(&["message", "list"]).contains("unknown"));
}
