//! What each path answers.

use std::io::{self, BufRead, BufReader, ErrorKind};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use crate::behaviour::Behaviour;
use crate::connections::Place;
use crate::http::{self, Answer, Reader, Request};
use crate::websocket;

/// One connection, from its first request to its last.
pub(crate) fn serve(stream: &TcpStream, place: &Place, behaviour: &Behaviour) {
    let mut reader = BufReader::with_capacity(16 * 1024, stream);
    loop {
        if reader.buffer().is_empty() {
            let go_on = place.wait_idle();
            let _ = stream.set_read_timeout(behaviour.idle_close);
            // Stopping: what has arrived is still answered; what has not is told so by the closed connection.
            if !go_on {
                let _ = stream.set_read_timeout(Some(Duration::from_millis(1)));
            }
            match reader.fill_buf() {
                Ok(bytes) if !bytes.is_empty() => {}
                Ok(_) | Err(_) => return,
            }
        }
        place.busy();
        let _ = stream.set_read_timeout(None);
        let request = match http::read_request(&mut reader) {
            Ok(Some(request)) => request,
            Ok(None) => return,
            Err(problem) => return complain(&problem),
        };
        while behaviour.hangs() {
            thread::sleep(Duration::from_millis(50));
        }
        match answer(&request, &mut reader, stream, place, behaviour) {
            Ok(true) => {}
            Ok(false) => return,
            Err(problem) => return complain(&problem),
        }
    }
}

/// Whether the connection may carry another request.
fn answer(
    request: &Request,
    reader: &mut Reader<'_>,
    stream: &TcpStream,
    place: &Place,
    behaviour: &Behaviour,
) -> io::Result<bool> {
    if request.path == "/ws" {
        websocket::serve(request, reader, stream, place, behaviour)?;
        return Ok(false);
    }
    let mut sum = Checksum::default();
    request.read_body(reader, |piece| sum.add(piece))?;

    let late = match request.path.as_str() {
        "/" => behaviour.latency,
        "/slow" => Duration::from_millis(request.parameter("ms").unwrap_or(1000)),
        _ => Duration::ZERO,
    };
    if !late.is_zero() {
        thread::sleep(late);
    }

    let (status, body) = match request.path.as_str() {
        "/" if behaviour.fails_this_one() => (500, "failing, as told\n".to_owned()),
        "/" => (
            200,
            format!(
                "version {} replica {}\n",
                behaviour.version, behaviour.replica
            ),
        ),
        "/healthz" if behaviour.is_ready() => (200, "ready\n".to_owned()),
        "/healthz" => (503, "not ready\n".to_owned()),
        "/smoke" | "/api/v1/health" => (behaviour.smoke_status, "smoke\n".to_owned()),
        "/login" => (200, "<h1>Sign in</h1>\n".to_owned()),
        "/slow" => (200, format!("waited {late:?}\n")),
        "/upload" => (200, format!("{} {:016x}\n", sum.bytes, sum.hash)),
        "/headers" => (
            200,
            request
                .headers
                .iter()
                .map(|(name, value)| format!("{name}: {value}\n"))
                .collect(),
        ),
        "/pid" => (200, format!("{}\n", std::process::id())),
        "/stream" => (200, String::new()),
        other => match other
            .strip_prefix("/status/")
            .and_then(|status| status.parse().ok())
        {
            Some(status @ 200..=599) => (status, format!("status {status}\n")),
            Some(_) | None => (404, format!("no {other} here\n")),
        },
    };

    // Asked after the work is done: a stop that came meanwhile ends the connection with this answer.
    let close = !request.keeps_alive() || place.stopping();
    let answer = Answer::new(
        stream,
        request,
        status,
        &behaviour.version,
        &behaviour.replica,
        close,
    );
    if request.path == "/stream" {
        let between = Duration::from_millis(request.parameter("ms").unwrap_or(10));
        let mut left = request.parameter("chunks").unwrap_or(10);
        answer.stream(|| {
            left = left.checked_sub(1)?;
            thread::sleep(between);
            Some(format!("version {} {left} left\n", behaviour.version))
        })?;
    } else {
        answer.send(&body)?;
    }
    Ok(!close)
}

/// FNV-1a, 64 bits: short enough to be written again in whatever checks it.
#[derive(Debug)]
struct Checksum {
    bytes: u64,
    hash: u64,
}

impl Default for Checksum {
    fn default() -> Self {
        Self {
            bytes: 0,
            hash: 0xcbf2_9ce4_8422_2325,
        }
    }
}

impl Checksum {
    fn add(&mut self, piece: &[u8]) {
        self.bytes += piece.len() as u64;
        for byte in piece {
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

/// A peer that goes away is everyday life and not worth a line.
fn complain(problem: &io::Error) {
    if problem.kind() == ErrorKind::InvalidData {
        println!("a connection ended: {problem}");
    }
}
