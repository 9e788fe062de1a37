//! Cuts the bytes of an upload into rows, each judged by itself.

use std::borrow::Cow;
use std::cell::RefCell;

use zajil_actors::batch::{NewRow, RowErrors};

use super::ReadRow;
use crate::error::ApiError;
use crate::validate::{Form, Place, Report, field};

/// Bytes of the longest row: the longest text, each scalar escaped, and as much again.
const MAX_ROW: usize = 64 * 1_024;

/// Columns of a CSV file.
const MAX_COLUMNS: usize = 200;

/// What the bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// A JSON object a line.
    NdJson,
    /// A header row, then rows; `,` or `;` between the columns.
    Csv,
}

/// Cuts bytes into rows, wherever the pieces of the body end.
#[derive(Debug)]
pub(crate) struct Splitter {
    format: Format,
    /// The bytes of the row that has not ended yet.
    row: Vec<u8>,
    quotes: Quotes,
    header: Option<Header>,
    begun: bool,
}

/// Whether a line end ends the row, in CSV.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quotes {
    /// At the beginning of a field: a quote opens it.
    FieldStart,
    /// In a field without quotes, or behind one with: a quote is a character.
    Outside,
    /// Between quotes: a line end belongs to the field.
    Inside,
}

#[derive(Debug)]
struct Header {
    delimiter: u8,
    recipient: usize,
    names: Vec<String>,
}

impl Splitter {
    /// Begins a body.
    pub(crate) const fn new(format: Format) -> Self {
        Self {
            format,
            row: Vec::new(),
            quotes: Quotes::FieldStart,
            header: None,
            begun: false,
        }
    }

    /// Takes bytes in until `block` holds `limit` rows or they are used up; answers the rest.
    pub(crate) fn feed<'b>(
        &mut self,
        bytes: &'b [u8],
        block: &mut Vec<ReadRow>,
        limit: usize,
    ) -> Result<&'b [u8], ApiError> {
        let mut rest = bytes;
        while block.len() < limit && !rest.is_empty() {
            let Some(end) = self.row_end(rest) else {
                self.row.extend_from_slice(rest);
                rest = &[];
                break;
            };
            self.row.extend_from_slice(&rest[..end]);
            rest = &rest[end + 1..];
            self.finish_row(block)?;
        }
        if self.row.len() > MAX_ROW {
            return Err(ApiError::field(
                "row",
                format!("is longer than {MAX_ROW} bytes."),
            ));
        }
        Ok(rest)
    }

    /// The body has ended: the last row needs no line end.
    pub(crate) fn end(&mut self, block: &mut Vec<ReadRow>) -> Result<(), ApiError> {
        if !self.row.is_empty() {
            self.finish_row(block)?;
        }
        if self.format == Format::Csv && self.header.is_none() && self.begun {
            return Err(ApiError::field("header", "is required."));
        }
        Ok(())
    }

    /// Where the line end is that ends the row.
    fn row_end(&mut self, bytes: &[u8]) -> Option<usize> {
        if self.format == Format::NdJson {
            return bytes.iter().position(|byte| *byte == b'\n');
        }
        for (at, byte) in bytes.iter().enumerate() {
            self.quotes = match (self.quotes, byte) {
                (Quotes::FieldStart | Quotes::Outside, b'\n') => {
                    self.quotes = Quotes::FieldStart;
                    return Some(at);
                }
                (Quotes::FieldStart, b'"') => Quotes::Inside,
                // A quote within quotes closes them; a second one at once opens them again.
                (Quotes::Inside, b'"') => Quotes::FieldStart,
                (Quotes::Inside, _) => Quotes::Inside,
                (_, b',' | b';') => Quotes::FieldStart,
                // A mark of UTF-8 stands before the first field.
                (Quotes::FieldStart, 0xEF | 0xBB | 0xBF) if !self.begun => Quotes::FieldStart,
                (Quotes::FieldStart | Quotes::Outside, _) => Quotes::Outside,
            };
        }
        None
    }

    fn finish_row(&mut self, block: &mut Vec<ReadRow>) -> Result<(), ApiError> {
        let mut bytes = std::mem::take(&mut self.row);
        if bytes.len() > MAX_ROW {
            return Err(ApiError::field(
                "row",
                format!("is longer than {MAX_ROW} bytes."),
            ));
        }
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
        if !self.begun && bytes.starts_with(b"\xEF\xBB\xBF") {
            bytes.drain(..3);
        }
        self.begun = true;
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(());
        }
        match (self.format, &self.header) {
            (Format::NdJson, _) => block.push(json_row(&bytes)),
            (Format::Csv, Some(header)) => block.push(csv_row(&bytes, header)),
            (Format::Csv, None) => self.header = Some(read_header(&bytes)?),
        }
        bytes.clear();
        // The memory is used again for the next row.
        self.row = bytes;
        Ok(())
    }
}

