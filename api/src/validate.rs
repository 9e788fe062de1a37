//! Judges what a client sent: every fault of every field is found before anything is refused.
//!
//! A [`Form`] is one object of the body. Its members are taken out one by one, each with the
//! parser that says what is a good value ([`field`]); what is wrong is noted in the [`Report`]
//! under its path (`messages.3.recipient`), and what nobody took is named as ignored.

use std::borrow::Cow;
use std::cell::RefCell;

use crate::error::ApiError;
use crate::json::{Member, Value};

pub(crate) mod field;
mod report;

pub(crate) use report::{Faults, Place, Report};

/// Members that the vendor of the guide names: they change what is sent, so ignoring them would
/// be a silent lie. They are refused until they work.
const NOT_YET: [&str; 5] = [
    "quoted",
    "delay",
    "mentioned",
    "mentions_everyone",
    "link_preview",
];

/// What is wrong with a value, as the end of a sentence: "must be a string."
pub(crate) type Complaint = Cow<'static, str>;

/// One object of a body, whose members are taken out as they are understood.
#[derive(Debug)]
pub(crate) struct Form<'r, 'a> {
    members: Vec<Member<'a>>,
    place: Place<'r>,
    report: &'r RefCell<Report>,
}

impl<'r, 'a> Form<'r, 'a> {
    /// The object at a place; anything else is a fault, and the form is empty.
    pub(crate) fn new(value: Value<'a>, place: Place<'r>, report: &'r RefCell<Report>) -> Self {
        let members = match value {
            Value::Object(members) => members,
            other => {
                let complaint = format!("must be an object, not {}.", other.kind());
                report.borrow_mut().fault(place, complaint);
                Vec::new()
            }
        };
        Self {
            members,
            place,
            report,
        }
    }

    /// Takes a member out; `None` when it is absent or null.
    pub(crate) fn take(&mut self, name: &str) -> Option<Value<'a>> {
        let at = self.members.iter().position(|(member, _)| member == name)?;
        match self.members.swap_remove(at).1 {
            Value::Null => None,
            value => Some(value),
        }
    }

    /// Whether a member is there and not null.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.members
            .iter()
            .any(|(member, value)| member == name && *value != Value::Null)
    }

    /// A copy of a text that is there and not good, to be shown to its sender again.
    pub(crate) fn text_unless(
        &self,
        name: &str,
        is_good: impl FnOnce(&str) -> bool,
    ) -> Option<String> {
        let (_, value) = self.members.iter().find(|(member, _)| member == name)?;
        match value {
            Value::Text(text) if !is_good(text) => Some(text.clone().into_owned()),
            _ => None,
        }
    }

    /// Takes a member that may be absent.
    pub(crate) fn optional<T>(
        &mut self,
        name: &str,
        parse: impl FnOnce(Value<'a>) -> Result<T, Complaint>,
    ) -> Option<T> {
        let value = self.take(name)?;
        parse(value)
            .map_err(|complaint| self.fault(name, complaint))
            .ok()
    }

    /// Takes a member that must be there.
    pub(crate) fn required<T>(
        &mut self,
        name: &str,
        parse: impl FnOnce(Value<'a>) -> Result<T, Complaint>,
    ) -> Option<T> {
        match self.take(name) {
            Some(value) => parse(value)
                .map_err(|complaint| self.fault(name, complaint))
                .ok(),
            None => {
                self.fault(name, "is required.");
                None
            }
        }
    }

    /// Takes a member that may be changed: absent is `None`, null is `Some(None)`.
    pub(crate) fn change<T>(
        &mut self,
        name: &str,
        parse: impl FnOnce(Value<'a>) -> Result<T, Complaint>,
    ) -> Option<Option<T>> {
        let is_there = self.members.iter().any(|(member, _)| member == name);
        is_there.then(|| self.optional(name, parse))
    }

    /// Takes a text that the rules of the model judge; one that is absent is an empty one.
    pub(crate) fn words(&mut self, name: &str) -> String {
        self.optional(name, field::any_text).unwrap_or_default()
    }

    /// Takes an object out that must be there, and reads it.
    pub(crate) fn nested<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&mut Form<'_, 'a>) -> T,
    ) -> Option<T> {
        let Some(value) = self.take(name) else {
            self.fault(name, "is required.");
            return None;
        };
        if !matches!(value, Value::Object(_)) {
            self.fault(name, "must be an object.");
            return None;
        }
        let mut form = Form::new(value, Place::Member(&self.place, name), self.report);
        let made = read(&mut form);
        form.done();
        Some(made)
    }

    /// Takes an array out and reads each of its items; absent is `None`, another type a fault.
    pub(crate) fn items<T>(
        &mut self,
        name: &str,
        mut read: impl FnMut(Value<'a>, Place<'_>, &RefCell<Report>) -> Option<T>,
    ) -> Option<Vec<Option<T>>> {
        let items = self.optional(name, field::list)?;
        let place = Place::Member(&self.place, name);
        let read_one = |(index, item)| read(item, Place::Item(&place, index), self.report);
        Some(items.into_iter().enumerate().map(read_one).collect())
    }

    /// Notes a fault of a member.
    pub(crate) fn fault(&self, name: &str, complaint: impl Into<Complaint>) {
        self.report
            .borrow_mut()
            .fault(Place::Member(&self.place, name), complaint);
    }

    /// Notes a fault of a member in a whole sentence.
    pub(crate) fn sentence(&self, name: &str, sentence: String) {
        let path = Place::Member(&self.place, name).to_string();
        self.report.borrow_mut().sentence(path, sentence);
    }

    /// Notes what the rules of the model found in the body; see [`Report::rules`].
    pub(crate) fn rules(&self, faults: Vec<(String, String)>) {
        let here = |(path, sentence): (String, String)| {
            (Place::Member(&self.place, &path).to_string(), sentence)
        };
        self.report.borrow_mut().rules(faults.into_iter().map(here));
    }

    /// Refuses the members that are known and do not work yet.
    pub(crate) fn refuse_not_yet(&mut self) {
        if self.members.is_empty() {
            return;
        }
        for name in NOT_YET {
            if self.take(name).is_some() {
                self.fault(name, "is not supported yet.");
            }
        }
    }

    /// Ends the reading: what nobody took is named as ignored.
    pub(crate) fn done(self) {
        for (name, _) in &self.members {
            self.report
                .borrow_mut()
                .ignored(Place::Member(&self.place, name));
        }
    }

    /// Ends the reading of a query: what nobody took is a fault.
    fn done_strictly(self) {
        for (name, _) in &self.members {
            self.report
                .borrow_mut()
                .fault(Place::Member(&self.place, name), "is not a known filter.");
        }
    }
}

