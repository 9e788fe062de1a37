//! Reads the messages that are no texts: polls, lists, reactions.

use zajil_model::message::{List, ListRow, MessageKey, Poll, Reaction, Section, limits};

use crate::validate::{Form, field};

/// Reads a poll; what is wrong with it is noted.
pub(super) fn poll(form: &mut Form<'_, '_>) -> Poll {
    let question = form.words("name");
    let options = form.items("values", |value, place, report| {
        let complain = |complaint| report.borrow_mut().fault(place, complaint);
        Some(field::any_text(value).map_err(complain).unwrap_or_default())
    });
    let options: Vec<String> = options.unwrap_or_default().into_iter().flatten().collect();
    let selectable = form.optional("selectable_count", field::whole(i64::MIN, i64::MAX));
    let selectable = selectable.unwrap_or(1);
    form.rules(limits::check_poll(&question, &options, selectable));
    Poll {
        question,
        options,
        selectable_count: u8::try_from(selectable).unwrap_or_default(),
    }
}

/// Reads a list; what is wrong with it is noted.
pub(super) fn list(form: &mut Form<'_, '_>) -> List {
    let title = form.words("title");
    let description = form.words("description");
    let button_text = form.words("button_text");
    let footer_text = form.has("footer_text").then(|| form.words("footer_text"));
    let sections = form.items("sections", |value, place, report| {
        let mut form = Form::new(value, place, report);
        let title = form.words("title");
        let rows = form.items("rows", |value, place, report| {
            let mut form = Form::new(value, place, report);
            let title = form.words("title");
            let description = form.has("description").then(|| form.words("description"));
            let row = ListRow {
                title,
                description,
                row_id: form.words("rowId"),
            };
            form.done();
            Some(row)
        });
        form.done();
        Some(Section {
            title,
            rows: rows.unwrap_or_default().into_iter().flatten().collect(),
        })
    });
    let sections = sections.unwrap_or_default().into_iter().flatten().collect();
    let list = List {
        title,
        description,
        button_text,
        footer_text,
        sections,
    };
    form.rules(limits::check_list(&list));
    list
}

/// Reads a reaction; what is wrong with it is noted.
pub(super) fn reaction(form: &mut Form<'_, '_>) -> Reaction {
    let key = form.nested("message_key", |form| MessageKey {
        remote_jid: form.words("remoteJid"),
        from_me: form.required("fromMe", field::boolean).unwrap_or_default(),
        id: form.words("id"),
    });
    let none = || MessageKey {
        remote_jid: String::new(),
        from_me: false,
        id: String::new(),
    };
    let emoji = form
        .required("reaction", field::any_text)
        .unwrap_or_default();
    let reaction = Reaction {
        key: key.unwrap_or_else(none),
        emoji,
    };
    form.rules(limits::check_reaction(&reaction));
    reaction
}
