//! Times as clients see them: `2025-12-23T16:05:00.000000Z`, UTC, microseconds always shown.

use std::fmt;

use serde::{Serialize, Serializer};
use zajil_model::time::{Day, Timestamp};

/// Length of the text.
const LENGTH: usize = 27;

/// A time that is written as clients see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp(pub(crate) Timestamp);

impl Stamp {
    fn text(self) -> [u8; LENGTH] {
        let micros = self.0.as_micros();
        let (year, month, day) = civil(micros.div_euclid(86_400_000_000));
        let in_day = micros.rem_euclid(86_400_000_000);
        let mut text = *b"0000-00-00T00:00:00.000000Z";
        digits(&mut text[0..4], year.clamp(0, 9_999));
        digits(&mut text[5..7], month);
        digits(&mut text[8..10], day);
        digits(&mut text[11..13], in_day / 3_600_000_000);
        digits(&mut text[14..16], in_day / 60_000_000 % 60);
        digits(&mut text[17..19], in_day / 1_000_000 % 60);
        digits(&mut text[20..26], in_day % 1_000_000);
        text
    }

    fn with_text<T>(self, use_it: impl FnOnce(&str) -> T) -> T {
        let text = self.text();
        use_it(std::str::from_utf8(&text).expect("digits and punctuation are ASCII"))
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.with_text(|text| f.write_str(text))
    }
}

impl Serialize for Stamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.with_text(|text| serializer.serialize_str(text))
    }
}

/// An optional time.
pub(crate) fn stamp(time: Option<Timestamp>) -> Option<Stamp> {
    time.map(Stamp)
}

/// Reads an RFC 3339 time.
pub(crate) fn parse(text: &str) -> Option<Timestamp> {
    let time: jiff::Timestamp = text.parse().ok()?;
    Some(Timestamp::from_micros(time.as_microsecond()))
}

/// Reads a UTC day, `2025-12-23`, or the first moment of one in RFC 3339.
pub(crate) fn parse_day(text: &str) -> Option<Day> {
    if let Ok(date) = text.parse::<jiff::civil::Date>()
        && text.len() == 10
    {
        let start = date.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp();
        return Some(Timestamp::from_micros(start.as_microsecond()).day());
    }
    let time = parse(text)?;
    (time.day().start() == time).then(|| time.day())
}

/// Writes a number with leading zeros over the whole of `place`.
fn digits(place: &mut [u8], mut number: i64) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// Year, month and day of a count of days since 1970-01-01 (proleptic Gregorian).
const fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + if month <= 2 { 1 } else { 0 };
    (year, month, day_of_year - (153 * shifted_month + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_six_digits_and_a_z() {
        let time = Timestamp::from_micros(1_766_505_900_000_042);

        assert_eq!(Stamp(time).to_string(), "2025-12-23T16:05:00.000042Z");
    }

    #[test]
    fn times_are_read_back_as_written_over_leap_years_and_before_1970() {
        for micros in [
            0,
            -1,
            951_782_400_000_000,
            4_107_542_399_999_999,
            -86_400_000_000,
        ] {
            let time = Timestamp::from_micros(micros);
            assert_eq!(
                parse(&Stamp(time).to_string()),
                Some(time),
                "{}",
                Stamp(time)
            );
        }
    }

    #[test]
    fn a_day_is_a_date_or_the_first_moment_of_one() {
        let day = Timestamp::from_micros(1_766_505_900_000_000).day();

        assert_eq!(parse_day("2025-12-23"), Some(day));
        assert_eq!(parse_day("2025-12-23T00:00:00Z"), Some(day));
        assert_eq!(parse_day("2025-12-23T16:05:00Z"), None);
        assert_eq!(parse_day("23.12.2025"), None);
    }
}
