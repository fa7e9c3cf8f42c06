//! Sizes and durations as people write them: `64MiB`, `7d`. A printed value can be read again.

use std::ops::RangeInclusive;
use std::time::Duration;

/// Units of sizes. Of two texts of equal length, the unit that comes first here is printed.
const SIZES: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

const DURATIONS: [(&str, u64); 4] = [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];

const NO_SIZE: &str = "a size is a whole number and a unit: \
                       B, kB, MB, GB, TB, KiB, MiB, GiB or TiB, such as 64MiB";

const NO_DURATION: &str =
    "a duration is a whole number and a unit: s, m, h or d, such as 90s, 15m, 12h or 7d";

/// Parses a number of bytes. The case of the unit does not matter; without a unit it is bytes.
pub fn size(text: &str, range: &RangeInclusive<u64>) -> Result<u64, String> {
    let (number, unit) = split(text).ok_or(NO_SIZE)?;
    let unit = if unit.is_empty() { "B" } else { unit };
    let known = SIZES.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit));
    let (_, bytes) = known.ok_or(NO_SIZE)?;
    // A number above u64 is outside every range.
    let size = number.parse().ok().and_then(|number: u64| number.checked_mul(*bytes));
    size.filter(|size| range.contains(size)).ok_or_else(|| size_outside(range))
}

/// The error for a size outside its range.
pub fn size_outside(range: &RangeInclusive<u64>) -> String {
    format!("must be from {} to {}", show_size(*range.start()), show_size(*range.end()))
}

/// Formats a number of bytes exactly, in the shortest way.
pub fn show_size(bytes: u64) -> String {
    let exact = SIZES.iter().filter(|(_, unit)| bytes.is_multiple_of(*unit) && bytes >= *unit);
    let texts = exact.map(|(name, unit)| format!("{}{name}", bytes / unit));
    texts.min_by_key(String::len).unwrap_or_else(|| format!("{bytes}B"))
}

/// Parses a duration. Units are lower case, because M could be a month.
pub fn duration(text: &str, range: &RangeInclusive<Duration>) -> Result<Duration, String> {
    let (number, unit) = split(text).ok_or(NO_DURATION)?;
    let (_, seconds) = DURATIONS.iter().find(|(name, _)| *name == unit).ok_or(NO_DURATION)?;
    let read = number.parse().ok().and_then(|number: u64| number.checked_mul(*seconds));
    let read = read.map(Duration::from_secs).filter(|read| range.contains(read));
    read.ok_or_else(|| duration_outside(range))
}

/// The error for a duration outside its range.
pub fn duration_outside(range: &RangeInclusive<Duration>) -> String {
    format!("must be from {} to {}", show_duration(*range.start()), show_duration(*range.end()))
}

/// Formats a duration exactly. Fractions of a second, which no flag accepts, are formatted as
/// [`Duration`] does.
pub fn show_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let unit = DURATIONS.iter().find(|(_, unit)| seconds.is_multiple_of(*unit) && seconds >= *unit);
    match unit {
        Some((name, unit)) if duration.subsec_nanos() == 0 => format!("{}{name}", seconds / unit),
        _ => format!("{duration:?}"),
    }
}

