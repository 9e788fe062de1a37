//! Pages, in the form of Laravel's length-aware paginator, and the cursors that go on from them.

use serde::Serialize;
use zajil_actors::directory::PageRequest;
use zajil_model::id::MessageId;
use zajil_storage::Cursor;

use crate::error::ApiError;
use crate::json::Value;
use crate::request::Called;
use crate::validate::{Complaint, Form, field};

/// Entries of a page when nobody says otherwise.
const DEFAULT_PER_PAGE: i64 = 50;

/// Entries of the largest page.
const MAX_PER_PAGE: i64 = 200;

/// Entries that a page number may pass over: reaching further by number costs more with every page,
/// a cursor does not.
const MAX_SKIP: u64 = 100_000;

/// Page numbers shown on each side of the current one.
const ON_EACH_SIDE: u64 = 3;

/// Which page a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PageQuery {
    number: u64,
    /// How many entries.
    pub(crate) per_page: usize,
    cursor: Option<PageCursor>,
}

/// Where a page goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PageCursor {
    /// Below this message.
    Below(MessageId),
    /// After so many entries.
    After(u64),
}

impl PageQuery {
    /// Takes `page`, `per_page` and `cursor` out of a query.
    pub(crate) fn read(form: &mut Form<'_, '_>) -> Self {
        let number = form
            .optional("page", field::whole(1, i64::MAX))
            .unwrap_or(1);
        let per_page = form.optional("per_page", field::whole(1, MAX_PER_PAGE));
        let per_page = per_page.unwrap_or(DEFAULT_PER_PAGE);
        let cursor = form.optional("cursor", page_cursor);
        let query = Self {
            number: number.unsigned_abs(),
            per_page: usize::try_from(per_page).unwrap_or(1),
            cursor,
        };
        if query.skip() > MAX_SKIP {
            let complaint = format!("must not pass over more than {MAX_SKIP} entries: use cursor.");
            form.fault("page", complaint);
        }
        query
    }

    /// How many entries to pass over.
    pub(crate) fn skip(&self) -> u64 {
        match self.cursor {
            Some(PageCursor::After(count)) => count,
            Some(PageCursor::Below(_)) => 0,
            None => (self.number - 1).saturating_mul(self.per_page as u64),
        }
    }

    /// Only entries below this message.
    pub(crate) const fn below(&self) -> Option<MessageId> {
        match self.cursor {
            Some(PageCursor::Below(id)) => Some(id),
            _ => None,
        }
    }

    /// The page of a list that counts its entries.
    pub(crate) fn request(&self) -> PageRequest {
        PageRequest {
            skip: self.skip(),
            limit: self.per_page,
        }
    }

    /// The cursor behind a page of `shown` entries out of `total`.
    pub(crate) fn cursor_after(&self, shown: usize, total: u64) -> Option<PageCursor> {
        let seen = self.skip() + shown as u64;
        (shown > 0 && seen < total).then_some(PageCursor::After(seen))
    }
}

impl PageCursor {
    fn text(self) -> String {
        match self {
            Self::Below(id) => format!("b{:x}", id.get()),
            Self::After(count) => format!("a{count:x}"),
        }
    }
}

/// Reads the cursor of a page.
fn page_cursor(value: Value<'_>) -> Result<PageCursor, Complaint> {
    let text = field::any_text(value)?;
    let number = text
        .get(1..)
        .and_then(|hex| u64::from_str_radix(hex, 16).ok());
    let cursor = match (text.as_bytes().first(), number) {
        (Some(b'b'), Some(number)) => MessageId::new(number).map(PageCursor::Below),
        (Some(b'a'), Some(number)) => (number <= MAX_SKIP).then_some(PageCursor::After(number)),
        _ => None,
    };
    cursor.ok_or_else(|| "must be a next_cursor of an earlier page.".into())
}

