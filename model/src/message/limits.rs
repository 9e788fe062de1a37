//! The limits of each field of a message (`API.md`, Sends), and the words for what is past them.
//!
//! A checker answers every fault of what it is given, as pairs of the field and a sentence for
//! people, so that one answer names all that has to be repaired. Lengths are counted in Unicode
//! scalars. Sentences are those that clients of the guide's service know: "The content field must
//! not be greater than 4096 characters."

use std::time::Duration;

use rustc_hash::FxHashSet;
use unicode_segmentation::UnicodeSegmentation;

use super::{List, MessageKey, Reaction};
use crate::phone::Phone;
use crate::time::Timestamp;

/// Scalars of a text.
pub const MAX_CONTENT: usize = 4_096;

/// Scalars of a poll's question.
pub const MAX_QUESTION: usize = 255;

/// Options of a poll, at least: with one there is nothing to choose.
pub const MIN_OPTIONS: usize = 2;

/// Options of a poll, at most: WhatsApp shows no more.
pub const MAX_OPTIONS: usize = 12;

/// Scalars of a poll's option.
pub const MAX_OPTION: usize = 100;

/// Scalars of a list's title.
pub const MAX_LIST_TITLE: usize = 255;

/// Scalars of a list's description.
pub const MAX_LIST_DESCRIPTION: usize = 1_024;

/// Scalars of the button that opens a list.
pub const MAX_BUTTON_TEXT: usize = 20;

/// Scalars of a list's footer.
pub const MAX_FOOTER_TEXT: usize = 60;

/// Sections of a list: as many as WhatsApp's own clients show.
pub const MAX_SECTIONS: usize = 10;

/// Rows of a section: far past what a person scrolls through; 1,000 rows are all that is checked.
pub const MAX_ROWS: usize = 100;

/// Scalars of the title of a section or row: WhatsApp cuts longer ones on the screen.
pub const MAX_ROW_TITLE: usize = 100;

/// Scalars of a row's description: what a list's own may have.
pub const MAX_ROW_DESCRIPTION: usize = 1_024;

/// Scalars of a row's id: room for a URL-like id of the sender's; it comes back with each choice.
pub const MAX_ROW_ID: usize = 200;

/// Scalars of a reaction: the longest emoji sequences in use have 10.
pub const MAX_REACTION: usize = 10;

/// Scalars of WhatsApp's id of the message that is reacted to: those in use have 16 to 60.
pub const MAX_KEY_ID: usize = 128;

/// Scalars of a sender's own name for a message.
pub const MAX_CLIENT_REF: usize = 128;

/// Seconds from due until a message expires, at least: less would expire in an ordinary queue.
pub const MIN_TTL_SECONDS: u32 = 60;

/// Seconds from due until a message expires, at most: 7 days.
pub const MAX_TTL_SECONDS: u32 = 604_800;

/// How far ahead a message may be scheduled: 30 days.
pub const MAX_SEND_AHEAD: Duration = Duration::from_secs(30 * 86_400);

/// A message that is due at least this far ahead waits in the schedule and not in its queue, where
/// it would pin a position of the log. Closer ones are not worth the two records that it costs.
pub const SCHEDULE_AFTER: Duration = Duration::from_secs(30);

/// Messages of one bulk request.
pub const MAX_BULK: usize = 100;

/// What follows the digits in the address of a person.
const PERSON: &str = "@s.whatsapp.net";

/// Checks the text of a message: 1 to 4,096 scalars.
pub fn check_text(content: &str) -> Result<(), String> {
    check_length("content", content, MAX_CONTENT)
}

/// Checks a sender's own name for a message: at most 128 scalars.
pub fn check_client_ref(client_ref: &str) -> Result<(), String> {
    check_at_most("client_ref", client_ref, MAX_CLIENT_REF)
}

/// Checks a time to live and answers it as seconds: 60 to 604,800.
pub fn check_ttl(seconds: i64) -> Result<u32, String> {
    let fault = || between("ttl", MIN_TTL_SECONDS, MAX_TTL_SECONDS);
    let seconds = u32::try_from(seconds).map_err(|_| fault())?;
    if (MIN_TTL_SECONDS..=MAX_TTL_SECONDS).contains(&seconds) {
        Ok(seconds)
    } else {
        Err(fault())
    }
}

/// Checks the time before which a message must not go: at most 30 days ahead. One in the past is
/// no fault, it means at once.
pub fn check_send_at(send_at: Timestamp, now: Timestamp) -> Result<(), String> {
    if send_at <= now + MAX_SEND_AHEAD {
        return Ok(());
    }
    Err("The send at field must not be more than 30 days ahead.".to_owned())
}

/// Whether a message of that time waits in the schedule first.
pub fn is_scheduled(send_at: Option<Timestamp>, created_at: Timestamp) -> bool {
    send_at.is_some_and(|due| due >= created_at + SCHEDULE_AFTER)
}

/// Checks a poll: its question is `name`, its options are `values`, and `selectable_count` of them
/// may be chosen (0 is any number).
pub fn check_poll<S: AsRef<str>>(
    name: &str,
    values: &[S],
    selectable_count: i64,
) -> Vec<(String, String)> {
    let mut faults = Faults::default();
    faults.note("name", check_length("name", name, MAX_QUESTION));
    if values.len() < MIN_OPTIONS {
        faults.add(
            "values",
            format!("The values field must have at least {MIN_OPTIONS} items."),
        );
    }
    if values.len() > MAX_OPTIONS {
        // The options past the limit are not looked at: there may be a million.
        faults.add("values", too_many("values", MAX_OPTIONS));
    }
    let mut seen = FxHashSet::default();
    for (index, value) in values.iter().take(MAX_OPTIONS).enumerate() {
        let field = format!("values.{index}");
        let checked = check_length(&field, value.as_ref(), MAX_OPTION);
        if checked.is_ok() && !seen.insert(value.as_ref()) {
            faults.add(&field, duplicate(&field));
        }
        faults.note(&field, checked);
    }
    let most = values.len().clamp(MIN_OPTIONS, MAX_OPTIONS);
    if usize::try_from(selectable_count).map_or(true, |count| count > most) {
        faults.add("selectable_count", between("selectable_count", 0, most));
    }
    faults.0
}

