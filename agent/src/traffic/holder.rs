//! Who holds a port that nginx could not have.
//!
//! Best effort: what the kernel does not show to this process has no name here.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

/// How /proc/net/tcp writes "listens".
const LISTENS: &str = "0A";

/// From nginx's `bind() to ADDRESS failed (98: …)` the address and who has it; `None`: it says something else.
pub(super) fn of_taken_port(words: &str) -> Option<(String, String)> {
    let (address, rest) = words.split_once("bind() to ")?.1.split_once(" failed (")?;
    if !rest.starts_with("98:") {
        return None;
    }
    let holder = address.parse::<SocketAddr>().ok().and_then(holder);
    let holder = holder.unwrap_or_else(|| "another program (`ss -ltnp` shows it)".to_owned());
    Some((address.to_owned(), holder))
}

/// `NAME (pid N)`.
fn holder(address: SocketAddr) -> Option<String> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(fs::read_to_string);
    let sockets: Vec<String> = tables
        .iter()
        .flatten()
        .flat_map(|table| listening_on(table, address))
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    let entries = fs::read_dir("/proc").ok()?.filter_map(Result::ok);
    let processes = entries.filter(|entry| {
        let name = entry.file_name();
        name.to_string_lossy().bytes().all(|c| c.is_ascii_digit())
    });
    let found = processes.map(|entry| entry.path()).find(|process| {
        let files = fs::read_dir(process.join("fd")).into_iter().flatten();
        let mut links = files.filter_map(|file| fs::read_link(file.ok()?.path()).ok());
        links.any(|link| sockets.iter().any(|socket| link == Path::new(socket)))
    })?;
    let name = fs::read_to_string(found.join("comm")).ok()?;
    let pid = found.file_name()?.to_string_lossy().into_owned();
    Some(format!("{} (pid {pid})", name.trim()))
}

/// The inodes of sockets that are in the way of this address: on it, or on every one.
fn listening_on(table: &str, address: SocketAddr) -> impl Iterator<Item = &str> {
    table.lines().skip(1).filter_map(move |line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (ip, port) = words.get(1)?.split_once(':')?;
        let meets = address.ip().is_unspecified() || meets(ip, address.ip());
        let taken = u16::from_str_radix(port, 16) == Ok(address.port()) && meets;
        (taken && *words.get(3)? == LISTENS).then(|| words.get(9).copied())?
    })
}

/// Whether the table's address, in hexadecimal words of the machine's own order, is this one or all of them.
fn meets(theirs: &str, ours: IpAddr) -> bool {
    let all = theirs.bytes().all(|digit| digit == b'0');
    all || match (ours, u32::from_str_radix(theirs, 16)) {
        (IpAddr::V4(ours), Ok(word)) => Ipv4Addr::from(word.to_ne_bytes()) == ours,
        (IpAddr::V6(_), _) => theirs.len() == 32,
        (IpAddr::V4(_), Err(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn the_process_that_listens_is_named() {
        let ours = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = ours.local_addr().expect("it is bound");
        let said = format!("bind() to {address} failed (98: Address already in use)");
        let (at, holder) = of_taken_port(&said).expect("it is taken");
        assert_eq!(at, address.to_string());
        let pid = format!("(pid {})", std::process::id());
        assert!(holder.ends_with(&pid), "{holder}");
    }

    #[test]
    fn one_that_listens_on_the_same_port_elsewhere_is_not_in_the_way() {
        let _elsewhere = TcpListener::bind("127.0.0.2:47113").expect("a port is free");
        let said = "bind() to 127.0.0.1:47113 failed (98: Address already in use)";
        let (_, holder) = of_taken_port(said).expect("it is taken");
        assert!(holder.starts_with("another program"), "{holder}");
        let said = "bind() to 0.0.0.0:47113 failed (98: Address already in use)";
        let (_, holder) = of_taken_port(said).expect("it is taken");
        assert!(!holder.starts_with("another program"), "{holder}");
    }

    #[test]
    fn other_errors_are_about_no_port() {
        let denied = "bind() to 127.0.0.1:80 failed (13: Permission denied)";
        assert_eq!(of_taken_port(denied), None);
        assert_eq!(of_taken_port("unknown directive"), None);
    }
}
