//! Which certificates operators were given: a line of JSON each, in `operators`
//! beside the CA.
//!
//! What an operator may do comes from the certificate alone; this says who has one, of
//! which CA and until when. It is a file and not in the store, because a running
//! coordinator holds that, and a new certificate needs no running coordinator.
//!
//! Kept true: a certificate is recorded before anybody has its key.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use cutover_proto::identity::OperatorName;
use cutover_proto::tls::{PUBLIC, write_file_of_folder};
use serde::{Deserialize, Serialize};

use super::authority::{Authority, Issued, PkiError};
use super::succession;

const FILE: &str = "operators";

/// One certificate of an operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorCertificate {
    /// Whose.
    pub operator: String,
    /// Its number, hex.
    pub serial: String,
    /// Of the CA that made it.
    pub ca: String,
    /// When it was made.
    pub issued_unix_seconds: u64,
    /// Until when it holds.
    pub until_unix_seconds: u64,
}

/// A new certificate and key for `operator`, recorded in `folder`.
///
/// # Errors
/// When it cannot be made or recorded.
pub fn issue(
    authority: &Authority,
    folder: &Path,
    operator: &OperatorName,
    now: SystemTime,
) -> Result<Issued, PkiError> {
    // Two at once would each forget the other's line.
    let _alone = succession::lock(folder)?;
    let issued = authority.operator(operator, now)?;
    let line = OperatorCertificate {
        operator: operator.to_string(),
        serial: issued.serial.to_string(),
        ca: authority.issuer().to_string(),
        issued_unix_seconds: seconds(now),
        until_unix_seconds: seconds(issued.until),
    };
    let path = folder.join(FILE);
    let failed = |doing| {
        let path = path.clone();
        move |source| PkiError::File {
            doing,
            path,
            source,
        }
    };
    let mut text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(source) => return Err(failed("reading")(source)),
    };
    let line = serde_json::to_string(&line).map_err(|error| failed("writing")(error.into()))?;
    text.push_str(&line);
    text.push('\n');
    write_file_of_folder(&path, text.as_bytes(), PUBLIC).map_err(failed("writing"))?;
    Ok(issued)
}

/// The newest certificate of each operator that is recorded and holds at `now`, by name.
///
/// # Errors
/// When the record cannot be read, or a line of it cannot be understood: somebody may be in it.
pub fn newest(
    folder: &Path,
    now: SystemTime,
) -> Result<BTreeMap<String, OperatorCertificate>, PkiError> {
    let path = folder.join(FILE);
    let failed = |source| PkiError::File {
        doing: "reading",
        path: path.clone(),
        source,
    };
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(source) => return Err(failed(source)),
    };
    let mut newest = BTreeMap::new();
    for line in text.lines() {
        let line: OperatorCertificate =
            serde_json::from_str(line).map_err(|error| failed(error.into()))?;
        newest.insert(line.operator.clone(), line);
    }
    newest.retain(|_, line| line.until_unix_seconds > seconds(now));
    Ok(newest)
}

fn seconds(at: SystemTime) -> u64 {
    at.duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or(Duration::ZERO)
        .as_secs()
}
