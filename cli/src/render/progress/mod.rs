//! How rollouts go on, from one stream of views: a redrawn picture on a
//! terminal, a line for each change elsewhere, or each changed view as JSON.

mod host;
mod live;
mod plain;
mod recorded;

use cutover_proto::v1::RolloutView;
use jiff::Timestamp;

use self::live::{Frame, Screen};
use self::plain::Plain;
use super::Output;
use super::json;

/// Shows how rollouts go on.
pub(crate) struct Progress<'a> {
    output: &'a Output,
    face: Face,
}

#[allow(clippy::large_enum_variant, reason = "there is one in a program")]
enum Face {
    Live(Box<(Frame, Screen)>),
    Plain(Plain),
    /// The rollout as it was last printed.
    Json(Vec<RolloutView>),
}

impl<'a> Progress<'a> {
    pub(super) fn new(output: &'a Output, moving: bool, color: bool) -> Self {
        let face = if moving {
            let screen = Screen::new(output.is_json());
            Face::Live(Box::new((Frame::new(color), screen)))
        } else {
            Face::Plain(Plain::new(output.zone().clone()))
        };
        Self { output, face }
    }

    /// Each changed view as a line of JSON on standard output, and nothing else.
    pub(crate) fn stream(output: &'a Output) -> Self {
        let face = Face::Json(Vec::new());
        Self { output, face }
    }

    /// A rollout stands so now.
    pub(crate) fn update(&mut self, view: &RolloutView, now: Timestamp) {
        match &mut self.face {
            Face::Live(live) => {
                let (frame, screen) = live.as_mut();
                frame.update(view, now);
                screen.draw(&frame.lines(now));
            }
            Face::Plain(plain) => {
                for line in plain.lines(view, now) {
                    self.output.result(&line);
                }
            }
            Face::Json(seen) => {
                if !seen.contains(view) {
                    seen.retain(|old| old.id != view.id);
                    seen.push(view.clone());
                    self.output.value(&json::rollout::rollout(view));
                }
            }
        }
    }

    /// Time went on.
    pub(crate) fn tick(&mut self, now: Timestamp) {
        if let Face::Live(live) = &mut self.face {
            let (frame, screen) = live.as_mut();
            screen.draw(&frame.lines(now));
        }
    }

    /// Something that is no change of a rollout: the connection, an interrupt.
    pub(crate) fn note(&mut self, words: &str, now: Timestamp) {
        match &mut self.face {
            Face::Live(live) => {
                let (frame, screen) = live.as_mut();
                frame.note(words);
                screen.draw(&frame.lines(now));
            }
            Face::Plain(plain) => self.output.say(&plain.stamped(words, now)),
            Face::Json(_) => self.output.say(words),
        }
    }

    /// Nothing moves any more: the picture goes, words follow.
    pub(crate) fn end(self) {
        if let Face::Live(live) = self.face {
            live.1.close();
        }
    }
}