/// Reads a cursor of a list of messages.
pub(crate) fn message_cursor(value: Value<'_>) -> Result<MessageId, Complaint> {
    match page_cursor(value)? {
        PageCursor::Below(id) => Ok(id),
        PageCursor::After(_) => Err("must be a next_cursor of messages.".into()),
    }
}

/// The text of a place in the change feed.
pub(crate) fn feed_cursor_text(cursor: Cursor) -> String {
    format!("{:x}.{:x}", cursor.record, cursor.within)
}

/// Reads a place in the change feed.
pub(crate) fn feed_cursor(value: Value<'_>) -> Result<Cursor, Complaint> {
    let text = field::any_text(value)?;
    let cursor = text.split_once('.').and_then(|(record, within)| {
        let record = u64::from_str_radix(record, 16).ok()?;
        Some(Cursor {
            record,
            within: u32::from_str_radix(within, 16).ok()?,
        })
    });
    cursor.ok_or_else(|| "must be a next_cursor of an earlier answer.".into())
}

/// Entries of a page, and how many there are.
#[derive(Debug)]
pub(crate) struct Found<T> {
    /// The entries.
    pub(crate) items: Vec<T>,
    /// How many match in all.
    pub(crate) total: u64,
    /// Whether there are more than were counted.
    pub(crate) capped: bool,
    /// Where to go on.
    pub(crate) next: Option<PageCursor>,
}

/// A page as clients see it.
#[derive(Debug, Serialize)]
pub(crate) struct Page<T> {
    current_page: u64,
    data: Vec<T>,
    first_page_url: String,
    from: Option<u64>,
    last_page: u64,
    last_page_url: String,
    links: Vec<Link>,
    next_page_url: Option<String>,
    path: String,
    per_page: usize,
    prev_page_url: Option<String>,
    to: Option<u64>,
    total: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    total_capped: Option<bool>,
    next_cursor: Option<String>,
}

/// A link to a page.
#[derive(Debug, Serialize, PartialEq, Eq)]
struct Link {
    url: Option<String>,
    label: String,
    active: bool,
}

impl<T: Serialize> Page<T> {
    /// The page that was asked for, with what was found.
    pub(crate) fn new(called: &Called, query: PageQuery, found: Found<T>) -> Self {
        let per_page = query.per_page as u64;
        let last = found.total.div_ceil(per_page).max(1);
        let current = query.number;
        let shown = found.items.len() as u64;
        // Behind a cursor of messages nobody knows how many came before.
        let first = (shown > 0 && query.below().is_none()).then(|| query.skip() + 1);
        let url = |page: u64| called.url_with_page(page);
        let has_next = found.next.is_some() || current < last;
        Self {
            current_page: current,
            first_page_url: url(1),
            from: first,
            last_page: last,
            last_page_url: url(last),
            links: links(current, last, url),
            next_page_url: (has_next && current < last).then(|| url(current + 1)),
            path: called.base(),
            per_page: query.per_page,
            prev_page_url: (current > 1).then(|| url(current - 1)),
            to: first.map(|first| first + shown - 1),
            total: found.total,
            total_capped: found.capped.then_some(true),
            next_cursor: found.next.map(PageCursor::text),
            data: found.items,
        }
    }
}

/// The links that Laravel shows: previous, a window of numbers, next.
fn links(current: u64, last: u64, url: impl Fn(u64) -> String) -> Vec<Link> {
    let to = |page: u64, label: String| Link {
        url: Some(url(page)),
        label,
        active: false,
    };
    let edge = |page: Option<u64>, label: &str| match page {
        Some(page) => to(page, label.to_owned()),
        None => Link {
            url: None,
            label: label.to_owned(),
            active: false,
        },
    };
    let mut links = vec![edge((current > 1).then(|| current - 1), "&laquo; Previous")];
    let mut before = 0;
    for page in window(current, last) {
        if page > before + 1 {
            links.push(Link {
                url: None,
                label: "...".to_owned(),
                active: false,
            });
        }
        let mut link = to(page, page.to_string());
        link.active = page == current;
        links.push(link);
        before = page;
    }
    links.push(edge((current < last).then(|| current + 1), "Next &raquo;"));
    links
}

