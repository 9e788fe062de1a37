//! A JSON document as a client sent it, before anything is believed of it.
//!
//! Typed parsing stops at the first wrong type; a client is owed all its faults at once. So a body
//! becomes a tree of [`Value`]s that borrow from it, and [`crate::validate`] judges the members.
//! The tree is bounded: a small body cannot grow into a large one in memory.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

/// Values in one document. A bulk of 100 messages with every member needs about 2,000; each value
/// takes about 56 bytes, so a document of 8 MiB cannot take more than 11 MiB beside itself.
const MAX_VALUES: u32 = 200_000;

/// Objects up to this size are checked for a repeated name by comparing each pair.
const SMALL_OBJECT: usize = 16;

/// A JSON value that borrows from the body where it can.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value<'a> {
    /// `null`: the same as absent.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Whole(i64),
    /// Any other number.
    Float(f64),
    /// A text.
    Text(Cow<'a, str>),
    /// An array.
    List(Vec<Value<'a>>),
    /// An object, its members in their order, no name twice.
    Object(Vec<Member<'a>>),
}

/// A named value of an object.
pub(crate) type Member<'a> = (Cow<'a, str>, Value<'a>);

impl Value<'_> {
    /// The word for its type in a complaint.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Whole(_) => "an integer",
            Self::Float(_) => "a number",
            Self::Text(_) => "a string",
            Self::List(_) => "an array",
            Self::Object(_) => "an object",
        }
    }
}

/// Reads a document; the error is what a client is told after "The body is not valid JSON: ".
pub(crate) fn parse(body: &[u8]) -> Result<Value<'_>, String> {
    let budget = Cell::new(MAX_VALUES);
    let mut reader = serde_json::Deserializer::from_slice(body);
    let value = Seed(&budget)
        .deserialize(&mut reader)
        .map_err(|error| error.to_string())?;
    reader.end().map_err(|error| error.to_string())?;
    Ok(value)
}

#[derive(Clone, Copy)]
struct Seed<'b>(&'b Cell<u32>);

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value<'de>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value<'de>, D::Error> {
        let left = self.0.get().checked_sub(1);
        self.0.set(
            left.ok_or_else(|| de::Error::custom(format_args!("more than {MAX_VALUES} values")))?,
        );
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value<'de>, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value<'de>, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value<'de>, E> {
        Ok(Value::Whole(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value<'de>, E> {
        Ok(i64::try_from(value).map_or(Value::Float(value as f64), Value::Whole))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value<'de>, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value<'de>, E> {
        Ok(Value::Text(Cow::Owned(value.to_owned())))
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Value<'de>, E> {
        Ok(Value::Text(Cow::Borrowed(value)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value<'de>, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            list.push(item);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value<'de>, A::Error> {
        let mut object = Vec::new();
        while let Some(name) = members.next_key_seed(Name)? {
            object.push((name, members.next_value_seed(self)?));
        }
        match repeated(&object) {
            Some(name) => Err(de::Error::custom(format_args!("duplicate member `{name}`"))),
            None => Ok(Value::Object(object)),
        }
    }
}

/// A name that two members share. Parsers disagree on which of them holds, so neither does.
fn repeated<'m>(object: &'m [Member<'_>]) -> Option<&'m str> {
    if object.len() <= SMALL_OBJECT {
        return object
            .iter()
            .enumerate()
            .find(|(at, (name, _))| object[..*at].iter().any(|(before, _)| before == name))
            .map(|(_, (name, _))| name.as_ref());
    }
    let mut names: Vec<&str> = object.iter().map(|(name, _)| name.as_ref()).collect();
    names.sort_unstable();
    names
        .windows(2)
        .find(|pair| pair[0] == pair[1])
        .map(|pair| pair[0])
}

struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Cow<'de, str>, D::Error> {
        reader.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Name {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Owned(name.to_owned()))
    }

    fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Borrowed(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_texts_are_borrowed_and_escaped_ones_are_decoded() {
        let body = br#"{"a":"plain","b":"tab\t","n":-3,"f":1.5}"#;

        let Value::Object(members) = parse(body).unwrap() else {
            panic!("an object")
        };

        assert!(matches!(members[0].1, Value::Text(Cow::Borrowed("plain"))));
        assert_eq!(members[1].1, Value::Text(Cow::Owned("tab\t".to_owned())));
        assert_eq!(
            (&members[2].1, &members[3].1),
            (&Value::Whole(-3), &Value::Float(1.5))
        );
    }

    #[test]
    fn a_name_that_comes_twice_is_refused_in_small_and_in_large_objects() {
        let many: Vec<String> = (0..40).map(|n| format!("\"k{n}\":1")).collect();
        let large = format!("{{{},\"k7\":2}}", many.join(","));

        for body in [r#"{"a":1,"a":2}"#, &large] {
            let error = parse(body.as_bytes()).unwrap_err();
            assert!(error.contains("duplicate member"), "{error}");
        }
    }

    #[test]
    fn a_body_of_too_many_or_too_deep_values_is_refused_before_it_grows() {
        let many = format!("[{}0]", "0,".repeat(MAX_VALUES as usize));
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));

        assert!(parse(many.as_bytes()).unwrap_err().contains("more than"));
        assert!(parse(deep.as_bytes()).unwrap_err().contains("recursion"));
    }

    #[test]
    fn what_follows_the_document_is_a_fault() {
        assert!(parse(b"{} {}").is_err());
        assert!(parse(b"").is_err());
        assert!(parse(b"\xff").is_err());
    }
}
