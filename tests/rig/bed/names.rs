//! Who answers machines that ask for names beyond the bed: nobody knows them, and it says so at once. Without an answer
//! each of Docker's questions would wait for twenty seconds.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// How soon it ends when it is dropped.
const LOOK: Duration = Duration::from_millis(200);
/// A question over UDP is no longer.
const LONGEST: usize = 512;

/// Answers until it is dropped.
#[derive(Debug)]
pub(super) struct Names(Arc<AtomicBool>);

impl Names {
    /// On this address.
    pub(super) fn answer(address: Ipv4Addr) -> Self {
        let socket =
            UdpSocket::bind((address, 53)).expect("the bed's own address has its ports free");
        socket
            .set_read_timeout(Some(LOOK))
            .expect("a timeout can be set");
        let over = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&over);
        thread::spawn(move || {
            let mut message = [0_u8; LONGEST];
            while !ends.load(Ordering::Relaxed) {
                let Ok((length, asker)) = socket.recv_from(&mut message) else {
                    continue;
                };
                // The question again, marked as an answer: there is no such name (RFC 1035, 4.1.1).
                if let Some([_, _, flags, code, ..]) = message.get_mut(..length) {
                    *flags |= 0x80;
                    *code = 0x83;
                    let _ = socket.send_to(&message[..length], asker);
                }
            }
        });
        Self(over)
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