/// Splits a text into its leading digits, at least one, and the rest.
fn split(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.split_at_checked(end).filter(|(number, _)| !number.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ANY_SIZE: RangeInclusive<u64> = 0..=u64::MAX;
    const ANY_DURATION: RangeInclusive<Duration> = Duration::ZERO..=Duration::MAX;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("0", 0),
            ("17", 17),
            ("17B", 17),
            ("1kB", 1_000),
            ("1KB", 1_000),
            ("1KiB", 1_024),
            ("500MB", 500_000_000),
            ("64mib", 64 << 20),
            ("1GB", 1_000_000_000),
            ("1GiB", 1 << 30),
            ("2TB", 2_000_000_000_000),
            ("08TiB", 8 << 40),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(size(text, &ANY_SIZE), Ok(bytes), "{text}");
        }
        for wrong in ["", "GiB", "1.5GiB", "1 GiB", "-1", "+1", "1G", "1PiB", "1GiBs", "0x10", "١B"]
        {
            assert_eq!(size(wrong, &ANY_SIZE), Err(NO_SIZE.to_owned()), "{wrong}");
        }
    }

    #[test]
    fn sizes_have_their_range() {
        let range = 1 << 20..=1 << 43;
        assert_eq!(size("1MiB", &range), Ok(1 << 20));
        assert_eq!(size("8TiB", &range), Ok(1 << 43));
        let large = "9".repeat(100) + "GiB";
        for outside in ["0", "1048575", "1MB", "8796093022209", "18446744073709551615TiB", &large] {
            let text = "must be from 1MiB to 8TiB".to_owned();
            assert_eq!(size(outside, &range), Err(text), "{outside}");
        }
    }

    #[test]
    fn sizes_are_shown_in_the_shortest_way() {
        for (bytes, text) in [
            (0, "0B"),
            (1, "1B"),
            (1_001, "1001B"),
            (1_000, "1kB"),
            (1_024, "1KiB"),
            (500_000_000, "500MB"),
            (512_000_000, "512MB"),
            (1 << 30, "1GiB"),
            (1_536 << 20, "1536MiB"),
            (u64::MAX, "18446744073709551615B"),
        ] {
            assert_eq!(show_size(bytes), text);
        }
    }

    #[test]
    fn durations() {
        for (text, seconds) in [
            ("0s", 0),
            ("90s", 90),
            ("15m", 900),
            ("12h", 43_200),
            ("7d", 604_800),
            ("007d", 604_800),
        ] {
            let read = Ok(Duration::from_secs(seconds));
            assert_eq!(duration(text, &ANY_DURATION), read, "{text}");
        }
        for wrong in
            ["", "90", "s", "1.5h", "1 h", "-1s", "+1s", "1M", "1w", "1h30m", "1ms", "ever"]
        {
            assert_eq!(duration(wrong, &ANY_DURATION), Err(NO_DURATION.to_owned()), "{wrong}");
        }
    }

    #[test]
    fn durations_have_their_range() {
        let range = Duration::from_secs(1)..=Duration::from_secs(36_500 * 86_400);
        assert_eq!(duration("1s", &range), Ok(*range.start()));
        assert_eq!(duration("36500d", &range), Ok(*range.end()));
        let large = "9".repeat(100) + "d";
        for outside in ["0s", "0d", "36501d", "18446744073709551615d", &large] {
            let text = "must be from 1s to 36500d".to_owned();
            assert_eq!(duration(outside, &range), Err(text), "{outside}");
        }
    }

    #[test]
    fn durations_are_shown_in_their_largest_unit() {
        for (millis, text) in [
            (0, "0ns"),
            (90_000, "90s"),
            (60_000, "1m"),
            (7_200_000, "2h"),
            (86_400_000, "1d"),
            (1_500, "1.5s"),
        ] {
            assert_eq!(show_duration(Duration::from_millis(millis)), text);
        }
    }

    proptest! {
        #[test]
        fn a_size_that_is_shown_can_be_read(number: u64, zeros in 0..64) {
            let bytes = number >> zeros << (zeros / 2);
            prop_assert_eq!(size(&show_size(bytes), &ANY_SIZE), Ok(bytes));
        }

        #[test]
        fn a_size_is_its_number_times_its_unit(number: u32, unit in 0..SIZES.len()) {
            let (name, bytes) = SIZES[unit];
            let expected = u64::from(number).checked_mul(bytes);
            prop_assert_eq!(size(&format!("{number}{name}"), &ANY_SIZE).ok(), expected);
        }

        #[test]
        fn a_duration_that_is_shown_can_be_read(seconds in 1_u64.., scale in 0..4_usize) {
            let seconds = seconds.saturating_mul(DURATIONS[scale].1);
            let time = Duration::from_secs(seconds);
            prop_assert_eq!(duration(&show_duration(time), &ANY_DURATION), Ok(time));
        }

        #[test]
        fn no_text_breaks_them(text: String) {
            for text in [&text, &format!("9{text}")] {
                let _ = size(text, &(1..=9));
                let _ = duration(text, &ANY_DURATION);
            }
        }
    }
}
