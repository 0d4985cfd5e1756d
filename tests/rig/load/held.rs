//! Connections that last: WebSockets and raw TCP, with an echo now and then.

use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, AsyncReadExt};

use super::pace::{Sender, head};
use super::tally::{FailureKind, Kind};
use super::wire::{Connection, Problem, cut};

const ECHO_EVERY: Duration = Duration::from_millis(100);
/// Between a connection's end and the next, so that a dead target is not hammered.
const AGAIN_AFTER: Duration = Duration::from_millis(100);

const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

pub(super) async fn websocket(sender: Sender) {
    repeat(sender, Kind::WebSocket, one_websocket).await;
}

pub(super) async fn tcp(sender: Sender) {
    repeat(sender, Kind::TcpHeld, one_tcp).await;
}

/// One connection after the other, each counted, until told to stop.
async fn repeat(
    sender: Sender,
    kind: Kind,
    one: impl AsyncFn(&Sender, &mut Option<String>) -> Result<(), Problem>,
) {
    while !sender.stop.is_cancelled() {
        sender.book.sent(kind);
        let (began, mut version) = (Instant::now(), None);
        let result = one(&sender, &mut version).await;
        sender.book.ended(
            kind,
            began,
            result.map(|()| version.unwrap_or_else(|| "?".to_owned())),
        );
        tokio::select! {
            () = sender.stop.cancelled() => {}
            () = tokio::time::sleep(AGAIN_AFTER) => {}
        }
    }
}

async fn one_websocket(sender: &Sender, version: &mut Option<String>) -> Result<(), Problem> {
    let within = sender.to.answer_within;
    let mut connection = in_time(within, Connection::open(sender.to.address)).await?;
    let upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    connection
        .write(head(&sender.to, "GET", "/ws", upgrade).as_bytes())
        .await;
    let answer = in_time(within, connection.answer()).await?;
    if answer.status != 101 {
        return Err(Problem::new(
            FailureKind::WrongContent,
            format!("{} instead of a WebSocket", answer.status),
        ));
    }
    sender.book.lock().saw(&answer.version);
    *version = Some(answer.version);
    let began = Instant::now();
    // The first frame is the service's greeting.
    in_time(within, frame(&mut connection)).await?;

    let mut nth = 0_u32;
    loop {
        tokio::select! {
            arrived = wait_for_bytes(&mut connection) => {
                arrived?;
                let (opcode, payload) = in_time(within, frame(&mut connection)).await?;
                match opcode {
                    CLOSE => return closed_by_peer(sender, &mut connection, &payload, began).await,
                    PING => write_frame(&mut connection, PONG, &payload).await?,
                    _ => {}
                }
            }
            () = sender.stop.cancelled() => {
                write_frame(&mut connection, CLOSE, &1000_u16.to_be_bytes()).await?;
                while in_time(within, frame(&mut connection)).await?.0 != CLOSE {}
                return Ok(());
            }
            () = tokio::time::sleep(ECHO_EVERY) => {
                nth += 1;
                let sent = format!("echo {nth}");
                write_frame(&mut connection, TEXT, sent.as_bytes()).await?;
                loop {
                    match in_time(within, frame(&mut connection)).await? {
                        (TEXT, echo) if echo == sent.as_bytes() => break,
                        // It was closing as we wrote; an echo that a close frame overtakes is not lost.
                        (CLOSE, payload) => return closed_by_peer(sender, &mut connection, &payload, began).await,
                        (PING, payload) => write_frame(&mut connection, PONG, &payload).await?,
                        (_, echo) => {
                            let text = format!("{:?} instead of {sent:?}", String::from_utf8_lossy(&echo));
                            return Err(Problem::new(FailureKind::WrongContent, text));
                        }
                    }
                }
                let mut tally = sender.book.lock();
                tally.echoes += 1;
                tally.alive();
            }
        }
    }
}

async fn closed_by_peer(
    sender: &Sender,
    connection: &mut Connection,
    payload: &[u8],
    began: Instant,
) -> Result<(), Problem> {
    let _ = write_frame(connection, CLOSE, payload).await;
    let lived = began.elapsed();
    if lived < sender.to.websockets_live {
        return Err(Problem::new(
            FailureKind::ClosedTooSoon,
            format!("closed with a close frame, but after {lived:?}"),
        ));
    }
    Ok(())
}

