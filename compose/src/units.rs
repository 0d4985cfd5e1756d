//! How Compose writes durations, sizes, CPUs and truth, and what they mean.
//!
//! Whole-number arithmetic throughout; what does not fit is refused.

use std::time::Duration;

/// Longest duration: ten years; a longer one is a slip.
const MAX_SECONDS: u64 = 10 * 366 * 24 * 3600;

/// `1m30s`, `500ms`, `1.5h`, `0`.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut nanos: u128 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let unit_end = rest[digits..]
            .find(|c: char| c.is_ascii_digit())
            .map_or(rest.len(), |end| digits + end);
        let unit: u64 = match &rest[digits..unit_end] {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            "d" => 86_400_000_000_000,
            "w" => 604_800_000_000_000,
            _ => return None,
        };
        nanos = nanos.checked_add(scaled(&rest[..digits], unit)?.into())?;
        rest = &rest[unit_end..];
    }
    let seconds = u64::try_from(nanos / 1_000_000_000).ok()?;
    let below = u32::try_from(nanos % 1_000_000_000).ok()?;
    (!text.is_empty() && seconds <= MAX_SECONDS).then(|| Duration::new(seconds, below))
}

/// `512`, `64k`, `64m`, `1gb`, `1.5GiB`; powers of 1024, as Docker has it.
pub(crate) fn bytes(text: &str) -> Option<i64> {
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(lower.len());
    let unit: u64 = match lower[digits..].trim() {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        "t" | "tb" | "tib" => 1 << 40,
        _ => return None,
    };
    i64::try_from(scaled(&lower[..digits], unit)?).ok()
}

/// `0.5` CPUs in billionths of one.
pub(crate) fn cpus(text: &str) -> Option<i64> {
    i64::try_from(scaled(text.trim(), 1_000_000_000)?).ok()
}

/// A decimal number (0.25, 1e-1 is none) in millionths.
pub(crate) fn millionths(text: &str) -> Option<u64> {
    scaled(text.trim(), 1_000_000)
}

/// What Compose takes for true and false.
pub(crate) fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "y" | "1" => Some(true),
        "false" | "no" | "off" | "n" | "0" => Some(false),
        _ => None,
    }
}

/// `1m30s`, canonical.
pub(crate) fn in_words(duration: Duration) -> String {
    let (mut seconds, millis, below) = (
        duration.as_secs(),
        duration.subsec_millis(),
        duration.subsec_nanos() % 1_000_000,
    );
    let mut text = String::new();
    for (unit, letter) in [(3600, 'h'), (60, 'm'), (1, 's')] {
        if seconds >= unit {
            text.push_str(&format!("{}{letter}", seconds / unit));
            seconds %= unit;
        }
    }
    if millis > 0 {
        text.push_str(&format!("{millis}ms"));
    }
    if below > 0 {
        text.push_str(&format!("{below}ns"));
    }
    if text.is_empty() {
        "0s".to_owned()
    } else {
        text
    }
}

/// `number` × `unit`, exact up to what one unit can hold.
fn scaled(number: &str, unit: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.chars().all(|c| c.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty())
        || !digits(whole)
        || !digits(fraction)
        || fraction.len() > 9
    {
        return None;
    }
    let whole: u64 = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    let parts: u128 = if fraction.is_empty() {
        0
    } else {
        fraction.parse().ok()?
    };
    let below = parts * u128::from(unit) / 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    whole
        .checked_mul(unit)?
        .checked_add(u64::try_from(below).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_numbers_with_units() {
        for (text, millis) in [
            ("1m30s", 90_000),
            ("500ms", 500),
            ("1.5s", 1_500),
            ("2h", 7_200_000),
            ("0", 0),
            ("1d", 86_400_000),
        ] {
            assert_eq!(
                duration(text),
                Some(Duration::from_millis(millis)),
                "{text}"
            );
        }
        assert_eq!(duration("2us"), Some(Duration::from_micros(2)));
        for bad in [
            "",
            "10",
            "s",
            "1x",
            "-1s",
            "1m30",
            "1 s",
            "1..5s",
            "99999999999999999999h",
            "ä",
        ] {
            assert_eq!(duration(bad), None, "{bad}");
        }
        for text in ["1h2m3s4ms", "1m30s", "0s", "250ms", "2000ns"] {
            assert_eq!(duration(text).map(in_words), Some(text.to_owned()));
        }
    }

    #[test]
    fn sizes_are_powers_of_1024() {
        for (text, expected) in [
            ("512", 512),
            ("64m", 64 << 20),
            ("1gb", 1 << 30),
            ("1.5k", 1536),
            ("2GiB", 2 << 30),
            ("10 mb", 10 << 20),
        ] {
            assert_eq!(bytes(text), Some(expected), "{text}");
        }
        for bad in ["", "m", "1x", "-1", "1.2.3m", "99999999999t"] {
            assert_eq!(bytes(bad), None, "{bad}");
        }
    }

    #[test]
    fn cpus_are_exact() {
        assert_eq!(cpus("0.5"), Some(500_000_000));
        assert_eq!(cpus("2"), Some(2_000_000_000));
        assert_eq!(cpus(".25"), Some(250_000_000));
        assert_eq!(cpus("."), None);
        assert_eq!(cpus("-1"), None);
    }
}
