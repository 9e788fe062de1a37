//! A disk in trouble: a full one is told of and recovered from without a new start, a torn end of the
//! log is cut, damage is never taken for an end, and two nodes never share a folder.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use rand::distr::{Alphanumeric, SampleString};
use rand::rngs::StdRng;
use serde_json::json;
use zajil_model::lifecycle::Status;
use zajil_tests::cluster::{Engine, Setup};
use zajil_tests::customer::{Customer, Letter, ids};
use zajil_tests::form::{dice, skipped};
use zajil_tests::load::{Load, number};
use zajil_tests::operator::Pace;
use zajil_tests::scene::{Plan, Scene};
use zajil_tests::wait::seconds;

/// The size of the small disk: the segments that a node prepares, and as much again.
const DISK: u64 = 420 << 20;

/// A small disk of its own, taken away with this value.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` when this process may not mount one.
    fn mount(place: PathBuf) -> Result<Option<Self>> {
        fs::create_dir_all(&place)?;
        let size = format!("size={DISK}");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "zajil-scenario"])
            .arg(&place)
            .output();
        Ok(mounted
            .is_ok_and(|ran| ran.status.success())
            .then_some(Self(place)))
    }

    /// Takes all space that is left.
    fn fill_up(&self) -> Result<()> {
        let mut file = File::create(self.0.join("balloon"))?;
        for size in [1 << 20, 4_096] {
            let zeros = vec![0; size];
            while file.write_all(&zeros).is_ok() {}
        }
        Ok(())
    }

    /// Gives it back.
    fn let_off(&self) -> Result<()> {
        Ok(fs::remove_file(self.0.join("balloon"))?)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the node that uses it ends a moment later.
        let ended = Command::new("umount").arg("-l").arg(&self.0).status();
        assert!(
            ended.is_ok_and(|status| status.success()),
            "{} stays mounted",
            self.0.display()
        );
    }
}

/// Somebody whose texts fill the disk, and are never sent.
async fn filler(scene: &Scene) -> (Customer, u64) {
    let account = scene.operator.make_account("filler").await;
    let pace = Pace {
        rate: 1.0,
        burst: 1,
    };
    let instance = scene
        .operator
        .make_instance(account.id, "full", pace, json!({}))
        .await;
    let customer = scene.operator.customer(&account.key);
    let pause = format!("/instances/{instance}/pause");
    customer.post(&pause, &json!({})).await.expect_status(200);
    (customer, instance)
}

