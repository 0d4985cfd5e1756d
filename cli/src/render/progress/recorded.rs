//! Sequences of views as a coordinator sends them, and what each face makes of them.
#![cfg(test)]

use cutover_proto::v1::{HostProgress, Outcome, RolloutView, TrafficReport};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::live::Frame;
use super::plain::Plain;
use crate::render::sentence;

const BEGUN: i64 = 1_700_000_000_000;

/// A view, and how many seconds after the beginning it came.
type Recording = Vec<(i64, RolloutView)>;

fn host(name: &str, wave: u32, fate: &str, phase: &str, current: u64) -> HostProgress {
    HostProgress {
        host: name.to_owned(),
        wave,
        fate: fate.to_owned(),
        phase: phase.to_owned(),
        current,
        ..HostProgress::default()
    }
}

fn waiting(mut host: HostProgress, what: &str, most: u64) -> HostProgress {
    host.waits_for = what.to_owned();
    host.waits_at_most_millis = most * 1000;
    host
}

fn counted(mut host: HostProgress, requests: u64, lost: u64) -> HostProgress {
    host.traffic = Some(TrafficReport {
        requests,
        lost,
        ..TrafficReport::default()
    });
    host
}

fn view(strategy: &str, waves: u32) -> RolloutView {
    RolloutView {
        id: "r-17".to_owned(),
        service: "shop/web".to_owned(),
        from_revision: 1,
        to_revision: 2,
        strategy: strategy.to_owned(),
        begun_unix_millis: BEGUN,
        stage: "forward".to_owned(),
        wave: 1,
        waves,
        ..RolloutView::default()
    }
}

fn with(base: &RolloutView, hosts: &[HostProgress]) -> RolloutView {
    RolloutView {
        hosts: hosts.to_vec(),
        ..base.clone()
    }
}

fn closed(mut view: RolloutView, after: i64, outcome: Outcome) -> RolloutView {
    view.stage = "closed".to_owned();
    view.outcome = outcome.into();
    view.ended_unix_millis = BEGUN + after;
    view
}

fn rolling_good() -> Recording {
    let mut v = view("rolling", 2);
    let untouched = |name, wave| host(name, wave, "untouched", "", 1);
    let done = |name, wave, n| counted(host(name, wave, "committed", "", 2), n, 0);
    let fetching = host("h1", 1, "open", "fetching", 1);
    let proving = waiting(host("h1", 1, "open", "proving", 1), "2 healthy answers", 60);
    let serving = counted(host("h1", 1, "open", "serving", 1), 4_000, 0);
    let proving2 = waiting(host("h2", 2, "open", "proving", 1), "2 healthy answers", 60);
    let mut all = vec![
        (0, with(&v, &[untouched("h1", 1), untouched("h2", 2)])),
        (1, with(&v, &[fetching, untouched("h2", 2)])),
        (3, with(&v, &[proving.clone(), untouched("h2", 2)])),
        (
            4,
            with(
                &v,
                &[
                    waiting(proving, "2 healthy answers", 59),
                    untouched("h2", 2),
                ],
            ),
        ),
        (5, with(&v, &[serving, untouched("h2", 2)])),
    ];
    v.wave = 2;
    all.push((20, with(&v, &[done("h1", 1, 6_000), untouched("h2", 2)])));
    all.push((22, with(&v, &[done("h1", 1, 6_000), proving2])));
    let end = with(&v, &[done("h1", 1, 6_000), done("h2", 2, 6_044)]);
    all.push((41, closed(end, 41_000, Outcome::Committed)));
    all
}

fn reflex_and_rollback() -> Recording {
    let mut v = view("rolling", 1);
    let why = "replica 1 of @2 exited with code 1";
    let log = "connecting\npanic: no database\n";
    let mut sick = host("h2", 1, "open", "returning", 1);
    sick.why = why.to_owned();
    sick.last_log = log.to_owned();
    let mut back = host("h2", 1, "back", "", 1);
    back.why = why.to_owned();
    back.last_log = log.to_owned();
    let serving = |name| host(name, 1, "open", "serving", 1);
    let mut all = vec![
        (2, with(&v, &[serving("h1"), serving("h2")])),
        (3, with(&v, &[serving("h1"), sick.clone()])),
    ];
    v.stage = "back".to_owned();
    v.why = format!("h2: {why}");
    all.push((3, with(&v, &[serving("h1"), sick])));
    let end = with(&v, &[host("h1", 1, "back", "", 1), back]);
    all.push((4, closed(end, 4_200, Outcome::RolledBack)));
    all
}

fn blue_green() -> Recording {
    let v = view("blue-green", 1);
    let both = |phase| {
        [
            host("h1", 1, "open", phase, 1),
            host("h2", 1, "open", phase, 1),
        ]
    };
    let mut slow = both("prepared");
    slow[1] = waiting(host("h2", 1, "open", "proving", 1), "a healthy answer", 30);
    vec![
        (1, with(&v, &both("fetching"))),
        (5, with(&v, &slow)),
        (9, with(&v, &both("prepared"))),
        (10, with(&v, &both("serving"))),
        (
            45,
            closed(
                with(
                    &v,
                    &["h1", "h2"].map(|name| host(name, 1, "committed", "", 2)),
                ),
                45_000,
                Outcome::Committed,
            ),
        ),
    ]
}

