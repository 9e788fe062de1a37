//! Reads a file of recipients in blocks that fit into one request each.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use csv::ByteRecord;

/// Bytes of one request: some 25,000 rows. Far below the limit of the node, so that a cut costs
/// little and the progress is seen to move.
const BLOCK_BYTES: usize = 1 << 20;

/// Rows of a file that are sent in one request.
#[derive(Debug)]
pub(super) struct Block {
    /// The place of the first row in the file, from 0.
    pub(super) first: u64,
    /// How many rows.
    pub(super) rows: u64,
    /// The body of the request.
    pub(super) body: Bytes,
}

/// A file of recipients: CSV, or one JSON object a line.
pub(super) struct Rows {
    source: Source,
    next: u64,
}

enum Source {
    Csv {
        header: ByteRecord,
        reader: csv::Reader<File>,
    },
    Lines(BufReader<File>),
}

impl Rows {
    /// Opens a file: `.ndjson` and `.jsonl` hold an object a line, everything else is CSV with a
    /// header row.
    pub(super) fn open(file: &Path) -> Result<Self> {
        let opened = File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
        let lines = file
            .extension()
            .is_some_and(|it| it == "ndjson" || it == "jsonl");
        let source = if lines {
            Source::Lines(BufReader::new(opened))
        } else {
            let mut reader = csv::ReaderBuilder::new()
                .flexible(true)
                .delimiter(delimiter(file)?)
                .from_reader(opened);
            let header = reader
                .byte_headers()
                .context("the first line is no CSV header")?
                .clone();
            check_header(file, &header)?;
            Source::Csv { header, reader }
        };
        Ok(Self { source, next: 0 })
    }

    /// The content type of the blocks.
    pub(super) const fn content_type(&self) -> &'static str {
        match self.source {
            Source::Csv { .. } => "text/csv",
            Source::Lines(_) => "application/x-ndjson",
        }
    }

    /// Passes over the first rows, which the node has.
    pub(super) fn skip(&mut self, rows: u64) -> Result<()> {
        let mut nothing = Vec::new();
        while self.next < rows {
            nothing.clear();
            ensure!(
                self.row(&mut nothing)?,
                "the file has fewer rows than the node received"
            );
        }
        Ok(())
    }

    /// The next block; `None` at the end of the file.
    pub(super) fn block(&mut self) -> Result<Option<Block>> {
        let first = self.next;
        let mut body = Vec::with_capacity(BLOCK_BYTES + BLOCK_BYTES / 8);
        if let Source::Csv { header, .. } = &self.source {
            write(&mut body, header)?;
        }
        while body.len() < BLOCK_BYTES && self.row(&mut body)? {}
        let rows = self.next - first;
        Ok((rows > 0).then(|| Block {
            first,
            rows,
            body: body.into(),
        }))
    }

    /// Appends the next row to `body`; answers whether there was one.
    fn row(&mut self, body: &mut Vec<u8>) -> Result<bool> {
        let row = self.next + 1;
        let found = match &mut self.source {
            Source::Csv { reader, .. } => {
                let mut record = ByteRecord::new();
                let found = reader.read_byte_record(&mut record);
                let found = found.with_context(|| format!("row {row} cannot be read"))?;
                if found {
                    write(body, &record)?;
                }
                found
            }
            Source::Lines(reader) => {
                let read = reader.read_until(b'\n', body);
                let read = read.with_context(|| format!("row {row} cannot be read"))?;
                if read > 0 && body.last() != Some(&b'\n') {
                    body.push(b'\n');
                }
                read > 0
            }
        };
        self.next += u64::from(found);
        Ok(found)
    }
}

fn check_header(file: &Path, header: &ByteRecord) -> Result<()> {
    let file = file.display();
    let names: Vec<_> = header.iter().map(String::from_utf8_lossy).collect();
    let begins = |mark: &[u8]| header.get(0).is_some_and(|name| name.starts_with(mark));
    ensure!(
        !begins(b"\xff\xfe") && !begins(b"\xfe\xff"),
        "{file} is UTF-16: save it as CSV in UTF-8"
    );
    ensure!(
        names.iter().any(|name| !name.is_empty()),
        "{file} is empty: its first line has to name the columns"
    );
    ensure!(
        names
            .iter()
            .any(|name| name == "recipient" || name == "phone"),
        "no column of {file} is called `recipient` or `phone`: its first line names {}",
        names.join(", ")
    );
    Ok(())
}

fn write(body: &mut Vec<u8>, record: &ByteRecord) -> Result<()> {
    let mut writer = csv::WriterBuilder::new().flexible(true).from_writer(body);
    writer.write_byte_record(record)?;
    writer.flush()?;
    Ok(())
}

/// The header says it: a semicolon where it has more of them than commas.
fn delimiter(file: &Path) -> Result<u8> {
    let mut header = Vec::new();
    BufReader::new(File::open(file)?).read_until(b'\n', &mut header)?;
    let count = |wanted: u8| header.iter().filter(|byte| **byte == wanted).count();
    Ok(if count(b';') > count(b',') {
        b';'
    } else {
        b','
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, text: &str) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        (folder, path)
    }

    #[test]
    fn every_block_begins_with_the_header_and_no_row_is_lost_or_doubled() {
        let line = |n: u32| format!("+9665{n:08},\"Ali, {n}\"\n");
        let count = 60_000;
        let text: String = (0..count).map(line).collect();
        let (_folder, path) = file("all.csv", &format!("recipient,name\n{text}"));
        let mut rows = Rows::open(&path).unwrap();

        let mut seen = String::new();
        let mut next = 0;
        while let Some(block) = rows.block().unwrap() {
            let body = std::str::from_utf8(&block.body).unwrap();
            assert_eq!(block.first, next);
            seen.push_str(body.strip_prefix("recipient,name\n").unwrap());
            next += block.rows;
        }

        assert_eq!(next, u64::from(count));
        assert!(seen == text);
    }

    #[test]
    fn an_upload_goes_on_after_the_rows_that_the_node_has() {
        let (_folder, path) = file("some.csv", "\u{feff}phone;name\n+1;a\n+2;b\n+3;c\n");
        let mut rows = Rows::open(&path).unwrap();

        rows.skip(2).unwrap();
        let block = rows.block().unwrap().unwrap();

        assert_eq!((block.first, block.rows), (2, 1));
        assert_eq!(block.body, "phone,name\n+3,c\n");
    }

    #[test]
    fn objects_go_as_they_are() {
        let (_folder, path) = file(
            "some.ndjson",
            "{\"recipient\":\"+1\"}\n{\"recipient\":\"+2\"}",
        );

        let block = Rows::open(&path).unwrap().block().unwrap().unwrap();

        assert_eq!((block.first, block.rows), (0, 2));
        assert_eq!(
            block.body,
            "{\"recipient\":\"+1\"}\n{\"recipient\":\"+2\"}\n"
        );
    }

    #[test]
    fn a_file_without_recipients_is_refused_before_anything_is_made() {
        let files: [(&[u8], &str); 3] = [
            (b"name,age\nAli,7\n", "its first line names name, age"),
            (b"", "is empty"),
            (b"\xff\xfep\0h\0o\0", "is UTF-16"),
        ];
        for (bytes, told) in files {
            let (_folder, path) = file("wrong.csv", "");
            std::fs::write(&path, bytes).unwrap();

            let refused = Rows::open(&path).err().unwrap();

            assert!(refused.to_string().contains(told), "{refused}");
        }
    }
}
