//! How many connections from this host to given addresses are open.

use std::net::Ipv4Addr;

/// States of the kernel's table in which a connection may still carry an answer.
const ESTABLISHED: &str = "01";
const CONNECTING: &str = "02";

/// Counts in the text of `/proc/net/tcp` the open connections to any of `addresses`.
pub(crate) fn open(table: &str, addresses: &[Ipv4Addr]) -> u64 {
    let wanted: Vec<String> = addresses
        .iter()
        .map(|address| format!("{:08X}", u32::from(*address).swap_bytes()))
        .collect();
    let to_wanted = |line: &&str| {
        let mut columns = line.split_ascii_whitespace().skip(2);
        let (Some(remote), Some(state)) = (columns.next(), columns.next()) else {
            return false;
        };
        let Some((address, _port)) = remote.split_once(':') else {
            return false;
        };
        (state == ESTABLISHED || state == CONNECTING)
            && wanted.iter().any(|wanted| wanted == address)
    };
    table.lines().skip(1).filter(to_wanted).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_connections_to_a_slot_are_counted_and_closing_ones_are_not() {
        let table = "  sl  local_address rem_address   st tx_queue\n\
            0: 0100D50A:C001 1000D50A:1F90 01 00000000:00000000\n\
            1: 0100D50A:C002 1000D50A:1F90 02 00000000:00000000\n\
            2: 0100D50A:C003 1000D50A:1F90 06 00000000:00000000\n\
            3: 0100D50A:C004 1100D50A:1F90 01 00000000:00000000\n";
        assert_eq!(open(table, &[Ipv4Addr::new(10, 213, 0, 16)]), 2);
        assert_eq!(
            open(
                table,
                &[Ipv4Addr::new(10, 213, 0, 16), Ipv4Addr::new(10, 213, 0, 17)]
            ),
            3
        );
        assert_eq!(open("", &[Ipv4Addr::LOCALHOST]), 0);
    }
}
