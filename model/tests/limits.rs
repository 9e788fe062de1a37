//! What a sender may ask for, and what they are told when they ask for more.

use std::time::Duration;

use zajil_model::message::limits::*;
use zajil_model::message::{List, ListRow, MessageKey, Reaction, Section};
use zajil_model::phone::Phone;
use zajil_model::time::Timestamp;

fn row(id: &str) -> ListRow {
    ListRow {
        title: "Small".to_owned(),
        description: None,
        row_id: id.to_owned(),
    }
}

fn list(sections: Vec<Vec<ListRow>>) -> List {
    let section = |rows| Section {
        title: "Sizes".to_owned(),
        rows,
    };
    List {
        title: "Shirts".to_owned(),
        description: "Choose one".to_owned(),
        button_text: "Sizes".to_owned(),
        footer_text: None,
        sections: sections.into_iter().map(section).collect(),
    }
}

fn reaction(remote_jid: &str, emoji: &str) -> Reaction {
    let key = MessageKey {
        remote_jid: remote_jid.to_owned(),
        from_me: false,
        id: "3EB0C767D097B7C6E5A2".to_owned(),
    };
    Reaction {
        key,
        emoji: emoji.to_owned(),
    }
}

fn fields(faults: Vec<(String, String)>) -> Vec<String> {
    faults.into_iter().map(|(field, _)| field).collect()
}

#[test]
fn a_text_is_counted_in_scalars_and_not_in_bytes() {
    assert_eq!(check_text(&"é".repeat(4_096)), Ok(()));
    assert_eq!(
        check_text(&"é".repeat(4_097)),
        Err("The content field must not be greater than 4096 characters.".to_owned())
    );
    assert_eq!(
        check_text(""),
        Err("The content field is required.".to_owned())
    );
}

#[test]
fn a_time_to_live_is_a_minute_to_seven_days() {
    assert_eq!((check_ttl(60), check_ttl(604_800)), (Ok(60), Ok(604_800)));
    for seconds in [59, 604_801, -1, i64::MAX] {
        let fault = "The ttl field must be between 60 and 604800.".to_owned();
        assert_eq!(check_ttl(seconds), Err(fault));
    }
}

#[test]
fn a_message_may_be_due_in_the_past_and_up_to_30_days_ahead() {
    let now = Timestamp::from_seconds(1_800_000_000);
    let last = now + MAX_SEND_AHEAD;

    assert_eq!(check_send_at(Timestamp::from_seconds(0), now), Ok(()));
    assert_eq!(check_send_at(last, now), Ok(()));
    assert!(check_send_at(last + Duration::from_micros(1), now).is_err());
}

#[test]
fn only_what_is_due_30_seconds_ahead_waits_in_the_schedule() {
    let now = Timestamp::from_seconds(1_800_000_000);

    assert!(!is_scheduled(None, now));
    assert!(!is_scheduled(
        Some(now + Duration::from_millis(29_999)),
        now
    ));
    assert!(is_scheduled(Some(now + SCHEDULE_AFTER), now));
}

#[test]
fn a_client_ref_may_be_empty_but_not_long() {
    assert_eq!(check_client_ref(""), Ok(()));
    assert_eq!(
        check_client_ref(&"x".repeat(129)),
        Err("The client ref field must not be greater than 128 characters.".to_owned())
    );
}

#[test]
fn a_poll_has_2_to_12_distinct_options() {
    let options: Vec<String> = (0..13).map(|n| n.to_string()).collect();

    assert_eq!(check_poll("Lunch?", &["Yes", "No"], 1), []);
    assert_eq!(check_poll("Lunch?", &options[..12], 12), []);
    assert_eq!(fields(check_poll("Lunch?", &options, 1)), ["values"]);
    assert_eq!(fields(check_poll("Lunch?", &["Yes"], 1)), ["values"]);
    assert_eq!(
        fields(check_poll("Lunch?", &["Yes", "Yes"], 1)),
        ["values.1"]
    );
}

#[test]
fn every_fault_of_a_poll_is_named_at_once() {
    let long = "x".repeat(101);

    let faults = check_poll("", &["", &long, "ok"], 4);

    let named = ["name", "values.0", "values.1", "selectable_count"];
    assert_eq!(fields(faults), named);
}

#[test]
fn as_many_options_may_be_chosen_as_there_are() {
    for (count, faults) in [(0, 0), (2, 0), (3, 1), (-1, 1), (i64::MAX, 1)] {
        assert_eq!(
            check_poll("Lunch?", &["Yes", "No"], count).len(),
            faults,
            "{count}"
        );
    }
}

#[test]
fn the_row_ids_of_a_list_differ_across_its_sections() {
    assert_eq!(check_list(&list(vec![vec![row("s")], vec![row("m")]])), []);

    let faults = check_list(&list(vec![vec![row("s")], vec![row("m"), row("s")]]));

    assert_eq!(fields(faults), ["sections.1.rows.1.rowId"]);
}

#[test]
fn every_fault_of_a_list_is_named_at_once() {
    let mut bad = list(vec![vec![], vec![row("")]]);
    bad.title = String::new();
    bad.description = "x".repeat(1_025);
    bad.button_text = "x".repeat(21);
    bad.footer_text = Some("x".repeat(61));
    bad.sections[1].title = String::new();
    bad.sections[1].rows[0].title = "x".repeat(101);

    let named = [
        "title",
        "description",
        "button_text",
        "footer_text",
        "sections.0.rows",
        "sections.1.title",
        "sections.1.rows.0.title",
        "sections.1.rows.0.rowId",
    ];
    assert_eq!(fields(check_list(&bad)), named);
}

#[test]
fn a_list_has_1_to_10_sections_of_1_to_100_rows() {
    let rows = |from: usize, n: usize| (from..from + n).map(|id| row(&id.to_string())).collect();
    let full = (0..10).map(|section| rows(section * 100, 100)).collect();

    assert_eq!(check_list(&list(full)), []);
    assert_eq!(fields(check_list(&list(vec![]))), ["sections"]);
    assert_eq!(
        fields(check_list(&list(vec![rows(0, 101)]))),
        ["sections.0.rows"]
    );
    let eleven = (0..11).map(|section| rows(section, 1)).collect();
    assert_eq!(fields(check_list(&list(eleven))), ["sections"]);
}

#[test]
fn a_reaction_is_one_emoji_or_none() {
    let jid = "966501234567@s.whatsapp.net";
    for emoji in ["", "👍", "👩‍❤️‍💋‍👨", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "🇸🇦"]
    {
        assert_eq!(check_reaction(&reaction(jid, emoji)), [], "{emoji}");
    }
    let stacked = format!("a{}", "\u{301}".repeat(10));
    for emoji in ["👍👍", "ok", &stacked] {
        assert_eq!(
            fields(check_reaction(&reaction(jid, emoji))),
            ["reaction"],
            "{emoji}"
        );
    }
}

#[test]
fn only_the_chat_of_a_person_has_a_recipient() {
    let jid = "966501234567@s.whatsapp.net";
    assert_eq!(
        recipient_of_jid(jid),
        Ok(Phone::parse("+966501234567").unwrap())
    );

    for jid in [
        "120363025246125486@g.us",
        "status@broadcast",
        "5@lid",
        "+96650@s.whatsapp.net",
    ] {
        let faults = check_reaction(&reaction(jid, "👍"));
        assert_eq!(fields(faults), ["message_key.remoteJid"], "{jid}");
    }
}