/// 100 messages as long as a message may be, that no compression makes smaller.
fn long_letters(dice: &mut StdRng) -> serde_json::Value {
    (0..100)
        .map(|n| {
            let content = Alphanumeric.sample_string(dice, 4_096);
            json!({ "recipient": number(n), "content": content })
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_told_and_needs_no_new_start() -> Result<()> {
    let mut dice = dice("disk_trouble");
    let place = tempfile::tempdir()?;
    let Some(disk) = SmallDisk::mount(place.path().join("disk"))? else {
        skipped(
            "a_full_disk_is_told_and_needs_no_new_start",
            "no disk can be mounted",
        );
        return Ok(());
    };
    let mut scene = Plan::new().data(disk.0.join("data")).start().await?;
    let (filler, full) = filler(&scene).await;
    let load = Load::on(&scene.instances).start(&scene.customer, &mut dice);
    load.await_answers(20, seconds(60)).await;

    disk.fill_up()?;
    let letters = long_letters(&mut dice);
    let body = json!({ "instance": full, "messages": letters });
    let mut accepted = 0;
    let refusal = loop {
        let answer = filler.post("/messages/send-bulk", &body).await;
        if answer.status != 200 {
            break answer;
        }
        accepted += 100;
    };
    println!("{accepted} long messages until the disk was full");
    assert_eq!(
        (refusal.status, refusal.error_code().as_str()),
        (503, "unavailable")
    );
    assert!(refusal.number("retry-after").is_some());
    // What was accepted before still leaves: outcomes have a reserve.
    scene.customer.await_settled(seconds(60)).await;
    assert_eq!(scene.engine.ask("/readyz").await.status, 503);

    disk.let_off()?;
    let ready = async || scene.engine.ask("/readyz").await.status;
    zajil_tests::eventually(seconds(60), 200, ready).await;
    load.await_answers(20, seconds(60)).await;
    load.stop().await;
    assert_eq!(scene.engine.ended(), None);

    scene.verdict().await.assert_clean();
    let page = filler
        .get("/messages?per_page=1")
        .await
        .expect_status(200)
        .data();
    assert_eq!(
        page["total"], accepted,
        "what was accepted on a full disk is there"
    );
    scene.kill_and_start_again().await?;
    let page = filler
        .get("/messages?per_page=1")
        .await
        .expect_status(200)
        .data();
    assert_eq!(page["total"], accepted);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_on_a_full_disk_stops_in_good_order_and_starts_again() -> Result<()> {
    let mut dice = dice("disk_trouble");
    let place = tempfile::tempdir()?;
    let Some(disk) = SmallDisk::mount(place.path().join("disk"))? else {
        skipped(
            "a_node_on_a_full_disk_stops_in_good_order_and_starts_again",
            "no disk can be mounted",
        );
        return Ok(());
    };
    let mut scene = Plan::new().data(disk.0.join("data")).start().await?;
    let load = Load::on(&scene.instances).start(&scene.customer, &mut dice);
    load.await_answers(20, seconds(60)).await;
    disk.fill_up()?;
    let refusing = async || scene.engine.ask("/readyz").await.status;
    zajil_tests::eventually(seconds(20), 503, refusing).await;

    let ended = scene.engine.stop(seconds(20)).await?;

    assert_eq!(ended.code(), Some(0), "{}", scene.engine.log());
    disk.let_off()?;
    scene.engine.start_again().await?;
    load.await_answers(20, seconds(60)).await;
    load.stop().await;
    // No kill is written down: nothing is repeated.
    scene.verdict().await.assert_clean();
    Ok(())
}

/// Where groups of a segment begin, and where the last one ends, by the layout that the log
/// documents: a page for the header, then groups, each with a salt, a mark and its length.
fn groups(segment: &[u8]) -> (Vec<usize>, usize) {
    const MARK: u32 = u32::from_le_bytes(*b"ZJG\x01");
    let number = |at: usize| {
        let bytes = segment
            .get(at..at + 4)
            .and_then(|bytes| bytes.try_into().ok());
        u32::from_le_bytes(bytes.unwrap_or_default())
    };
    let (mut begins, mut at) = (Vec::new(), 4_096);
    while number(at + 24) == MARK {
        begins.push(at);
        at += number(at + 32) as usize;
    }
    (begins, at)
}

/// The segment that was written last, with its bytes.
fn last_segment(data: &Path) -> Result<(PathBuf, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(data.join("log"))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>>>()?;
    files.retain(|file| file.extension().is_some_and(|kind| kind == "seg"));
    files.retain(|file| file.file_stem().is_some_and(|name| name != "preparing"));
    files.sort();
    for file in files.into_iter().rev() {
        let bytes = fs::read(&file)?;
        if !groups(&bytes).0.is_empty() {
            return Ok((file, bytes));
        }
    }
    bail!("the log is empty")
}

/// A scene that was killed in the middle of a load.
async fn killed(dice: &mut StdRng) -> Result<Scene> {
    let mut scene = Plan::new().start().await?;
    let load = Load::on(&scene.instances).start(&scene.customer, dice);
    load.await_answers(60, seconds(60)).await;
    let at = scene.engine.kill().await;
    scene.rules.kills.push(at);
    // The senders end when they have something to send to, or give up.
    drop(load);
    Ok(scene)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_end_of_the_log_is_cut_and_nothing_else_is_lost() -> Result<()> {
    let mut dice = dice("disk_trouble");
    let mut scene = killed(&mut dice).await?;
    let (file, bytes) = last_segment(scene.engine.folder())?;
    let (begins, end) = groups(&bytes);
    let last = *begins.last().context("the log has groups")?;

    // A group was begun behind the last one, and only a part of it reached the disk.
    let torn = &bytes[last..(last + 300).min(bytes.len())];
    OpenOptions::new()
        .write(true)
        .open(&file)?
        .write_all_at(torn, end as u64)?;
    scene.engine.start_again().await?;

    let log = scene.engine.log();
    let replayed = log
        .lines()
        .rfind(|line| line.contains("torn"))
        .unwrap_or_default();
    assert!(!replayed.contains("\"torn_bytes\":0"), "{replayed}");
    let known: std::collections::BTreeSet<_> = scene
        .customer
        .list()
        .await
        .iter()
        .filter_map(|one| one["id"].as_u64())
        .collect();
    for accepted in scene.customer.book().accepted {
        assert!(
            known.contains(&accepted.id),
            "{} was lost",
            accepted.client_ref
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_before_the_end_is_never_taken_for_an_end() -> Result<()> {
    let mut dice = dice("disk_trouble");
    // A flush just before the kill may make the last groups history; then another try.
    for _ in 0..5 {
        let mut scene = killed(&mut dice).await?;
        let (file, mut bytes) = last_segment(scene.engine.folder())?;
        let (begins, _) = groups(&bytes);
        let [.., damaged, _last] = begins[..] else {
            bail!("the log has too few groups")
        };
        let byte = damaged + 60;
        bytes[byte] ^= 0x10;
        let changed = &bytes[byte..=byte];
        OpenOptions::new()
            .write(true)
            .open(&file)?
            .write_all_at(changed, byte as u64)?;

        let started = scene.engine.start_again().await;

        let Err(refused) = started else { continue };
        let told = format!("{refused:#}");
        assert!(
            told.contains("segment") || told.contains(".seg"),
            "it does not say where: {told}"
        );
        assert!(fs::read(&file)? == bytes, "a refused start changed the log");
        return Ok(());
    }
    bail!("the node started over damage, five times")
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_never_share_a_folder() -> Result<()> {
    let scene = Scene::usual().await?;
    let setup = Setup::new().with("node.first_run", "never");

    // Its ports are free; the folder is what it is refused for.
    let second = Engine::start(scene.engine.folder(), setup).await;

    let told = second
        .err()
        .map(|error| format!("{error:#}"))
        .unwrap_or_default();
    assert!(told.contains("already used"), "{told}");
    let letter = Letter::to(&number(1), "first");
    let id = ids(&scene
        .customer
        .send(scene.instance(), &letter)
        .await?
        .expect_status(201))[0];
    scene
        .customer
        .await_status(id, Status::Read, seconds(20))
        .await;
    Ok(())
}
