//! One HTTP/1.1 exchange on one socket, with every way to fail told apart.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::tally::FailureKind;

const LONGEST_LINE: u64 = 16 * 1024;
const MOST_HEADERS: usize = 100;
/// Of an answer's body; what the tests ask for is far smaller.
const LARGEST_BODY: u64 = 64 << 20;

/// Why a request failed.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) how: FailureKind,
    pub(super) text: String,
}

impl Problem {
    pub(super) fn new(how: FailureKind, text: impl Into<String>) -> Self {
        Self {
            how,
            text: text.into(),
        }
    }
}

#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) version: String,
    pub(super) body: Vec<u8>,
    /// Whether the server keeps the connection.
    pub(super) keeps: bool,
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) stream: BufReader<TcpStream>,
    used: u32,
    /// Writing failed; the server may still have answered before it closed.
    broken: Option<io::Error>,
}

impl Connection {
    pub(super) async fn open(address: SocketAddr) -> Result<Self, Problem> {
        let stream = TcpStream::connect(address)
            .await
            .map_err(|problem| Problem::new(FailureKind::NotConnected, problem.to_string()))?;
        // Without it, small writes would wait for the peer's acknowledgement.
        let _ = stream.set_nodelay(true);
        Ok(Self {
            stream: BufReader::new(stream),
            used: 0,
            broken: None,
        })
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) {
        if self.broken.is_none() {
            self.broken = self.stream.get_mut().write_all(bytes).await.err();
        }
    }

    pub(super) fn is_broken(&self) -> bool {
        self.broken.is_some()
    }

    /// The whole answer to what was written.
    pub(super) async fn answer(&mut self) -> Result<Answer, Problem> {
        self.used += 1;
        match self.stream.fill_buf().await {
            Ok(bytes) if !bytes.is_empty() => {}
            Ok(_) => return Err(self.none("closed")),
            Err(problem) => return Err(self.none(&problem.to_string())),
        }
        loop {
            let answer = self.one_answer().await?;
            // 100 Continue and its like come before the answer; 101 is one.
            if answer.status >= 200 || answer.status == 101 {
                return if (200..300).contains(&answer.status) || answer.status == 101 {
                    Ok(answer)
                } else {
                    let text = String::from_utf8_lossy(&answer.body)
                        .lines()
                        .next()
                        .unwrap_or_default()
                        .to_owned();
                    Err(Problem::new(
                        FailureKind::Status(answer.status),
                        format!("version {}: {text}", answer.version),
                    ))
                };
            }
        }
    }

    fn none(&self, text: &str) -> Problem {
        let written = self
            .broken
            .as_ref()
            .map_or_else(String::new, |problem| format!("; writing: {problem}"));
        Problem::new(
            FailureKind::ClosedBeforeAnswer,
            format!("request {} on this connection: {text}{written}", self.used),
        )
    }

    async fn one_answer(&mut self) -> Result<Answer, Problem> {
        let first = self.line().await?;
        let status = first
            .strip_prefix("HTTP/1.1 ")
            .and_then(|rest| rest.get(..3)?.parse().ok())
            .ok_or_else(|| malformed(format!("no status line: {first:?}")))?;
        let mut answer = Answer {
            status,
            version: "?".to_owned(),
            body: Vec::new(),
            keeps: true,
        };
        let (mut length, mut chunked) = (None, false);
        for _ in 0..MOST_HEADERS {
            let line = self.line().await?;
            if line.is_empty() {
                return self.body(answer, length, chunked).await;
            }
            let (name, value) = line
                .split_once(':')
                .ok_or_else(|| malformed(format!("no header: {line:?}")))?;
            let value = value.trim();
            match name.to_ascii_lowercase().as_str() {
                "x-version" => value.clone_into(&mut answer.version),
                "connection" => answer.keeps = !value.eq_ignore_ascii_case("close"),
                "content-length" => {
                    length = Some(
                        value
                            .parse()
                            .map_err(|_| malformed(format!("length {value:?}")))?,
                    )
                }
                "transfer-encoding" => chunked = value.eq_ignore_ascii_case("chunked"),
                _ => {}
            }
        }
        Err(malformed("too many headers".to_owned()))
    }

    async fn body(
        &mut self,
        mut answer: Answer,
        length: Option<u64>,
        chunked: bool,
    ) -> Result<Answer, Problem> {
        if answer.status < 200 || answer.status == 204 || answer.status == 304 {
            return Ok(answer);
        }
        if !chunked {
            // A body that lasts until the connection ends could not be told from one that was cut.
            let length =
                length.ok_or_else(|| malformed("an answer without a length".to_owned()))?;
            self.take(length, &mut answer.body).await?;
            return Ok(answer);
        }
        loop {
            let line = self.line().await?;
            let size = u64::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16)
                .map_err(|_| malformed(format!("chunk size {line:?}")))?;
            if size == 0 {
                while !self.line().await?.is_empty() {}
                return Ok(answer);
            }
            self.take(size, &mut answer.body).await?;
            if !self.line().await?.is_empty() {
                return Err(malformed("a chunk longer than it says".to_owned()));
            }
        }
    }

    async fn take(&mut self, length: u64, body: &mut Vec<u8>) -> Result<(), Problem> {
        if body.len() as u64 + length > LARGEST_BODY {
            return Err(malformed(format!(
                "a body of more than {LARGEST_BODY} bytes"
            )));
        }
        let got = (&mut self.stream)
            .take(length)
            .read_to_end(body)
            .await
            .map_err(|problem| cut(&problem.to_string()))?;
        if got as u64 == length {
            Ok(())
        } else {
            Err(cut(&format!("{got} of {length} bytes")))
        }
    }

    pub(super) async fn line(&mut self) -> Result<String, Problem> {
        let mut line = Vec::new();
        (&mut self.stream)
            .take(LONGEST_LINE)
            .read_until(b'\n', &mut line)
            .await
            .map_err(|problem| cut(&problem.to_string()))?;
        if line.pop() != Some(b'\n') {
            return Err(cut("in the middle of a line"));
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        String::from_utf8(line).map_err(|_| malformed("a line that is no text".to_owned()))
    }
}

pub(super) fn cut(text: &str) -> Problem {
    Problem::new(FailureKind::ClosedInAnswer, text)
}

fn malformed(text: String) -> Problem {
    Problem::new(FailureKind::Malformed, text)
}