fn fault(name: &str, sentence: impl Into<String>) -> RowErrors {
    vec![(name.to_owned(), vec![sentence.into()])]
}

/// Reads a JSON row.
fn json_row(bytes: &[u8]) -> ReadRow {
    let value = crate::json::parse(bytes)
        .map_err(|reason| fault("row", format!("The row is not valid JSON: {reason}.")))?;
    let report = RefCell::new(Report::default());
    let mut form = Form::new(value, Place::Root, &report);
    let recipient = form.required("recipient", field::phone);
    let variables = form.optional("variables", field::pairs).unwrap_or_default();
    let content = form.optional("content", field::any_text);
    let client_ref = form.optional("client_ref", field::any_text);
    form.refuse_not_yet();
    let report = report.into_inner();
    match recipient {
        Some(recipient) if report.is_clean() => Ok(NewRow {
            recipient,
            variables,
            content,
            client_ref,
        }),
        _ => Err(report.faults().into_iter().collect()),
    }
}

fn fields(bytes: &[u8], delimiter: u8) -> Option<csv::ByteRecord> {
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .delimiter(delimiter)
        .from_reader(bytes);
    let mut record = csv::ByteRecord::new();
    reader.read_byte_record(&mut record).ok()?.then_some(record)
}

fn read_header(bytes: &[u8]) -> Result<Header, ApiError> {
    let count = |wanted: u8| bytes.iter().filter(|byte| **byte == wanted).count();
    let delimiter = if count(b';') > count(b',') {
        b';'
    } else {
        b','
    };
    let record = fields(bytes, delimiter)
        .ok_or_else(|| ApiError::field("header", "cannot be read as CSV."))?;
    if record.len() > MAX_COLUMNS {
        let complaint = format!("must not have more than {MAX_COLUMNS} columns.");
        return Err(ApiError::field("header", complaint));
    }
    let name = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    let names: Vec<String> = record.iter().map(name).collect();
    let is = |name: &str, wanted: &str| name.eq_ignore_ascii_case(wanted);
    let recipient = ["recipient", "phone"]
        .into_iter()
        .find_map(|wanted| names.iter().position(|name| is(name, wanted)))
        .ok_or_else(|| ApiError::field("header", "must have a column recipient or phone."))?;
    Ok(Header {
        delimiter,
        recipient,
        names,
    })
}