/// The page numbers that are shown, ascending.
fn window(current: u64, last: u64) -> Vec<u64> {
    let width = ON_EACH_SIDE + 4;
    if last < ON_EACH_SIDE * 2 + 8 {
        (1..=last).collect()
    } else if current <= width {
        (1..=width + ON_EACH_SIDE).chain([last - 1, last]).collect()
    } else if current > last - width {
        [1, 2]
            .into_iter()
            .chain(last - (width + ON_EACH_SIDE - 1)..=last)
            .collect()
    } else {
        let around = current - ON_EACH_SIDE..=current + ON_EACH_SIDE;
        [1, 2]
            .into_iter()
            .chain(around)
            .chain([last - 1, last])
            .collect()
    }
}

/// Answers a page.
pub(crate) fn answer<T: Serialize>(
    called: &Called,
    query: PageQuery,
    found: Found<T>,
) -> Result<axum::response::Response, ApiError> {
    crate::envelope::data(Page::new(called, query, found)).answer()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validate;

    fn query(text: &str) -> Result<PageQuery, ApiError> {
        validate::query(
            &format!("/messages?{text}").parse().unwrap(),
            PageQuery::read,
        )
    }

    fn called() -> Called {
        Called::new(
            Some("https://api.test".to_owned()),
            &"/messages?page=2&status=sent".parse().unwrap(),
        )
    }

    #[test]
    fn a_page_has_every_member_of_laravels_paginator() {
        let found = Found {
            items: vec![1, 2],
            total: 7,
            capped: false,
            next: None,
        };

        let page = Page::new(&called(), query("page=2&per_page=2").unwrap(), found);
        let json = serde_json::to_value(&page).unwrap();

        assert_eq!(json["from"], 3);
        assert_eq!(json["to"], 4);
        assert_eq!(json["last_page"], 4);
        assert_eq!(json["path"], "https://api.test/messages");
        assert_eq!(
            json["next_page_url"],
            "https://api.test/messages?status=sent&page=3"
        );
        assert_eq!(json["links"].as_array().unwrap().len(), 6);
        assert_eq!(json["links"][2]["active"], true);
    }

    #[test]
    fn an_empty_page_has_no_from_and_to() {
        let found = Found::<u8> {
            items: vec![],
            total: 0,
            capped: false,
            next: None,
        };

        let json = serde_json::to_value(Page::new(&called(), query("").unwrap(), found)).unwrap();

        assert!(json["from"].is_null() && json["to"].is_null() && json["next_page_url"].is_null());
        assert_eq!(
            (&json["last_page"], &json["per_page"]),
            (&1.into(), &50.into())
        );
    }

    #[test]
    fn a_cursor_is_read_back_as_it_was_given() {
        let id = MessageId::new(1 << 40).unwrap();
        for cursor in [PageCursor::Below(id), PageCursor::After(150)] {
            let read = query(&format!("cursor={}", cursor.text())).unwrap();
            assert_eq!(read.cursor, Some(cursor));
        }
        let place = Cursor {
            record: u64::MAX,
            within: 7,
        };
        assert_eq!(
            feed_cursor(Value::Text(feed_cursor_text(place).into())),
            Ok(place)
        );
    }

    #[test]
    fn pages_out_of_bounds_are_faults() {
        for text in [
            "page=0",
            "per_page=201",
            "per_page=x",
            "cursor=zz",
            "page=100000",
            "cursor=",
        ] {
            assert!(matches!(query(text), Err(ApiError::Invalid(_))), "{text}");
        }
    }

    #[test]
    fn far_pages_are_shown_as_a_window() {
        assert_eq!(window(1, 3), [1, 2, 3]);
        assert_eq!(window(50, 100), [1, 2, 47, 48, 49, 50, 51, 52, 53, 99, 100]);
        assert_eq!(window(100, 100).len(), 12);
    }
}