/// One frame of the server's. An end of the connection here is what a user sees as a broken WebSocket.
async fn frame(connection: &mut Connection) -> Result<(u8, Vec<u8>), Problem> {
    let read = async {
        let mut start = [0; 2];
        connection.stream.read_exact(&mut start).await?;
        let length = match start[1] & 0x7f {
            126 => usize::from(connection.stream.read_u16().await?),
            // The tests' echoes are short.
            127 => return Err(std::io::Error::other("a frame that is too long")),
            short => usize::from(short),
        };
        let mut payload = vec![0; length];
        connection.stream.read_exact(&mut payload).await?;
        Ok((start[0] & 0x0f, payload))
    };
    read.await.map_err(|problem| cut_off(&problem))
}

async fn write_frame(
    connection: &mut Connection,
    opcode: u8,
    payload: &[u8],
) -> Result<(), Problem> {
    // Masked with zeros: allowed, and readable in a capture. Ours are shorter than 126 bytes.
    let mut frame = vec![
        0x80 | opcode,
        0x80 | (payload.len() as u8 & 0x7f),
        0,
        0,
        0,
        0,
    ];
    frame.extend_from_slice(payload);
    connection.write(&frame).await;
    // Whether the write failed is told by what can be read: a close frame that came first makes it fair.
    Ok(())
}

async fn wait_for_bytes(connection: &mut Connection) -> Result<(), Problem> {
    match connection.stream.fill_buf().await {
        Ok(bytes) if !bytes.is_empty() => Ok(()),
        Ok(_) => Err(Problem::new(
            FailureKind::CutOff,
            "the connection ended without a close frame",
        )),
        Err(problem) => Err(cut_off(&problem)),
    }
}

fn cut_off(problem: &std::io::Error) -> Problem {
    Problem::new(FailureKind::CutOff, problem.to_string())
}

async fn one_tcp(sender: &Sender, version: &mut Option<String>) -> Result<(), Problem> {
    let within = sender.to.answer_within;
    let mut connection = in_time(within, Connection::open(sender.to.address)).await?;
    let greeted = in_time(within, greeting(&mut connection)).await?;
    sender.book.lock().saw(&greeted);
    *version = Some(greeted);
    loop {
        tokio::select! {
            arrived = connection.stream.fill_buf() => return match arrived {
                Ok([]) => Ok(()),
                Ok(bytes) => Err(Problem::new(FailureKind::WrongContent, format!("{} bytes came unasked", bytes.len()))),
                Err(problem) => Err(cut(&problem.to_string())),
            },
            () = sender.stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(ECHO_EVERY) => {
                in_time(within, echo(&mut connection, b"are you still there?\n")).await?;
                let mut tally = sender.book.lock();
                tally.echoes += 1;
                tally.alive();
            }
        }
    }
}

/// `version V replica R`, the first line of the service's TCP mode.
pub(super) async fn greeting(connection: &mut Connection) -> Result<String, Problem> {
    let line = connection
        .line()
        .await
        .map_err(|problem| Problem::new(FailureKind::ClosedBeforeAnswer, problem.text))?;
    line.split(' ')
        .nth(1)
        .map(str::to_owned)
        .ok_or_else(|| Problem::new(FailureKind::WrongContent, format!("greeted with {line:?}")))
}

pub(super) async fn echo(connection: &mut Connection, line: &[u8]) -> Result<(), Problem> {
    connection.write(line).await;
    let mut back = vec![0; line.len()];
    connection
        .stream
        .read_exact(&mut back)
        .await
        .map_err(|problem| cut(&problem.to_string()))?;
    if back == line {
        Ok(())
    } else {
        Err(Problem::new(
            FailureKind::WrongContent,
            "another echo than was sent",
        ))
    }
}

async fn in_time<T>(
    within: Duration,
    act: impl Future<Output = Result<T, Problem>>,
) -> Result<T, Problem> {
    tokio::time::timeout(within, act).await.unwrap_or_else(|_| {
        Err(Problem::new(
            FailureKind::TimedOut,
            format!("nothing within {within:?}"),
        ))
    })
}
