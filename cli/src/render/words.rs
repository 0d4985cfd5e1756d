//! Numbers, lengths of time, moments and revisions, as people write them.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// `12,044`
pub(crate) fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `4.2 s`, `41 s`, `2 min 5 s`, `3 h 10 min`, `2 d`
pub(crate) fn length(length: Duration) -> String {
    let seconds = length.as_secs();
    let two = |big: u64, big_unit: &str, small: u64, unit: &str| match small {
        0 => format!("{big} {big_unit}"),
        _ => format!("{big} {big_unit} {small} {unit}"),
    };
    match seconds {
        0..10 => format!("{}.{} s", seconds, length.subsec_millis() / 100),
        10..60 => format!("{seconds} s"),
        60..3600 => two(seconds / 60, "min", seconds % 60, "s"),
        3600..86400 => two(seconds / 3600, "h", seconds % 3600 / 60, "min"),
        _ => two(seconds / 86400, "d", seconds % 86400 / 3600, "h"),
    }
}

/// Between two moments of a wall clock; nothing when they are in the wrong order.
pub(crate) fn between(from_millis: i64, to_millis: i64) -> Duration {
    Duration::from_millis(u64::try_from(to_millis.saturating_sub(from_millis)).unwrap_or(0))
}

/// `3 h 10 min ago`; nothing for a moment that is not known.
pub(crate) fn ago(then_millis: i64, now: Timestamp) -> String {
    if then_millis == 0 {
        return String::new();
    }
    let length = between(then_millis, now.as_millisecond());
    // Tenths of seconds are noise in what lies behind.
    let whole = Duration::from_secs(length.as_secs());
    match whole.as_secs() {
        0..10 => "now".to_owned(),
        _ => format!("{} ago", self::length(whole)),
    }
}

/// `14:03:59`, where the reader is.
pub(crate) fn clock(moment: Timestamp, zone: &TimeZone) -> String {
    moment
        .to_zoned(zone.clone())
        .strftime("%H:%M:%S")
        .to_string()
}

/// `2025-06-01 14:03:59`, where the reader is; nothing for a moment that is not known.
pub(crate) fn date(millis: i64, zone: &TimeZone) -> String {
    match Timestamp::from_millisecond(millis) {
        Ok(moment) if millis != 0 => {
            let there = moment.to_zoned(zone.clone());
            there.strftime("%Y-%m-%d %H:%M:%S").to_string()
        }
        Ok(_) | Err(_) => String::new(),
    }
}

/// `@7`; `-` for none.
pub(crate) fn revision(number: u64) -> String {
    match number {
        0 => "-".to_owned(),
        _ => format!("@{number}"),
    }
}

/// `1 host`, `3 hosts`
pub(crate) fn hosts(count: usize) -> String {
    match count {
        1 => "1 host".to_owned(),
        _ => format!("{count} hosts"),
    }
}

/// `h1, h2, h3`; of many the first ones, and how many more.
pub(crate) fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    const MOST: usize = 12; // a line that a person reads
    let names: Vec<&str> = names.into_iter().collect();
    match names.get(..MOST) {
        Some(first) if names.len() > MOST => {
            format!("{} and {} more", first.join(", "), names.len() - MOST)
        }
        Some(_) | None => names.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_commas() {
        let all = [0, 7, 999, 1000, 12_044, 1_000_000].map(number);
        assert_eq!(all, ["0", "7", "999", "1,000", "12,044", "1,000,000"]);
    }

    #[test]
    fn lengths_are_said_in_the_units_that_matter() {
        let said = |millis| length(Duration::from_millis(millis));
        assert_eq!(said(4_200), "4.2 s");
        assert_eq!(said(41_000), "41 s");
        assert_eq!(said(120_000), "2 min");
        assert_eq!(said(125_000), "2 min 5 s");
        assert_eq!(said(11_400_000), "3 h 10 min");
        assert_eq!(said(90_000_000), "1 d 1 h");
    }

    #[test]
    fn of_many_hosts_the_first_are_named() {
        let names: Vec<String> = (1..=14).map(|n| format!("h{n}")).collect();
        let said = list(names.iter().map(String::as_str));
        assert!(said.ends_with("h12 and 2 more"), "{said}");
        assert_eq!(list(["a", "b"]), "a, b");
    }
}
