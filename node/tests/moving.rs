//! `zajil export` and `zajil import` on one machine, as processes.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

fn zajil(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zajil"));
    let output = command.args(args).current_dir(folder).output();
    output.expect("zajil runs")
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A command that has to go well; answers what it printed.
fn done(folder: &Path, args: &[&str]) -> String {
    let output = zajil(folder, args);
    assert!(output.status.success(), "zajil {args:?}: {}", told(&output));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// A command that has to fail; answers the last line of what it said, which has to hold the reason.
fn refused(folder: &Path, args: &[&str]) -> String {
    let output = zajil(folder, args);
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    let said = told(&output);
    let mut lines = said.lines().filter(|line| line.starts_with("zajil: "));
    let line = lines.next_back().expect("it says why").to_owned();
    assert_eq!(lines.next(), None, "{said}");
    line
}

/// A node that runs, and is killed when the test ends.
struct Running(Child);

impl Running {
    fn start(folder: &Path, data_dir: &str) -> Self {
        let listen = [
            "--listen",
            "127.0.0.1:0",
            "--operations-listen",
            "127.0.0.1:0",
        ];
        let mut child = Command::new(env!("CARGO_BIN_EXE_zajil"))
            .args(["serve", "--data-dir", data_dir])
            .args(listen)
            .current_dir(folder)
            .stdout(Stdio::piped())
            .spawn()
            .expect("zajil runs");
        let lines = BufReader::new(child.stdout.take().expect("it is a pipe")).lines();
        let mut lines = lines.map_while(Result::ok);
        let listens = lines.any(|line| line.starts_with("Zajil listens"));
        assert!(listens, "the node ended before it listened");
        Self(child)
    }

    fn stop(mut self) {
        let pid = self.0.id().to_string();
        let asked = Command::new("kill").args(["-TERM", &pid]).status();
        assert!(asked.expect("kill runs").success());
        assert!(self.0.wait().expect("it is our child").success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already where the test went well.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A folder with a store in `zajil-data` that took one message; answers its id.
fn used(folder: &Path) -> String {
    let node = Running::start(folder, "zajil-data");
    let send = ["message", "send", "--instance", "my-instance"];
    let sent = done(folder, &[&send[..], &["+4915112345678", "Hello"]].concat());
    node.stop();
    let id = sent
        .split_whitespace()
        .find(|word| word.parse::<u64>().is_ok());
    id.expect("a message has an id").to_owned()
}

#[test]
fn a_store_is_moved_to_another_folder_and_waits_for_its_release() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let id = used(here);

    let exported = done(here, &["export", "--out", "everything"]);
    let imported = done(here, &["import", "everything", "--data-dir", "moved"]);
    let node = Running::start(here, "moved");
    let status = done(here, &["message", "status", &id, "--data-dir", "moved"]);
    let release = ["restore", "release", "--resend", "--data-dir", "moved"];
    done(here, &release);
    node.stop();

    assert!(exported.starts_with("exported 1 messages, "), "{exported}");
    assert!(imported.contains("sends nothing until"), "{imported}");
    assert!(status.contains(&id), "{status}");
    assert!(!here.join("moved/first-run.txt").exists());
}

#[test]
fn what_cannot_be_exported_is_told_in_a_line_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let nowhere = refused(here, &["export", "--out", "file"]);
    let node = Running::start(here, "zajil-data");
    let running = refused(here, &["export", "--out", "file"]);
    node.stop();
    done(here, &["export", "--out", "file"]);
    let there = refused(here, &["export", "--out", "file"]);
    let placed = refused(here, &["export", "--out", "no/such/folder"]);

    assert_eq!(nowhere, "zajil: there is no store in zajil-data");
    assert!(running.contains("stop the node that uses it"), "{running}");
    assert_eq!(there, "zajil: file is there already");
    assert!(
        placed.contains("cannot make no/such/folder.part"),
        "{placed}"
    );
    assert!(!here.join("file.part").exists());
}

#[test]
fn what_cannot_be_imported_is_told_in_a_line_and_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    used(here);
    done(here, &["export", "--out", "file"]);
    let good = fs::read(here.join("file")).unwrap();
    let try_import = |bytes: &[u8]| {
        fs::write(here.join("bad"), bytes).unwrap();
        refused(here, &["import", "bad", "--data-dir", "moved"])
    };

    let cut = try_import(&good[..good.len() - 7]);
    let mut bytes = good.clone();
    bytes[good.len() / 2] ^= 1;
    let flipped = try_import(&bytes);
    bytes.clone_from(&good);
    bytes[8] = 2;
    let newer = try_import(&bytes);
    let foreign = try_import(b"recipient,name\n");
    let missing = refused(here, &["import", "no", "--data-dir", "moved"]);
    let full = refused(here, &["import", "file"]);

    assert!(cut.contains("the export is damaged at frame"), "{cut}");
    assert!(flipped.contains("its check sum is wrong"), "{flipped}");
    assert!(newer.contains("version 2; this program reads 1"), "{newer}");
    assert_eq!(foreign, "zajil: bad is no export");
    assert!(
        missing.contains("cannot read no: No such file"),
        "{missing}"
    );
    assert!(full.contains("zajil-data is not empty"), "{full}");
    assert!(!here.join("moved").exists() && !here.join("moved.importing").exists());
}
