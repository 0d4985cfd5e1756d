//! The one line with which a machine becomes a host.
//!
//! `cutover1.` and then, in base32: when it ends, the fingerprint of the
//! coordinator's CA, a secret, and a checksum, so that a paste that lost its
//! tail or a character is called that, and not "refused".
//!
//! Kept true (P8): the secret shows in [`Token::to_line`] and nowhere else.

use std::fmt;
use std::time::{Duration, SystemTime};

use data_encoding::BASE32_NOPAD;
use sha2::{Digest, Sha256};

use crate::tls::Fingerprint;

const PREFIX: &str = "cutover1.";
const SECRET: usize = 32;
const CHECK: usize = 4;
const PAYLOAD: usize = 8 + 32 + SECRET + CHECK;

/// What only the coordinator's operator and the machine know.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenSecret([u8; SECRET]);

/// The SHA-256 of a secret: what the coordinator keeps.
pub type TokenHash = Fingerprint;

impl TokenSecret {
    /// Of these bytes, which must be random.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; SECRET]) -> Self {
        Self(bytes)
    }

    /// From a message; none unless the length is right.
    #[must_use]
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// What is kept of it.
    #[must_use]
    pub fn hash(&self) -> TokenHash {
        Fingerprint::of(&self.0)
    }

    /// For the message that spends it.
    #[must_use]
    pub fn expose(&self) -> &[u8; SECRET] {
        &self.0
    }
}

impl fmt::Debug for TokenSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSecret(hidden)")
    }
}

/// An enrolment token, as an operator hands it over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Whose word to believe.
    pub ca: Fingerprint,
    /// When it ends; whole seconds.
    pub expires: SystemTime,
    /// What proves it.
    pub secret: TokenSecret,
}

/// Why a text is no token; never says what it holds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Nothing was given.
    #[error("no token was given: make one with `cutover host token`")]
    Empty,
    /// It begins with something else.
    #[error("this is no enrolment token: one begins with {PREFIX:?}")]
    Prefix,
    /// Its end is missing.
    #[error("the token was cut off: {found} of its {wanted} characters are there")]
    CutOff {
        /// How many there are.
        found: usize,
        /// How many there must be.
        wanted: usize,
    },
    /// There is more behind it.
    #[error("the token is too long: {found} characters instead of {wanted}")]
    TooLong {
        /// How many there are.
        found: usize,
        /// How many there must be.
        wanted: usize,
    },
    /// A character is not one of a token's, or not the right one.
    #[error("a character of the token is wrong: copy it again")]
    Damaged,
}

impl Token {
    /// The one line. This is the secret: show it once, to who asked for it.
    #[must_use]
    pub fn to_line(&self) -> String {
        let mut bytes = Vec::with_capacity(PAYLOAD);
        let seconds = self
            .expires
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        bytes.extend_from_slice(&seconds.to_be_bytes());
        bytes.extend_from_slice(self.ca.as_bytes());
        bytes.extend_from_slice(&self.secret.0);
        let check = checksum(&bytes);
        bytes.extend_from_slice(&check);
        format!(
            "{PREFIX}{}",
            BASE32_NOPAD.encode(&bytes).to_ascii_lowercase()
        )
    }

    /// Reads a line; white space around it does not matter.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn from_line(line: &str) -> Result<Self, TokenError> {
        let line = line.trim();
        if line.is_empty() {
            return Err(TokenError::Empty);
        }
        if line.len() < PREFIX.len() && PREFIX.starts_with(line) {
            return Err(TokenError::CutOff {
                found: line.len(),
                wanted: length(),
            });
        }
        let code = line.strip_prefix(PREFIX).ok_or(TokenError::Prefix)?;
        let (found, wanted) = (line.chars().count(), length());
        match found.cmp(&wanted) {
            std::cmp::Ordering::Less => return Err(TokenError::CutOff { found, wanted }),
            std::cmp::Ordering::Greater => return Err(TokenError::TooLong { found, wanted }),
            std::cmp::Ordering::Equal => {}
        }
        let bytes = BASE32_NOPAD
            .decode(code.to_ascii_uppercase().as_bytes())
            .map_err(|_| TokenError::Damaged)?;
        let (body, check) = bytes
            .split_last_chunk::<CHECK>()
            .ok_or(TokenError::Damaged)?;
        if checksum(body) != *check {
            return Err(TokenError::Damaged);
        }
        let (seconds, rest) = body.split_first_chunk::<8>().ok_or(TokenError::Damaged)?;
        let (ca, rest) = rest.split_first_chunk::<32>().ok_or(TokenError::Damaged)?;
        let seconds = Duration::from_secs(u64::from_be_bytes(*seconds));
        Ok(Self {
            ca: Fingerprint::from_bytes(*ca),
            expires: SystemTime::UNIX_EPOCH
                .checked_add(seconds)
                .ok_or(TokenError::Damaged)?,
            secret: TokenSecret::from_slice(rest).ok_or(TokenError::Damaged)?,
        })
    }
}

fn length() -> usize {
    PREFIX.len() + BASE32_NOPAD.encode_len(PAYLOAD)
}

fn checksum(bytes: &[u8]) -> [u8; CHECK] {
    let [a, b, c, d, ..] = <[u8; 32]>::from(Sha256::digest(bytes));
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> Token {
        Token {
            ca: Fingerprint::of(b"ca"),
            expires: SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000),
            secret: TokenSecret::from_bytes([0xAB; SECRET]),
        }
    }

    #[test]
    fn a_token_is_read_back_from_its_line_and_is_one_line() {
        let line = token().to_line();
        assert!(
            line.starts_with("cutover1.") && !line.contains(char::is_whitespace),
            "{line}"
        );
        assert_eq!(Token::from_line(&format!("  {line}\n")), Ok(token()));
        assert_eq!(
            Token::from_line(&line.to_ascii_uppercase().replacen("CUTOVER", "cutover", 1)),
            Ok(token())
        );
    }

    #[test]
    fn a_paste_that_lost_its_end_or_a_character_is_called_that() {
        let line = token().to_line();
        for end in 1..line.len() {
            let cut = Token::from_line(&line[..end]);
            assert!(
                matches!(cut, Err(TokenError::CutOff { .. })),
                "{end}: {cut:?}"
            );
        }
        for at in "cutover1.".len()..line.len() {
            let mut wrong = line.clone().into_bytes();
            wrong[at] = if wrong[at] == b'a' { b'b' } else { b'a' };
            let wrong = String::from_utf8(wrong).expect("ASCII");
            assert_eq!(Token::from_line(&wrong), Err(TokenError::Damaged), "{at}");
        }
        assert_eq!(Token::from_line(""), Err(TokenError::Empty));
        assert_eq!(Token::from_line("swmtkn-1-abc"), Err(TokenError::Prefix));
        assert!(matches!(
            Token::from_line(&format!("{line}x")),
            Err(TokenError::TooLong { .. })
        ));
    }

    #[test]
    fn p8_a_token_does_not_show_its_secret() {
        let shown = format!("{:?} {:?}", token(), token().secret);
        assert!(shown.contains("hidden"), "{shown}");
        for leak in ["171", "ab, ab", "abab", "ABAB", &token().to_line()] {
            assert!(!shown.contains(leak), "{shown}");
        }
    }
}
