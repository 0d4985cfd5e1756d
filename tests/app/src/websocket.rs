//! A WebSocket that echoes, and says goodbye with a close frame (1001, going away) when the service stops.

use std::io::{self, BufRead, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::behaviour::Behaviour;
use crate::connections::Place;
use crate::http::{Answer, Reader, Request};
use crate::sha1::{base64, sha1};

const LARGEST_FRAME: u64 = 1 << 20;
/// How often a quiet connection looks whether the service is stopping.
const LOOK_EVERY: Duration = Duration::from_millis(100);

const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

pub(crate) fn serve(
    request: &Request,
    reader: &mut Reader<'_>,
    mut stream: &TcpStream,
    place: &Place,
    behaviour: &Behaviour,
) -> io::Result<()> {
    let Some(key) = request.header("sec-websocket-key") else {
        return Answer::new(
            stream,
            request,
            400,
            &behaviour.version,
            &behaviour.replica,
            true,
        )
        .send("not a WebSocket handshake\n");
    };
    let accept = base64(&sha1(
        format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11").as_bytes(),
    ));
    stream.write_all(
        format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\
             X-Version: {}\r\nX-Replica: {}\r\n\r\n",
            behaviour.version, behaviour.replica
        )
        .as_bytes(),
    )?;
    // The first frame tells a client behind a proxy which version it reached.
    send(
        stream,
        TEXT,
        format!("version {}", behaviour.version).as_bytes(),
    )?;
    let mut said_goodbye = false;
    loop {
        stream.set_read_timeout(Some(LOOK_EVERY))?;
        match reader.fill_buf() {
            Ok([]) => return Ok(()),
            Ok(_) => {}
            Err(late) if matches!(late.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if place.stopping() && !said_goodbye {
                    send(stream, CLOSE, &1001_u16.to_be_bytes())?;
                    said_goodbye = true;
                }
                continue;
            }
            Err(problem) => return Err(problem),
        }
        stream.set_read_timeout(None)?;
        let (opcode, payload) = receive(reader)?;
        match opcode {
            CLOSE if said_goodbye => return Ok(()),
            CLOSE => return send(stream, CLOSE, &payload),
            PING => send(stream, PONG, &payload)?,
            PONG => {}
            _ => send(stream, opcode, &payload)?,
        }
    }
}

fn receive(reader: &mut Reader<'_>) -> io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 2];
    reader.read_exact(&mut head)?;
    let length = match head[1] & 0x7f {
        126 => {
            let mut long = [0; 2];
            reader.read_exact(&mut long)?;
            u64::from(u16::from_be_bytes(long))
        }
        127 => {
            let mut long = [0; 8];
            reader.read_exact(&mut long)?;
            u64::from_be_bytes(long)
        }
        short => u64::from(short),
    };
    if length > LARGEST_FRAME || head[1] & 0x80 == 0 {
        return Err(io::Error::new(
            ErrorKind::InvalidData,
            "a frame that is too large or not masked",
        ));
    }
    let mut mask = [0; 4];
    reader.read_exact(&mut mask)?;
    let mut payload = vec![0; usize::try_from(length).unwrap_or(0)];
    reader.read_exact(&mut payload)?;
    for (place, byte) in payload.iter_mut().enumerate() {
        *byte ^= mask[place % 4];
    }
    Ok((head[0] & 0x0f, payload))
}

fn send(mut stream: &TcpStream, opcode: u8, payload: &[u8]) -> io::Result<()> {
    let mut frame = vec![0x80 | opcode];
    match payload.len() {
        short @ 0..=125 => frame.push(short as u8),
        long @ 126..=0xffff => {
            frame.push(126);
            frame.extend_from_slice(&(long as u16).to_be_bytes());
        }
        longer => {
            frame.push(127);
            frame.extend_from_slice(&(longer as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(payload);
    stream.write_all(&frame)
}
