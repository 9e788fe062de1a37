//! Lengths of time and sizes as people write them: `5s`, `90d`, `1MiB`.

use std::time::Duration;

const TIME_UNITS: [(&str, u64); 5] = [
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];

const SIZE_UNITS: [(&str, u64); 4] = [
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
];

/// Reads a length of time: a whole number and `ms`, `s`, `m`, `h` or `d`.
pub fn parse_duration(text: &str) -> Option<Duration> {
    number_with_unit(text, &TIME_UNITS).map(Duration::from_millis)
}

/// Reads a size in bytes: a whole number and `B`, `KiB`, `MiB` or `GiB`.
pub fn parse_size(text: &str) -> Option<u64> {
    number_with_unit(text, &SIZE_UNITS)
}

/// Writes a length of time in the largest unit that keeps it whole.
pub fn show_duration(time: Duration) -> String {
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    with_largest_unit(millis, &TIME_UNITS)
}

/// Writes a size in the largest unit that keeps it whole.
pub fn show_size(bytes: u64) -> String {
    with_largest_unit(bytes, &SIZE_UNITS)
}

fn number_with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

fn with_largest_unit(amount: u64, units: &[(&str, u64)]) -> String {
    let fits = |(_, factor): &&(&str, u64)| amount != 0 && amount.is_multiple_of(*factor);
    let (unit, factor) = units.iter().rev().find(fits).unwrap_or(&units[0]);
    format!("{}{unit}", amount / factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_whole_number_with_a_unit() {
        assert_eq!(parse_duration("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(
            parse_duration("90 d"),
            Some(Duration::from_secs(90 * 86_400))
        );
        for wrong in [
            "5",
            "s",
            "",
            "5 parsecs",
            "1.5s",
            "-1s",
            "99999999999999999999s",
        ] {
            assert_eq!(parse_duration(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_shown_reads_back_as_the_same() {
        for text in ["1ms", "90s", "36h", "7d"] {
            assert_eq!(show_duration(parse_duration(text).unwrap()), text);
        }
        for text in ["1B", "1000B", "64MiB", "3GiB"] {
            assert_eq!(show_size(parse_size(text).unwrap()), text);
        }
        assert_eq!(show_duration(Duration::from_secs(120)), "2m");
        assert_eq!(show_size(0), "0B");
    }
}
