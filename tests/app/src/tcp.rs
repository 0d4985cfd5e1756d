//! Raw TCP: says its version and replica in a first line, then gives back whatever comes.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::Duration;

use crate::behaviour::Behaviour;
use crate::connections::Place;

pub(crate) fn serve(mut stream: &TcpStream, place: &Place, behaviour: &Behaviour) {
    while behaviour.hangs() {
        thread::sleep(Duration::from_millis(50));
    }
    if writeln!(
        stream,
        "version {} replica {}",
        behaviour.version, behaviour.replica
    )
    .is_err()
    {
        return;
    }
    // A connection is never "idle" here: it lasts until its client ends it or the grace after SIGTERM is over.
    let _ = stream.set_read_timeout(Some(Duration::from_millis(100)));
    let mut buffer = [0; 16 * 1024];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(length) => {
                if stream.write_all(&buffer[..length]).is_err() {
                    return;
                }
            }
            Err(late) if matches!(late.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                // Quiet and stopping: a clean end after all that was sent has been given back.
                if place.stopping() {
                    let _ = stream.shutdown(Shutdown::Write);
                    return;
                }
            }
            Err(_) => return,
        }
    }
}
