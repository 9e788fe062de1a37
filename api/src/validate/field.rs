//! Parsers of single values: each says what is good, and ends the sentence when it is not.

use std::ops::RangeInclusive;
use std::str::FromStr;

use zajil_model::id::InvalidId;
use zajil_model::phone::Phone;
use zajil_model::time::{Day, Timestamp};

use super::Complaint;
use crate::json::Value;
use crate::stamp;

/// A text of `min` to `max` Unicode scalars.
pub(crate) fn text(min: usize, max: usize) -> impl FnOnce(Value<'_>) -> Result<String, Complaint> {
    move |value| {
        let Value::Text(text) = value else {
            return Err("must be a string.".into());
        };
        // A scalar takes at least a byte: most texts need no count.
        let short = text.len() <= max && text.len() >= min.saturating_mul(4);
        if !short {
            let length = text.chars().count();
            if length < min && min == 1 {
                return Err("must not be empty.".into());
            }
            if length < min {
                return Err(format!("must be at least {min} characters.").into());
            }
            if length > max {
                return Err(format!("must not be greater than {max} characters.").into());
            }
        }
        Ok(text.into_owned())
    }
}

/// Any text.
pub(crate) fn any_text(value: Value<'_>) -> Result<String, Complaint> {
    match value {
        Value::Text(text) => Ok(text.into_owned()),
        _ => Err("must be a string.".into()),
    }
}

/// An array.
pub(crate) fn list(value: Value<'_>) -> Result<Vec<Value<'_>>, Complaint> {
    match value {
        Value::List(items) => Ok(items),
        _ => Err("must be an array.".into()),
    }
}

/// `true` or `false`.
#[expect(
    clippy::needless_pass_by_value,
    reason = "every parser takes its value"
)]
pub(crate) fn boolean(value: Value<'_>) -> Result<bool, Complaint> {
    match value {
        Value::Bool(flag) => Ok(flag),
        _ => Err("must be true or false.".into()),
    }
}

/// A whole number from `min` to `max`, as a number or in digits.
pub(crate) fn whole(min: i64, max: i64) -> impl FnOnce(Value<'_>) -> Result<i64, Complaint> {
    move |value| {
        let number = match value {
            Value::Whole(number) => number,
            Value::Text(text) => text.parse().map_err(|_| "must be an integer.")?,
            _ => return Err("must be an integer.".into()),
        };
        if (min..=max).contains(&number) {
            Ok(number)
        } else {
            Err(format!("must be between {min} and {max}.").into())
        }
    }
}

/// A number within a range.
pub(crate) fn number(
    range: RangeInclusive<f64>,
) -> impl FnOnce(Value<'_>) -> Result<f64, Complaint> {
    move |value| {
        let number = match value {
            Value::Whole(number) => number as f64,
            Value::Float(number) => number,
            _ => return Err("must be a number.".into()),
        };
        if range.contains(&number) {
            Ok(number)
        } else {
            Err(format!("must be between {} and {}.", range.start(), range.end()).into())
        }
    }
}

/// An id, as a number or in digits.
pub(crate) fn id<T: FromStr<Err = InvalidId>>(value: Value<'_>) -> Result<T, Complaint> {
    match value {
        Value::Whole(number) => number.to_string().parse(),
        Value::Text(text) => text.parse(),
        _ => return Err("must be an id: an integer, or its digits.".into()),
    }
    .map_err(|error| format!("is not valid: {error}.").into())
}

/// A phone number in E.164.
pub(crate) fn phone(value: Value<'_>) -> Result<Phone, Complaint> {
    match value {
        Value::Text(text) => read_phone(&text),
        _ => Err("must be a string: a phone number in E.164, like +966501234567.".into()),
    }
}

/// A phone number from a text.
pub(crate) fn read_phone(text: &str) -> Result<Phone, Complaint> {
    Phone::parse(text).map_err(|error| format!("is not valid: {error}.").into())
}

/// A time in RFC 3339.
pub(crate) fn time(value: Value<'_>) -> Result<Timestamp, Complaint> {
    let Value::Text(text) = value else {
        return Err("must be a string: a time like 2025-12-23T16:05:00Z.".into());
    };
    stamp::parse(&text).ok_or_else(|| "must be a time like 2025-12-23T16:05:00Z.".into())
}

/// A whole UTC day.
pub(crate) fn day(value: Value<'_>) -> Result<Day, Complaint> {
    let Value::Text(text) = value else {
        return Err("must be a whole UTC day, like 2025-12-23.".into());
    };
    stamp::parse_day(&text).ok_or_else(|| "must be a whole UTC day, like 2025-12-23.".into())
}

/// One of a closed set of words.
pub(crate) fn choice<T: Copy>(
    words: &'static [(&'static str, T)],
) -> impl FnOnce(Value<'_>) -> Result<T, Complaint> {
    move |value| {
        let found = match &value {
            Value::Text(text) => words.iter().find(|(word, _)| word == text),
            _ => return Err("must be a string.".into()),
        };
        found.map(|(_, meaning)| *meaning).ok_or_else(|| {
            let list: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            format!("must be one of: {}.", list.join(", ")).into()
        })
    }
}

/// An instance: its id as a number or in digits, or its name, which has a non-digit.
pub(crate) fn instance(value: Value<'_>) -> Result<String, Complaint> {
    match value {
        Value::Text(text) if text.is_empty() => Err("is required.".into()),
        Value::Text(text) => Ok(text.into_owned()),
        Value::Whole(number) if number >= 0 => Ok(number.to_string()),
        _ => Err("must be the id or the name of an instance.".into()),
    }
}

/// An object of texts, in its order.
pub(crate) fn pairs(value: Value<'_>) -> Result<Vec<(String, String)>, Complaint> {
    let Value::Object(members) = value else {
        return Err("must be an object of strings.".into());
    };
    let pair = |(name, value): (std::borrow::Cow<'_, str>, Value<'_>)| match value {
        Value::Text(text) => Ok((name.into_owned(), text.into_owned())),
        _ => Err(format!("must be an object of strings: {name} is not one.").into()),
    };
    members.into_iter().map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_measured_in_scalars_and_not_in_bytes() {
        let arabic = || Value::Text("زاجل".into());

        assert!(text(1, 4)(arabic()).is_ok());
        assert!(text(1, 3)(arabic()).is_err());
        assert_eq!(
            text(1, 3)(Value::Text("".into())),
            Err("must not be empty.".into())
        );
        assert_eq!(text(1, 3)(Value::Whole(1)), Err("must be a string.".into()));
    }

    #[test]
    fn an_instance_is_a_number_digits_or_a_name() {
        assert_eq!(instance(Value::Whole(12)), Ok("12".to_owned()));
        assert_eq!(instance(Value::Text("12".into())), Ok("12".to_owned()));
        assert_eq!(instance(Value::Text("12a".into())), Ok("12a".to_owned()));
        assert!(instance(Value::Text("".into())).is_err());
        assert!(instance(Value::Whole(-1)).is_err());
        assert!(instance(Value::Bool(true)).is_err());
    }

    #[test]
    fn a_choice_names_what_there_is() {
        let error = choice(&[("high", 1), ("normal", 2)])(Value::Text("low".into())).unwrap_err();

        assert_eq!(error, "must be one of: high, normal.");
    }
}
