//! Values that are typed: times and labels.

use std::str::FromStr;
use std::time::Duration;

/// A length of time: `500ms`, `90s`, `5m`, `1h30m`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no length of time: write it like 90s, 5m or 1h30m");
    let signed: jiff::SignedDuration = text.parse().map_err(|_| wrong())?;
    Duration::try_from(signed)
        .ok()
        .filter(|length| !length.is_zero())
        .ok_or_else(wrong)
}

/// Since when: so long ago, or a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// So long before now.
    Ago(Duration),
    /// From this moment.
    At(jiff::Timestamp),
}

impl FromStr for Since {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(moment) = text.parse::<jiff::Timestamp>() {
            return Ok(Self::At(moment));
        }
        duration(text).map(Self::Ago).map_err(|_| {
            format!("{text:?} is no time: write it like 10m (ago) or 2025-06-01T12:00:00Z")
        })
    }
}

/// `KEY=VALUE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// Left of the `=`.
    pub key: String,
    /// Right of it.
    pub value: String,
}

impl FromStr for Label {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((key, value)) if good_key(key) => Ok(Self {
                key: key.to_owned(),
                value: value.to_owned(),
            }),
            Some(_) | None => Err(format!("{text:?} is no label: write KEY=VALUE")),
        }
    }
}

/// `KEY=VALUE` sets a label, `KEY-` takes it away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LabelChange {
    /// It shall be there, with this value.
    Set(Label),
    /// It shall not be there.
    Remove(String),
}

impl FromStr for LabelChange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(label) = text.parse() {
            return Ok(Self::Set(label));
        }
        match text.strip_suffix('-') {
            Some(key) if good_key(key) => Ok(Self::Remove(key.to_owned())),
            Some(_) | None => Err(format!(
                "{text:?} is no label: write KEY=VALUE to set one, KEY- to take it away"
            )),
        }
    }
}

fn good_key(key: &str) -> bool {
    !key.is_empty() && !key.contains(char::is_whitespace) && !key.contains('=')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_of_time_has_a_unit_and_is_not_nothing() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        for bad in ["", "90", "-5s", "0s", "soon", "5 parsecs"] {
            assert!(duration(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn since_is_ago_or_a_moment() {
        assert_eq!("10m".parse(), Ok(Since::Ago(Duration::from_secs(600))));
        let moment = "2025-06-01T12:00:00Z".parse().expect("a moment");
        assert_eq!("2025-06-01T12:00:00Z".parse(), Ok(Since::At(moment)));
        assert!("yesterday".parse::<Since>().is_err());
    }

    #[test]
    fn a_label_is_set_or_taken_away() {
        let set = LabelChange::Set(Label {
            key: "zone".into(),
            value: "a=b".into(),
        });
        assert_eq!("zone=a=b".parse(), Ok(set));
        assert_eq!("zone-".parse(), Ok(LabelChange::Remove("zone".into())));
        for bad in ["zone", "=a", "-", "a b-"] {
            assert!(bad.parse::<LabelChange>().is_err(), "{bad:?}");
        }
    }
}
