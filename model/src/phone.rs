//! Phone numbers in E.164.
//!
//! A number is parsed once, at the door, and is a [`Phone`] from there on. What is refused is
//! refused with the fault and its remedy, because most bad numbers come out of spreadsheets and
//! are repaired by people.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Digits of the shortest number that is taken.
pub const MIN_DIGITS: usize = 7;

/// Digits of the longest number: E.164 allows no more.
pub const MAX_DIGITS: usize = 15;

/// A phone number in E.164: 7 to 15 digits, the first of them not 0.
///
/// Its `Debug` form is masked, so that no log line shows a number whole.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Phone(u64);

impl Phone {
    /// The number written as `+`, a digit from 1 to 9, and 6 to 14 digits more; nothing else, not
    /// even a space around it.
    pub fn parse(text: &str) -> Result<Self, InvalidPhone> {
        let digits = text
            .strip_prefix('+')
            .and_then(|digits| number(digits.as_bytes()));
        digits.ok_or_else(|| fault(text, true))
    }

    /// The number written as its digits alone, as WhatsApp's own addresses do.
    pub fn from_digits(text: &str) -> Result<Self, InvalidPhone> {
        number(text.as_bytes()).ok_or_else(|| fault(text, false))
    }

    /// The digits as one integer: `966501234567`.
    pub const fn digits(self) -> u64 {
        self.0
    }

    /// A form for logs and lists that shows the last 4 digits only.
    pub const fn masked(self) -> Masked {
        Masked(self)
    }
}

/// The digits as a number; `None` when anything at all is wrong with them.
fn number(digits: &[u8]) -> Option<Phone> {
    if !(MIN_DIGITS..=MAX_DIGITS).contains(&digits.len()) || digits[0] == b'0' {
        return None;
    }
    let mut value = 0_u64;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value * 10 + u64::from(digit);
    }
    Some(Phone(value))
}

/// What is wrong with a text that is no number.
#[cold]
fn fault(text: &str, wants_plus: bool) -> InvalidPhone {
    if text.is_empty() {
        return InvalidPhone::Empty;
    }
    if is_scientific(text) {
        return InvalidPhone::Spreadsheet;
    }
    let (digits, plus) = match text.strip_prefix('+') {
        Some(digits) if wants_plus => (digits, true),
        _ => (text, false),
    };
    if let Some(bad) = digits.chars().find(|c| !c.is_ascii_digit()) {
        return InvalidPhone::BadCharacter(bad);
    }
    if digits.starts_with('0') {
        return InvalidPhone::LeadingZero;
    }
    if wants_plus && !plus {
        return InvalidPhone::MissingPlus;
    }
    if digits.len() < MIN_DIGITS {
        return InvalidPhone::TooShort(digits.len());
    }
    InvalidPhone::TooLong(digits.len())
}

/// Whether a text looks like `9.66E+11`, which is how spreadsheets show long numbers.
fn is_scientific(text: &str) -> bool {
    let Some((mantissa, exponent)) = text.split_once(['E', 'e']) else {
        return false;
    };
    let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    let is_digits = |part: &str, extra: &[u8]| {
        part.bytes().any(|byte| byte.is_ascii_digit())
            && part
                .bytes()
                .all(|byte| byte.is_ascii_digit() || extra.contains(&byte))
    };
    is_digits(mantissa, b"+.,") && is_digits(exponent, b"")
}

impl FromStr for Phone {
    type Err = InvalidPhone;

    fn from_str(text: &str) -> Result<Self, InvalidPhone> {
        Self::parse(text)
    }
}

impl fmt::Display for Phone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "+{}", self.0)
    }
}

impl fmt::Debug for Phone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.masked(), f)
    }
}

/// A phone number of which only the last 4 digits are shown: `+…4567`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Masked(Phone);

impl fmt::Display for Masked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "+…{:04}", self.0.0 % 10_000)
    }
}

