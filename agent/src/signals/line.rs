//! The lines that the proxy sends, read strictly.
//!
//! A datagram is a syslog header, `cutover: `, and fields set apart by tabs
//! (what came from a client has its tabs and quotes escaped). The first field
//! says which of four lines it is:
//!
//! ```text
//! H config service place bucket status statuses addresses time header_time completed
//! P config service place bucket nonce
//! T config service place listener status addresses time port
//! F config service listener status port
//! ```
//!
//! H: an HTTP request. P: an HTTP proof. T: a TCP connection that reached a
//! slot. F: a TCP connection that found no slot. `place` is `blue`,
//! `green_warm_without_1`, `nobody`, `unreadable`. Anything else is garbage.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use cutover_core::{ServiceId, Slot};

/// Upstream attempts of one request that are read; more are not kept.
const ATTEMPTS: usize = 32;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// A request (a connection, for TCP) that ended.
    Request(Request),
    /// The answer to a proof of ours.
    Proof(Proof),
}

/// Where the proxy meant to send a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// To a slot.
    Slot {
        /// Which.
        slot: Slot,
        /// The other slot was its backup.
        warm: bool,
        /// The replica that was flagged out.
        without: Option<u32>,
    },
    /// To nobody, as the route said.
    Nobody,
    /// To nobody, as no route could be read.
    Unreadable,
}

/// One request that ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub(super) config: String,
    /// Whose it was.
    pub service: ServiceId,
    /// Where it was meant to go.
    pub place: Place,
    /// What the client was told; for TCP 200 or 502.
    pub status: u16,
    /// The upstreams that were asked, in order.
    pub addresses: Vec<SocketAddrV4>,
    /// From the first byte of the request to the last of the answer.
    pub time: Duration,
    /// The last upstream that was asked began an answer.
    pub answered: bool,
    /// The answer was sent whole.
    pub completed: bool,
    /// TCP: the listener's port and the client's.
    pub(super) tcp: Option<(u16, u16)>,
}

/// What a proof found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// Fingerprint of the configuration that answered.
    pub config: String,
    /// The service that answered.
    pub service: ServiceId,
    /// Where it would have gone.
    pub place: Place,
    /// The request's place among a hundred, when told.
    pub bucket: Option<u8>,
    pub(super) nonce: Option<String>,
    pub(super) listener: Option<u16>,
    pub(super) from: Option<u16>,
}

impl Request {
    /// The upstream that was asked last.
    #[must_use]
    pub fn last_address(&self) -> Option<Ipv4Addr> {
        self.addresses.last().map(|address| *address.ip())
    }

    /// Whether the proxy answered in the service's stead: an error of 500 or
    /// more although the upstream asked last (if any) had not begun an answer.
    #[must_use]
    pub fn lost(&self) -> bool {
        self.status >= 500 && !self.answered
    }

    pub(super) fn tcp_proof(&self) -> Option<Proof> {
        self.tcp.map(|(listener, from)| Proof {
            config: self.config.clone(),
            service: self.service.clone(),
            place: self.place,
            bucket: None,
            nonce: None,
            listener: Some(listener),
            from: Some(from),
        })
    }
}

/// Reads one datagram; `None`: it is none of ours.
#[must_use]
pub fn parse(datagram: &[u8]) -> Option<Line> {
    let text = std::str::from_utf8(datagram).ok()?;
    let (_, ours) = text.split_once("cutover: ")?;
    let fields: Vec<&str> = ours.trim_end_matches('\n').splitn(16, '\t').collect();
    match fields.as_slice() {
        [
            "H",
            config,
            service,
            place,
            _,
            status,
            _,
            addresses,
            time,
            header_time,
            completed,
        ] => Some(Line::Request(Request {
            config: (*config).to_owned(),
            service: service.parse().ok()?,
            place: parse_place(place)?,
            status: status.parse().ok()?,
            addresses: parse_addresses(addresses),
            time: seconds(time)?,
            answered: last(header_time).is_some_and(|time| seconds(time).is_some()),
            completed: *completed == "OK",
            tcp: None,
        })),
        ["P", config, service, place, bucket, nonce] => Some(Line::Proof(Proof {
            config: (*config).to_owned(),
            service: service.parse().ok()?,
            place: parse_place(place)?,
            bucket: Some(bucket.parse().ok()?),
            nonce: Some((*nonce).to_owned()),
            listener: None,
            from: None,
        })),
        [
            "T",
            config,
            service,
            place,
            listener,
            status,
            addresses,
            time,
            port,
        ] => {
            let status = status.parse().ok()?;
            Some(Line::Request(Request {
                config: (*config).to_owned(),
                service: service.parse().ok()?,
                place: parse_place(place)?,
                status,
                addresses: parse_addresses(addresses),
                time: seconds(time)?,
                answered: status == 200,
                completed: status == 200,
                tcp: Some((listener.parse().ok()?, port.parse().ok()?)),
            }))
        }
        // Which of the two it was, `nobody` or unreadable, the front can't see.
        ["F", config, service, listener, status, port] => Some(Line::Request(Request {
            config: (*config).to_owned(),
            service: service.parse().ok()?,
            place: Place::Nobody,
            status: status.parse().ok()?,
            addresses: Vec::new(),
            time: Duration::ZERO,
            answered: false,
            completed: false,
            tcp: Some((listener.parse().ok()?, port.parse().ok()?)),
        })),
        _ => None,
    }
}