/// Reads a CSV row.
fn csv_row(bytes: &[u8], header: &Header) -> ReadRow {
    let record = fields(bytes, header.delimiter)
        .ok_or_else(|| fault("row", "The row cannot be read as CSV."))?;
    let text = |at: usize| -> Result<Cow<'_, str>, RowErrors> {
        let bytes = record.get(at).unwrap_or_default();
        std::str::from_utf8(bytes)
            .map(Cow::Borrowed)
            .map_err(|_| fault("row", "The row is not valid UTF-8."))
    };
    if record.len() > header.names.len() {
        return Err(fault("row", "The row has more columns than the header."));
    }
    let phone = text(header.recipient)?;
    let recipient = field::read_phone(phone.trim())
        .map_err(|complaint| fault("recipient", format!("The recipient field {complaint}")))?;
    let mut variables = Vec::with_capacity(header.names.len());
    for (at, name) in header.names.iter().enumerate() {
        // A cell that the row does not have is a missing variable, an empty one is an empty text.
        if at != header.recipient && at < record.len() {
            variables.push((name.clone(), text(at)?.into_owned()));
        }
    }
    Ok(NewRow {
        recipient,
        variables,
        content: None,
        client_ref: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rows of a body that comes in pieces of `size` bytes.
    fn rows(format: Format, body: &str, size: usize) -> Result<Vec<ReadRow>, ApiError> {
        let mut splitter = Splitter::new(format);
        let mut block = Vec::new();
        for piece in body.as_bytes().chunks(size) {
            let mut rest = piece;
            while !rest.is_empty() {
                rest = splitter.feed(rest, &mut block, usize::MAX)?;
            }
        }
        splitter.end(&mut block)?;
        Ok(block)
    }

    fn variables(row: &ReadRow) -> Vec<(&str, &str)> {
        let row = row.as_ref().unwrap();
        row.variables
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect()
    }

    #[test]
    fn csv_is_cut_the_same_wherever_its_pieces_end() {
        let body = "\u{feff}phone;name\r\n+966501234567;\"Sara; \"\"S\"\"\nAli\"\r\n+966501234568;5\" pipe";

        for size in [1, 2, 3, 7, 1_000] {
            let rows = rows(Format::Csv, body, size).unwrap();
            assert_eq!(rows.len(), 2, "pieces of {size}");
            assert_eq!(variables(&rows[0]), [("name", "Sara; \"S\"\nAli")]);
            assert_eq!(variables(&rows[1]), [("name", "5\" pipe")]);
        }
    }

    #[test]
    fn a_number_that_a_spreadsheet_spoiled_is_refused_with_its_cause_and_the_others_go_on() {
        let body = "recipient,name\n9.66E+11,Sara\n+966501234567,Ali\n";

        let rows = rows(Format::Csv, body, 9).unwrap();

        let errors = rows[0].as_ref().unwrap_err();
        assert_eq!(errors[0].0, "recipient");
        assert!(
            errors[0].1[0].to_lowercase().contains("spreadsheet"),
            "{errors:?}"
        );
        assert!(rows[1].is_ok());
    }

    #[test]
    fn a_header_without_a_recipient_is_refused() {
        assert!(matches!(
            rows(Format::Csv, "name\nSara\n", 4),
            Err(ApiError::Invalid(_))
        ));
    }

    #[test]
    fn json_rows_are_judged_one_by_one_and_empty_lines_are_no_rows() {
        let body = "{\"recipient\":\"+966501234567\",\"variables\":{\"n\":\"x\"}}\n\n{broken\n{\"recipient\":5}";

        let rows = rows(Format::NdJson, body, 5).unwrap();

        assert_eq!(rows.len(), 3);
        assert_eq!(variables(&rows[0]), [("n", "x")]);
        assert_eq!(rows[1].as_ref().unwrap_err()[0].0, "row");
        assert_eq!(rows[2].as_ref().unwrap_err()[0].0, "recipient");
    }

    #[test]
    fn a_row_that_never_ends_is_cut_off() {
        let body = format!("{{\"recipient\":\"{}", "x".repeat(MAX_ROW + 1));

        assert!(matches!(
            rows(Format::NdJson, &body, 4_096),
            Err(ApiError::Invalid(_))
        ));
    }

    #[test]
    fn a_block_is_full_at_its_limit_and_the_rest_is_kept() {
        let mut splitter = Splitter::new(Format::NdJson);
        let mut block = Vec::new();
        let body = b"{}\n{}\n{}\n";

        let rest = splitter.feed(body, &mut block, 2).unwrap();

        assert_eq!((block.len(), rest), (2, b"{}\n".as_slice()));
    }
}