/// Why a text is no phone number.
///
/// The message is the end of a sentence that begins with the name of the field: "The recipient
/// field must start with + …".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPhone {
    /// There is nothing.
    #[error("must not be empty: write it like +966501234567")]
    Empty,
    /// Digits alone.
    #[error("must start with + and the country code, like +966501234567")]
    MissingPlus,
    /// A 0 where the country code begins: `+0…`, `00966…` or a number as dialled at home.
    #[error("must have the country code after the + and no 0 before it, like +966501234567")]
    LeadingZero,
    /// Something that is neither the first `+` nor a digit.
    #[error("must not contain {0:?}: after the + only the digits 0 to 9 are allowed")]
    BadCharacter(char),
    /// Fewer than 7 digits.
    #[error("must have at least 7 digits after the +; it has {0}")]
    TooShort(usize),
    /// More than 15 digits.
    #[error("must have at most 15 digits after the +; it has {0}")]
    TooLong(usize),
    /// Scientific notation.
    #[error(
        "was changed to scientific notation by a spreadsheet and its digits are lost: format the \
         column as text and export it again"
    )]
    Spreadsheet,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_number_is_a_plus_and_7_to_15_digits() {
        for text in ["+1234567", "+966501234567", "+999999999999999"] {
            assert_eq!(Phone::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn each_fault_is_named() {
        let faults = [
            ("", InvalidPhone::Empty),
            ("966501234567", InvalidPhone::MissingPlus),
            ("+0501234567", InvalidPhone::LeadingZero),
            ("00966501234567", InvalidPhone::LeadingZero),
            ("0501234567", InvalidPhone::LeadingZero),
            ("+966 501234567", InvalidPhone::BadCharacter(' ')),
            ("++966501234567", InvalidPhone::BadCharacter('+')),
            ("+٩٦٦501234567", InvalidPhone::BadCharacter('٩')),
            ("+966501234567\n", InvalidPhone::BadCharacter('\n')),
            (
                "\u{202a}+966501234567",
                InvalidPhone::BadCharacter('\u{202a}'),
            ),
            ("+123456", InvalidPhone::TooShort(6)),
            ("+", InvalidPhone::TooShort(0)),
            ("+1234567890123456", InvalidPhone::TooLong(16)),
            ("9.66E+11", InvalidPhone::Spreadsheet),
            ("9.66501E+11", InvalidPhone::Spreadsheet),
            ("+9,66e11", InvalidPhone::Spreadsheet),
            ("hello", InvalidPhone::BadCharacter('h')),
            ("E", InvalidPhone::BadCharacter('E')),
        ];

        for (text, fault) in faults {
            assert_eq!(Phone::parse(text), Err(fault), "{text:?}");
        }
    }

    #[test]
    fn digits_alone_are_a_number_only_where_an_address_is_read() {
        assert_eq!(
            Phone::from_digits("966501234567"),
            Phone::parse("+966501234567")
        );
        assert_eq!(
            Phone::from_digits("+966501234567"),
            Err(InvalidPhone::BadCharacter('+'))
        );
    }

    #[test]
    fn a_spreadsheet_is_blamed_by_name() {
        let fault = Phone::parse("9.66E+11").unwrap_err().to_string();

        assert!(
            fault.contains("spreadsheet") && fault.contains("as text"),
            "{fault}"
        );
    }

    #[test]
    fn a_masked_number_shows_its_last_4_digits_only() {
        let phone = Phone::parse("+966501230067").unwrap();

        assert_eq!(phone.masked().to_string(), "+…0067");
        assert_eq!(
            format!("{phone:?} {:?}", phone.masked()),
            "+…0067 Masked(+…0067)"
        );
    }

    proptest! {
        #[test]
        fn every_number_in_e164_reads_back(text in "\\+[1-9][0-9]{6,14}") {
            let phone: Phone = text.parse().unwrap();

            prop_assert_eq!(Phone::from_digits(&text[1..]), Ok(phone));
            prop_assert_eq!(phone.to_string(), text);
        }

        #[test]
        fn nothing_else_is_a_number(text in "\\PC{0,20}") {
            let digits = text.strip_prefix('+').unwrap_or("");
            let right = (7..=15).contains(&digits.len())
                && digits.bytes().all(|byte| byte.is_ascii_digit())
                && !digits.starts_with('0');

            prop_assert_eq!(Phone::parse(&text).is_ok(), right);
        }
    }
}