/// Reads a JSON body with `read`, and answers what it made of it and what was found.
pub(crate) fn body<T>(
    bytes: &[u8],
    read: impl FnOnce(&mut Form<'_, '_>) -> T,
) -> Result<(T, Report), ApiError> {
    let value = crate::json::parse(bytes)
        .map_err(|reason| ApiError::Malformed(format!("The body is not valid JSON: {reason}.")))?;
    let report = RefCell::new(Report::default());
    let mut form = Form::new(value, Place::Root, &report);
    let made = read(&mut form);
    form.done();
    Ok((made, report.into_inner()))
}

/// Reads the query of a URI with `read`; unknown members are faults.
pub(crate) fn query<T>(
    uri: &http::Uri,
    read: impl FnOnce(&mut Form<'_, '_>) -> T,
) -> Result<T, ApiError> {
    let pairs = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(uri)
        .map_err(|_| ApiError::Malformed("The query is not well formed.".to_owned()))?;
    let members = pairs
        .0
        .into_iter()
        .map(|(name, text)| (name.into(), Value::Text(text.into())));
    let report = RefCell::new(Report::default());
    let mut form = Form {
        members: members.collect(),
        place: Place::Root,
        report: &report,
    };
    let made = read(&mut form);
    form.done_strictly();
    report.into_inner().accepted().map(|_| made)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_faults_are_found_at_once_and_named_by_their_path() {
        let bytes = br#"{"name":7,"sections":[{"title":"a"},{"title":null},5],"delay":3}"#;

        let (_, report) = body(bytes, |form| {
            form.required("name", field::text(1, 10));
            form.required("instance", field::text(1, 10));
            form.items("sections", |value, place, report| {
                let mut form = Form::new(value, place, report);
                form.required("title", field::text(1, 5))
            });
            form.refuse_not_yet();
        })
        .unwrap();

        let faults = report.faults();
        let paths: Vec<&str> = faults.keys().map(String::as_str).collect();
        let expected = [
            "delay",
            "instance",
            "name",
            "sections.1.title",
            "sections.2",
            "sections.2.title",
        ];
        assert_eq!(paths, expected);
        assert_eq!(faults["name"], ["The name field must be a string."]);
    }

    #[test]
    fn unknown_members_are_named_and_null_is_absent() {
        let (name, report) = body(br#"{"sendAt":"x","name":null}"#, |form| {
            form.optional("name", field::text(1, 3))
        })
        .unwrap();

        assert_eq!(name, None);
        assert_eq!(report.accepted().unwrap(), ["ignored: sendAt"]);
    }

    #[test]
    fn unknown_filters_are_faults() {
        let uri = "/messages?stauts=sent&page=2".parse().unwrap();

        let error = query(&uri, |form| form.optional("page", field::whole(1, 9))).unwrap_err();

        let ApiError::Invalid(faults) = error else {
            panic!("a validation error")
        };
        assert_eq!(
            faults["stauts"],
            ["The stauts field is not a known filter."]
        );
    }
}