/// Checks a list and each of its sections and rows.
pub fn check_list(list: &List) -> Vec<(String, String)> {
    let mut faults = Faults::default();
    faults.note("title", check_length("title", &list.title, MAX_LIST_TITLE));
    faults.note(
        "description",
        check_length("description", &list.description, MAX_LIST_DESCRIPTION),
    );
    faults.note(
        "button_text",
        check_length("button_text", &list.button_text, MAX_BUTTON_TEXT),
    );
    if let Some(footer) = &list.footer_text {
        faults.note(
            "footer_text",
            check_at_most("footer_text", footer, MAX_FOOTER_TEXT),
        );
    }
    faults.count("sections", list.sections.len(), MAX_SECTIONS);
    let mut row_ids = FxHashSet::default();
    for (index, section) in list.sections.iter().take(MAX_SECTIONS).enumerate() {
        let field = format!("sections.{index}.title");
        faults.note(&field, check_length(&field, &section.title, MAX_ROW_TITLE));
        let field = format!("sections.{index}.rows");
        faults.count(&field, section.rows.len(), MAX_ROWS);
        for (index, row) in section.rows.iter().take(MAX_ROWS).enumerate() {
            let title = format!("{field}.{index}.title");
            faults.note(&title, check_length(&title, &row.title, MAX_ROW_TITLE));
            if let Some(text) = &row.description {
                let description = format!("{field}.{index}.description");
                let checked = check_at_most(&description, text, MAX_ROW_DESCRIPTION);
                faults.note(&description, checked);
            }
            let row_id = format!("{field}.{index}.rowId");
            let checked = check_length(&row_id, &row.row_id, MAX_ROW_ID);
            if checked.is_ok() && !row_ids.insert(row.row_id.as_str()) {
                faults.add(&row_id, duplicate(&row_id));
            }
            faults.note(&row_id, checked);
        }
    }
    faults.0
}

/// Checks a reaction: whose message it is on, and that it is one emoji or none.
pub fn check_reaction(reaction: &Reaction) -> Vec<(String, String)> {
    let MessageKey { remote_jid, id, .. } = &reaction.key;
    let mut faults = Faults::default();
    faults.note(
        "message_key.remoteJid",
        recipient_of_jid(remote_jid).map(drop),
    );
    faults.note(
        "message_key.id",
        check_length("message_key.id", id, MAX_KEY_ID),
    );
    faults.note("reaction", check_emoji(&reaction.emoji));
    faults.0
}

/// The person whose chat `DIGITS@s.whatsapp.net` is; anything else (a group, a status, a hidden
/// number) is refused.
pub fn recipient_of_jid(remote_jid: &str) -> Result<Phone, String> {
    let person = remote_jid
        .strip_suffix(PERSON)
        .and_then(|digits| Phone::from_digits(digits).ok());
    person.ok_or_else(|| {
        format!(
            "The message_key.remoteJid field must be the digits of a phone number and {PERSON}, \
             like 966501234567{PERSON}."
        )
    })
}

/// Checks an emoji: one grapheme of at most 10 scalars; empty is allowed and removes a reaction.
fn check_emoji(emoji: &str) -> Result<(), String> {
    check_at_most("reaction", emoji, MAX_REACTION)?;
    if emoji.graphemes(true).nth(1).is_some() {
        return Err("The reaction field must be a single emoji.".to_owned());
    }
    Ok(())
}

/// The faults that were found, in the order of the fields.
#[derive(Default)]
struct Faults(Vec<(String, String)>);

impl Faults {
    fn add(&mut self, field: &str, message: String) {
        self.0.push((field.to_owned(), message));
    }

    fn note(&mut self, field: &str, checked: Result<(), String>) {
        if let Err(message) = checked {
            self.add(field, message);
        }
    }

    fn count(&mut self, field: &str, items: usize, most: usize) {
        if items == 0 {
            self.add(field, required(field));
        }
        if items > most {
            self.add(field, too_many(field, most));
        }
    }
}

fn check_length(field: &str, text: &str, most: usize) -> Result<(), String> {
    if text.is_empty() {
        Err(required(field))
    } else {
        check_at_most(field, text, most)
    }
}

fn check_at_most(field: &str, text: &str, most: usize) -> Result<(), String> {
    // A text has at most as many scalars as bytes: most are not counted at all.
    if text.len() <= most || text.chars().nth(most).is_none() {
        return Ok(());
    }
    Err(format!(
        "The {} field must not be greater than {most} characters.",
        spoken(field)
    ))
}

/// A field as it is named in a sentence: `client_ref` is "client ref". A path stays a path.
fn spoken(field: &str) -> String {
    if field.contains('.') {
        field.to_owned()
    } else {
        field.replace('_', " ")
    }
}

fn required(field: &str) -> String {
    format!("The {} field is required.", spoken(field))
}

fn duplicate(field: &str) -> String {
    format!("The {} field has a duplicate value.", spoken(field))
}

fn too_many(field: &str, most: usize) -> String {
    format!(
        "The {} field must not have more than {most} items.",
        spoken(field)
    )
}

fn between<N: std::fmt::Display>(field: &str, least: N, most: N) -> String {
    format!(
        "The {} field must be between {least} and {most}.",
        spoken(field)
    )
}
