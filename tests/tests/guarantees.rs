//! The page of promises names scenarios that exist, and every scenario is named there.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::Result;

/// The names of the scenarios that a page links to: `tests/NAME.rs` in any form.
fn named(page: &str) -> BTreeSet<String> {
    let after = page.split("tests/tests/").skip(1);
    after
        .filter_map(|rest| Some(rest.split_once(".rs")?.0.to_owned()))
        .collect()
}

#[test]
fn the_page_of_promises_and_the_scenarios_name_each_other() -> Result<()> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(here.join("../docs/GUARANTEES.md"))?;
    let files = fs::read_dir(here.join("tests"))?
        .map(|entry| {
            Ok(entry?
                .path()
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned())
        })
        .collect::<Result<BTreeSet<_>>>()?;

    assert_eq!(named(&page), files);
    Ok(())
}
