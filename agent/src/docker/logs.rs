//! What containers wrote to stdout and stderr.

use std::collections::VecDeque;

use bollard::container::LogOutput;
use bollard::query_parameters::LogsOptionsBuilder;
use futures::{Stream, StreamExt};

use super::{Class, Docker, Error};

/// Which lines are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogQuery {
    /// New ones too, until the container ends or the stream is dropped.
    pub follow: bool,
    /// The last so many; `None`: all.
    pub tail: Option<u32>,
    /// None older than this, in seconds since 1970.
    pub since: Option<u32>,
}

/// One line of a container's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// When, in the engine's writing (RFC 3339 in UTC; sorts as text within a second's digits).
    pub at: String,
    /// Where it was written to.
    pub output: Output,
    /// Without line end; what is no UTF-8 is replaced.
    pub text: String,
}

/// Where a container wrote a line to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// stdout.
    Out,
    /// stderr.
    Err,
}

impl Docker {
    /// The log of a container of this host. Lines of one output keep their order; between the two the engine does not.
    ///
    /// # Errors
    /// [`Class::NotFound`]; in the stream: its log driver can't be read, or the engine went away.
    pub async fn logs(
        &self,
        name: &str,
        query: &LogQuery,
    ) -> Result<impl Stream<Item = Result<LogLine, Error>> + Send + use<>, Error> {
        let doing = format!("reading the log of container {name}");
        let Some(found) = self.owned(&doing, name).await? else {
            return Err(Error::refused(
                doing,
                Class::NotFound,
                "there is none of that name",
            ));
        };
        let tail = query
            .tail
            .map_or_else(|| "all".to_owned(), |lines| lines.to_string());
        let since = query
            .since
            .and_then(|since| i32::try_from(since).ok())
            .unwrap_or(0);
        let options = LogsOptionsBuilder::default()
            .stdout(true)
            .stderr(true)
            .timestamps(true);
        let options = options
            .follow(query.follow)
            .since(since)
            .tail(&tail)
            .build();
        let lines = self
            .client(&doing)?
            .logs(found.id.as_deref().unwrap_or_default(), Some(options));
        Ok(lines.map(move |frame| {
            frame
                .map(line)
                .map_err(|error| Error::engine(doing.clone(), error))
        }))
    }

    /// The last lines of a container's log, both outputs by time, at most `bytes` of them.
    ///
    /// # Errors
    /// As [`Self::logs`].
    pub async fn logs_tail(&self, name: &str, lines: u32, bytes: usize) -> Result<String, Error> {
        let query = LogQuery {
            tail: Some(lines),
            ..LogQuery::default()
        };
        let mut stream = Box::pin(self.logs(name, &query).await?);
        let mut kept = VecDeque::new();
        let collect = async {
            let mut size = 0;
            while let Some(line) = stream.next().await {
                let line = line?;
                size += line.text.len() + 1;
                kept.push_back(line);
                // Twice what is wanted, because the outputs may come one after the other.
                while size > bytes.saturating_mul(2) && kept.len() > 1 {
                    size -= kept
                        .pop_front()
                        .map_or(0, |line: LogLine| line.text.len() + 1);
                }
            }
            Ok::<(), Error>(())
        };
        let limit = self.limits().ask;
        match tokio::time::timeout(limit.length, collect).await {
            Ok(done) => done?,
            Err(_elapsed) => {
                return Err(Error::silent(
                    format!("reading the log of container {name}"),
                    limit.name,
                    limit.length,
                ));
            }
        }
        let mut kept = Vec::from(kept);
        kept.sort_by(|a, b| a.at.cmp(&b.at));
        let text: Vec<&str> = kept.iter().map(|line| line.text.as_str()).collect();
        Ok(last(&text.join("\n"), bytes).to_owned())
    }
}

fn line(frame: LogOutput) -> LogLine {
    let output = match &frame {
        LogOutput::StdErr { .. } => Output::Err,
        LogOutput::StdOut { .. } | LogOutput::StdIn { .. } | LogOutput::Console { .. } => {
            Output::Out
        }
    };
    let text = String::from_utf8_lossy(frame.as_ref());
    let text = text.trim_end_matches(['\n', '\r']);
    let (at, text) = text.split_once(' ').unwrap_or((text, ""));
    LogLine {
        at: at.to_owned(),
        output,
        text: text.to_owned(),
    }
}

/// The last `bytes` of `text`, not beginning within a character.
pub(super) fn last(text: &str, bytes: usize) -> &str {
    let mut from = text.len().saturating_sub(bytes);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    &text[from..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_split_from_its_time_and_bad_bytes_are_replaced() {
        let frame = LogOutput::StdErr {
            message: b"2026-11-22T10:14:00.123456789Z a\xff b\r\n"
                .to_vec()
                .into(),
        };
        let expected = LogLine {
            at: "2026-11-22T10:14:00.123456789Z".to_owned(),
            output: Output::Err,
            text: "a\u{fffd} b".to_owned(),
        };
        assert_eq!(line(frame), expected);
    }

    #[test]
    fn the_end_of_a_text_begins_with_a_whole_character() {
        assert_eq!(last("aäb", 2), "b");
        assert_eq!(last("aäb", 3), "äb");
        assert_eq!(last("ab", 9), "ab");
    }
}