fn parse_place(text: &str) -> Option<Place> {
    match text {
        "nobody" => return Some(Place::Nobody),
        "unreadable" => return Some(Place::Unreadable),
        _ => {}
    }
    let (slot, mut rest) = match text.strip_prefix("blue") {
        Some(rest) => (Slot::Blue, rest),
        None => (Slot::Green, text.strip_prefix("green")?),
    };
    let warm = rest.starts_with("_warm");
    rest = rest.strip_prefix("_warm").unwrap_or(rest);
    let without = match rest {
        "" => None,
        rest => Some(rest.strip_prefix("_without_")?.parse().ok()?),
    };
    Some(Place::Slot {
        slot,
        warm,
        without,
    })
}

/// Values of several attempts are set apart by `, `, of several groups by ` : `.
fn last(list: &str) -> Option<&str> {
    list.rsplit([',', ' ']).next()
}

fn parse_addresses(list: &str) -> Vec<SocketAddrV4> {
    list.split([',', ' '])
        .filter_map(|address| address.parse().ok())
        .take(ATTEMPTS)
        .collect()
}

fn seconds(text: &str) -> Option<Duration> {
    Duration::try_from_secs_f64(text.parse().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "<190>Nov 22 10:19:11 cutover: ";

    fn request(fields: &str) -> Request {
        match parse(format!("{HEAD}{}", fields.replace('|', "\t")).as_bytes()) {
            Some(Line::Request(request)) => request,
            other => panic!("{fields:?} gave {other:?}"),
        }
    }

    #[test]
    fn an_answer_of_the_service_is_never_lost_whatever_its_status() {
        let sick = request("H|c0|shop/web|green_warm|07|503|503|127.0.0.2:80|0.004|0.004|OK");
        assert!(!sick.lost());
        assert_eq!(
            sick.place,
            Place::Slot {
                slot: Slot::Green,
                warm: true,
                without: None
            }
        );
    }

    #[test]
    fn what_the_proxy_answers_itself_is_lost_unless_the_client_left_first() {
        assert!(request("H|c0|shop/web|green|07|502|502|127.0.0.2:80|0.250|-|OK").lost());
        assert!(
            request("H|c0|shop/web|green|07|504|502, 504|127.0.0.2:80, 127.0.0.3:80|0.250|-, -|OK")
                .lost()
        );
        assert!(request("H|c0|shop/web|nobody|07|503|-|-|0.000|-|OK").lost());
        assert!(!request("H|c0|shop/web|green|07|499|-|127.0.0.2:80|0.250|-|").lost());
        assert!(!request("H|c0|shop/web|green|07|408|-|-|60.0|-|OK").lost());
    }

    #[test]
    fn a_second_attempt_that_answers_is_the_one_that_counts() {
        let saved = request(
            "H|c0|shop/web|green_warm|07|200|504, 200|127.0.0.2:80, 127.0.0.3:80|0.255|-, 0.004|OK",
        );
        assert!(!saved.lost());
        assert_eq!(saved.last_address(), Some(Ipv4Addr::new(127, 0, 0, 3)));
    }

    #[test]
    fn garbage_is_no_line() {
        for bad in [
            "",
            "cutover: ",
            "cutover: H",
            "cutover: H\tc0\tshop\tblue\t0\t200\t-\t-\t0\t-\tOK",
            "cutover: H\tc0\tshop/web\tred\t0\t200\t-\t-\t0\t-\tOK",
            "cutover: P\tc0\tshop/web\tblue\t999\tn",
            "cutover: H\tc0\tshop/web\tblue\t0\t200\t-\t-\t-5\t-\tOK",
            "cutover: H\tc0\tshop/web\tblue_without_\t0\t200\t-\t-\t0\t-\tOK",
        ] {
            assert_eq!(parse(bad.as_bytes()), None, "{bad:?}");
        }
        assert_eq!(parse(&[0xff, 0xfe, 0]), None);
    }
}
