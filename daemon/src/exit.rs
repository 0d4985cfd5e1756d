//! Exit codes that both daemons share with `cutover`; scripts rely on them.

/// Wrong arguments, or a name that is unknown or ambiguous.
pub const USAGE: u8 = 2;
/// Nothing was accepted: nobody answers, or a certificate was refused.
pub const UNACCEPTED: u8 = 5;
/// Refused.
pub const REFUSED: u8 = 7;
/// Something does not work, and a person must mend it.
pub const NEEDS_PERSON: u8 = 8;
/// A configuration that can't be used; systemd does not restart on it.
pub const CONFIG: u8 = 78;