fn mixed() -> Recording {
    let mut v = view("rolling", 1);
    v.skipped = vec!["h4".to_owned()];
    let mut stuck = host("h2", 1, "stuck", "", 1);
    stuck.trouble = "starting @1: no space left on device".to_owned();
    let mut owing = host("h3", 1, "open", "serving", 1);
    owing.away = true;
    owing.owing = true;
    v.why = "h2: it did not prove within 60 s".to_owned();
    let end = with(&v, &[host("h1", 1, "committed", "", 2), stuck, owing]);
    vec![(90, closed(end, 90_000, Outcome::Mixed))]
}

fn held() -> Recording {
    let mut v = view("rolling", 2);
    v.wave = 2;
    v.mixed = true;
    v.stage = "holding".to_owned();
    v.why = "h2: @1 is not healthy either".to_owned();
    let hosts = [
        host("h1", 1, "committed", "", 2),
        host("h2", 2, "open", "serving", 1),
    ];
    vec![(12, with(&v, &hosts))]
}

fn queued_and_never_begun() -> Recording {
    let mut v = view("", 0);
    v.wave = 0;
    v.stage = "queued".to_owned();
    let mut end = closed(v.clone(), 3_000, Outcome::Aborted);
    end.why = "shop/db, which it depends on, was rolled back".to_owned();
    vec![(0, v), (3, end)]
}

fn removed() -> Recording {
    let mut v = view("rolling", 1);
    v.to_revision = 0;
    let gone = counted(host("h1", 1, "committed", "", 0), 0, 0);
    vec![(8, closed(with(&v, &[gone]), 8_000, Outcome::Committed))]
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millisecond(BEGUN + seconds * 1000).expect("a moment")
}

/// The plain lines of all, each view sent twice as after a lost connection, and the sentence at the end.
fn plain(recording: &Recording) -> String {
    let mut plain = Plain::new(TimeZone::UTC);
    let mut text = String::new();
    for (seconds, view) in recording {
        for line in plain.lines(view, at(*seconds)) {
            text.push_str(&line);
            text.push('\n');
        }
        assert_eq!(
            plain.lines(view, at(*seconds)),
            Vec::<String>::new(),
            "said again"
        );
    }
    end(recording, text)
}

/// Every picture, and the sentence at the end.
fn pictures(recording: &Recording) -> String {
    let mut frame = Frame::new(false);
    let mut text = String::new();
    for (seconds, view) in recording {
        frame.update(view, at(*seconds));
        text.push_str(&frame.lines(at(seconds + 1)).join("\n"));
        text.push_str("\n--\n");
    }
    end(recording, text)
}

fn end(recording: &Recording, text: String) -> String {
    let (seconds, last) = recording.last().expect("not empty");
    let sentence = sentence::of_rollout(last, at(*seconds));
    format!("{text}= {sentence}\n= {}", sentence::next(last))
}

#[test]
fn each_change_is_a_line_once() {
    insta::assert_snapshot!("plain_rolling_good", plain(&rolling_good()));
    insta::assert_snapshot!("plain_reflex_and_rollback", plain(&reflex_and_rollback()));
    insta::assert_snapshot!("plain_blue_green", plain(&blue_green()));
    insta::assert_snapshot!("plain_mixed", plain(&mixed()));
    insta::assert_snapshot!("plain_held", plain(&held()));
    let queued = queued_and_never_begun();
    insta::assert_snapshot!("plain_queued_and_never_begun", plain(&queued));
    insta::assert_snapshot!("plain_removed", plain(&removed()));
}

#[test]
fn the_picture_has_a_line_for_each_host_that_is_under_way() {
    insta::assert_snapshot!("live_rolling_good", pictures(&rolling_good()));
    insta::assert_snapshot!("live_reflex_and_rollback", pictures(&reflex_and_rollback()));
    insta::assert_snapshot!("live_held", pictures(&held()));
}

#[test]
fn a_thousand_hosts_fit_the_terminal() {
    let hosts: Vec<HostProgress> = (0..1000)
        .map(|n| host(&format!("h{n}"), 1, "open", "proving", 1))
        .collect();
    let mut frame = Frame::new(false);
    frame.update(&with(&view("blue-green", 1), &hosts), at(1));
    let lines = frame.lines(at(2));
    assert_eq!(lines.len(), 17, "{lines:?}");
    assert!(lines[16].ends_with("and 973 more"), "{}", lines[16]);
}

#[test]
fn the_names_in_json_stay() {
    let (_, view) = rolling_good().remove(3);
    let value = serde_json::to_string_pretty(&crate::render::json::rollout::rollout(&view));
    insta::assert_snapshot!("json_rollout", value.expect("it is JSON"));
}
