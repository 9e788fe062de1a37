//! The files of campaigns: rows of every kind, and what is to become of each.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::load::number;

/// A file of rows, and what is to become of them.
#[derive(Clone, Debug, Default)]
pub struct File {
    /// CSV with a header row.
    pub text: String,
    /// Rows in it, the header aside.
    pub rows: u64,
    /// Recipients who are to get something.
    pub good: BTreeSet<String>,
    /// Rows whose recipient came before.
    pub duplicates: u64,
    /// Rows that name nobody.
    pub refused: u64,
    /// Rows whose recipient opted out.
    pub suppressed: u64,
}

impl File {
    /// So many good rows, with some that come twice, some that cannot be, some who opted out between.
    pub fn of(good: u32, optouts: &[String]) -> Self {
        let mut file = Self {
            text: "\u{feff}phone;name\r\n".to_owned(),
            ..Self::default()
        };
        for n in 0..good {
            let phone = number(1_000 + n);
            file.row(&phone);
            if n % 50 == 7 {
                file.row(&phone);
                file.duplicates += 1;
            }
            if n % 100 == 11 {
                file.row("none at all");
                file.refused += 1;
            }
            if n % 100 == 13
                && let Some(gone) = optouts.get(n as usize / 100)
            {
                file.row(gone);
                file.suppressed += 1;
            }
            file.good.insert(phone);
        }
        file
    }

    fn row(&mut self, phone: &str) {
        self.rows += 1;
        writeln!(self.text, "{phone};\"Name; {}\"\r", self.rows).expect("a text takes all");
    }

    /// The file without the rows before this one.
    pub fn from_row(&self, row: u64) -> String {
        let mut lines = self.text.split_inclusive('\n');
        let header = lines.next().unwrap_or_default();
        let skipped = usize::try_from(row).unwrap_or(usize::MAX);
        std::iter::once(header).chain(lines.skip(skipped)).collect()
    }
}
