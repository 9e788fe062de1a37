//! The page of promises names tests that exist, and every scenario is named there.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The test files that the page names, from the root of the repository.
fn named(page: &str) -> BTreeSet<String> {
    let words = page.split(['`', '(', ')', ' ', '\n']);
    let files = words.filter(|word| word.contains("tests/") && word.ends_with(".rs"));
    files
        .map(|file| file.trim_start_matches("../").to_owned())
        .collect()
}

#[test]
fn every_test_that_the_page_names_exists() -> Result<()> {
    let page = fs::read_to_string(repository().join("docs/GUARANTEES.md"))?;

    let missing: Vec<_> = named(&page)
        .into_iter()
        .filter(|file| !repository().join(file).is_file())
        .collect();

    assert_eq!(missing, Vec::<String>::new());
    Ok(())
}

#[test]
fn every_scenario_is_named_on_the_page() -> Result<()> {
    let page = fs::read_to_string(repository().join("docs/GUARANTEES.md"))?;
    let scenarios = fs::read_dir(repository().join("tests/tests"))?
        .map(|entry| {
            Ok(format!(
                "tests/tests/{}",
                entry?.file_name().to_string_lossy()
            ))
        })
        .collect::<Result<BTreeSet<_>>>()?;

    let named = named(&page);
    let unnamed: Vec<_> = scenarios.difference(&named).collect();

    assert_eq!(unnamed, Vec::<&String>::new());
    Ok(())
}
