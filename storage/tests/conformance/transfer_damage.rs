//! What an export refuses, and what an import refuses: nothing is written then, or nothing of it is
//! served.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use zajil_model::lifecycle::Event;
use zajil_model::message::Queue;
use zajil_storage::transfer::{self, ExportError, ImportError, unfinished_row};
use zajil_storage::{MemoryStore, StageError, Store};

use crate::transfer::{Origin, checked, file, import};
use crate::world::{Kind, SMALL, START, message, runtime};

/// A small export.
async fn exported(file: &Path) -> Vec<u8> {
    let mut origin = Origin::new(Kind::Memory(SMALL));
    origin.fill_rows().await;
    let world = &mut origin.both.world;
    let chunk = world.chunk(1, Queue::Normal, (0..3).map(message).collect());
    world.accept(1, &chunk).await;
    world.tell(1, vec![(chunk.id(0), Event::Attempt(1))]).await;
    origin.export(file).await;
    fs::read(file).unwrap()
}

#[test]
fn a_byte_that_is_another_one_is_found_wherever_it_is() {
    runtime().block_on(async {
        let (_folder, file) = file();
        let good = exported(&file).await;

        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            fs::write(&file, &bad).unwrap();

            assert!(checked(&file).is_err(), "byte {at} of {}", good.len());
        }
    });
}

#[test]
fn a_file_that_is_cut_anywhere_or_goes_on_is_refused() {
    runtime().block_on(async {
        let (_folder, file) = file();
        let good = exported(&file).await;

        for length in 0..good.len() {
            fs::write(&file, &good[..length]).unwrap();
            assert!(checked(&file).is_err(), "{length} bytes of {}", good.len());
        }
        fs::write(&file, [&good[..], b"more"].concat()).unwrap();
        let longer = checked(&file).unwrap_err();
        fs::write(&file, &good).unwrap();

        assert!(longer.to_string().contains("something follows its end"));
        assert!(checked(&file).is_ok());
    });
}

#[test]
fn another_version_and_another_file_are_told_apart_from_damage() {
    runtime().block_on(async {
        let (_folder, file) = file();
        let mut newer = exported(&file).await;
        newer[8] = 9;
        fs::write(&file, &newer).unwrap();
        let newer = checked(&file).unwrap_err();
        fs::write(&file, "something else entirely").unwrap();
        let foreign = checked(&file).unwrap_err();
        let missing = checked(&file.with_extension("no")).unwrap_err();

        assert_eq!(
            newer.to_string(),
            "the export has version 9; this program reads 1"
        );
        assert!(matches!(foreign, ImportError::NotAnExport(_)));
        assert!(matches!(missing, ImportError::Read { .. }));
    });
}

#[test]
fn an_import_that_was_cut_is_known_as_one() {
    runtime().block_on(async {
        let (_folder, file) = file();
        let good = exported(&file).await;
        let (kind, checked) = (Kind::Memory(SMALL), checked(&file).unwrap());
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());

        // The file changes behind the back of whoever checked it.
        fs::write(&file, &good[..good.len() - 100]).unwrap();
        let cut = import(&file, &checked, &store, kind).await;
        fs::write(&file, &good).unwrap();
        let again = import(&file, &checked, &store, kind).await;

        assert!(matches!(cut, Err(ImportError::Damaged { .. })));
        assert!(store.row(&unfinished_row()).await.unwrap().is_some());
        assert!(matches!(again, Err(ImportError::Unfinished(_))));
    });
}

#[test]
fn an_export_overwrites_nothing_and_leaves_nothing_when_it_fails() {
    let (folder, file) = file();
    fs::write(&file, "dear to somebody").unwrap();
    let store = MemoryStore::new();
    let export = |file| transfer::export(&store.source(), file, START, &mut |_| {});

    let there = export(&file).unwrap_err();
    let nothing = export(&folder.path().join("other")).unwrap_err();

    assert!(matches!(there, ExportError::Stage(StageError::Exists(_))));
    assert!(matches!(nothing, ExportError::Nothing));
    assert_eq!(fs::read_to_string(&file).unwrap(), "dear to somebody");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}
