//! What a host may say: cut to what makes sense, before anything believes it.
//!
//! Keeps true: one host, mistaken or taken over, can neither fill the store nor use up
//! the numbers of others. Does not know what the words are for.

use std::collections::HashMap;

use cutover_core::swap::Report;
use cutover_proto::v1;
use prost::Message;

/// One account of one service, with the end of a log.
const REPORT: usize = 1 << 20;
/// One sentence.
const SENTENCE: usize = 4 << 10;
/// Sentences in one account.
const SENTENCES: usize = 64;
/// The end of a candidate's log.
const LOG: usize = 64 << 10;
/// Facts of a host; more is a mistake, or worse.
const FACTS: usize = 64;
/// A fact's name, and its value; a program's version.
const FACT: usize = 1 << 10;
/// Services on one host.
pub(super) const SERVICES: usize = 1024;
/// How far a number may be above what is known: no coordinator loses more than that.
const LEAP: u64 = 1_000_000;

/// What a greeting says of the host.
pub(super) fn facts(said: HashMap<String, String>) -> impl Iterator<Item = (String, String)> {
    let cut = |(mut name, mut value): (String, String)| {
        clip(&mut name, FACT);
        clip(&mut value, FACT);
        (name, value)
    };
    said.into_iter().take(FACTS).map(cut)
}

/// Whether the facts of a host are more than it can have.
pub(super) fn too_many(facts: &HashMap<String, String>) -> bool {
    facts.len() > FACTS
}

/// A program's version, in its own words.
pub(super) fn version(said: &str) -> String {
    let mut version = said.to_owned();
    clip(&mut version, FACT);
    version
}

/// An account, if it can be one.
pub(super) fn report(bytes: &[u8]) -> Result<(v1::BerthReport, Report), String> {
    if bytes.len() > REPORT {
        return Err(format!("it has {} bytes", bytes.len()));
    }
    let mut wire = v1::BerthReport::decode(bytes).map_err(|error| error.to_string())?;
    clip(&mut wire.last_log, LOG);
    wire.warnings.truncate(SENTENCES);
    wire.warnings
        .iter_mut()
        .for_each(|warning| clip(warning, SENTENCE));
    if let Some(swap) = &mut wire.swap {
        let sentences = [&mut swap.why, &mut swap.trouble, &mut swap.waits_for];
        for sentence in sentences.into_iter().flatten() {
            clip(sentence, SENTENCE);
        }
    }
    let report = Report::try_from(wire.clone()).map_err(|error| error.to_string())?;
    Ok((wire, report))
}

/// Whether its numbers can have come from a coordinator of this fleet.
pub(super) fn numbers(wire: &v1::BerthReport, newest: u64, epoch: u64) -> Result<(), String> {
    let candidate = wire.swap.as_ref().map_or(0, |swap| swap.candidate);
    let held = wire.parked.iter().copied().chain([wire.current, candidate]);
    if let Some(number) = held.max().filter(|number| leaps(*number, newest)) {
        return Err(format!(
            "it holds @{number}, and the newest known is @{newest}"
        ));
    }
    let seen = wire.fence.map_or(0, |fence| fence.epoch);
    if leaps(seen, epoch) {
        return Err(format!(
            "it has seen epoch {seen}, and this is epoch {epoch}"
        ));
    }
    Ok(())
}

fn leaps(said: u64, known: u64) -> bool {
    said > known.saturating_add(LEAP)
}

/// Cuts a text to so many bytes, between two characters.
fn clip(text: &mut String, most: usize) {
    if text.len() > most {
        text.truncate(text.floor_char_boundary(most));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account() -> v1::BerthReport {
        v1::BerthReport {
            service: "shop/web".to_owned(),
            current: 7,
            fence: Some(v1::Generation::default()),
            route: Some(v1::Route::default()),
            ..v1::BerthReport::default()
        }
    }

    #[test]
    fn a_sentence_is_cut_between_two_characters_and_the_rest_is_believed() {
        let long = v1::BerthReport {
            warnings: vec!["ä".repeat(SENTENCE); SENTENCES + 5],
            last_log: "x".repeat(LOG + 1),
            ..account()
        };
        let (wire, report) = self::report(&long.encode_to_vec()).expect("it makes sense");
        assert_eq!(report.service.to_string(), "shop/web");
        assert_eq!((wire.warnings.len(), wire.last_log.len()), (SENTENCES, LOG));
        assert_eq!(wire.warnings[0].chars().count(), SENTENCE / 2);
    }

    #[test]
    fn what_is_too_long_to_be_an_account_is_none() {
        let huge = v1::BerthReport {
            last_log: "x".repeat(REPORT),
            ..account()
        };
        let why = report(&huge.encode_to_vec()).expect_err("too long");
        assert!(why.contains("bytes"), "{why}");
    }

    #[test]
    fn p4_a_number_far_beyond_all_known_ones_is_not_believed() {
        assert_eq!(numbers(&account(), 0, 1), Ok(()));
        let parked = v1::BerthReport {
            parked: vec![u64::MAX],
            ..account()
        };
        assert!(numbers(&parked, 7, 1).is_err());
        let fence = v1::Generation {
            epoch: u64::MAX,
            number: 1,
        };
        let ahead = v1::BerthReport {
            fence: Some(fence),
            ..account()
        };
        assert!(numbers(&ahead, 7, 1).is_err());
    }
}
