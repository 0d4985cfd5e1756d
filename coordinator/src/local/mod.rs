//! `init --local`: a whole installation on this machine, in one command.
//!
//! CA and context, the coordinator's unit, the machine as a host, the agent's
//! unit, and then waiting until the host is ready. Kept true: nothing is made
//! before everything that is needed was found; what is there already is left as
//! it is, so that a second run goes on where the first one stopped; the token
//! goes from the coordinator to the agent's standard input, and nowhere else.

mod enrol;
mod ground;
mod operator;

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use cutover_daemon::unit::{self, Started, State, UnitError};
use cutover_proto::tls::{Address, AddressError, Credentials, TlsError};

use crate::config::{BadConfig, Config};
use crate::init::{Contexts, InitError, Known, Wish, issue, make_ca};
use crate::pki::{Authority, PkiError};

pub use enrol::EnrolError;
use ground::Ground;
pub use ground::Unfit;
use operator::Operator;
pub use operator::OperatorError;

/// A coordinator that systemd calls ready answers at once; one that is busy with a large store soon.
const ANSWERS_WITHIN: Duration = Duration::from_secs(30);
/// An agent that was started connects within a second; its engine may be starting, too.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// Why there is no installation. A second run goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// Something is missing on this machine; nothing was made.
    #[error("nothing was made: {0}")]
    Unfit(#[from] Unfit),
    /// CA or context.
    #[error(transparent)]
    Init(#[from] InitError),
    /// The CA that is there.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The configuration.
    #[error(transparent)]
    Config(#[from] BadConfig),
    /// An address.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The CA that is there, or its certificates.
    #[error("using the operator's certificate")]
    Tls(#[from] TlsError),
    /// The context of that name is in use for another coordinator.
    #[error(
        "the context {name:?} in {} is for another coordinator, at {address}; choose another name with --context NAME", path.display()
    )]
    Context {
        /// Its name.
        name: String,
        /// Where it is.
        path: PathBuf,
        /// Where the other one is.
        address: String,
    },
    /// A unit.
    #[error(transparent)]
    Unit(#[from] UnitError),
    /// The coordinator.
    #[error(transparent)]
    Operator(#[from] OperatorError),
    /// The agent.
    #[error(transparent)]
    Enrol(#[from] EnrolError),
}

/// What there is at the end.
#[derive(Debug)]
pub struct Installed {
    /// The machine's name as a host.
    pub host: String,
    /// All of it was there before.
    pub unchanged: bool,
    /// The command line is there, too.
    pub command: bool,
}

/// Makes all of it; `say` is told each thing that was made. The addresses of `wish` are those by
/// which others reach this machine.
///
/// # Errors
/// Why not, and what to do.
pub async fn install(
    config: &Config,
    wish: &Wish,
    say: &dyn Fn(&str),
) -> Result<Installed, LocalError> {
    let ground = Ground::find(config, wish).await?;
    let (authority, credentials, address, mut changed) = access(config, wish, &ground, say)?;
    match ground.systemd.start(unit::COORDINATOR).await? {
        Started::Now => {
            changed = true;
            say("cutover-coordinator is started");
        }
        Started::Before => {}
    }
    let trust = authority.trust()?;
    let mut operator =
        Operator::reach(address.clone(), &credentials, &trust, ANSWERS_WITHIN).await?;
    let runs = ground.systemd.look(unit::AGENT).await? == State::Runs;
    let there = operator
        .sees(&ground.host)
        .await?
        .is_some_and(|seen| seen.connected);
    if !(runs && there) {
        changed = true;
        let token = operator.token().await?;
        let gate = Address::new(address.host(), config.enrolment_port)?;
        say(&enrol::enrol(&ground.agent, &gate, &ground.host, &token).await?);
        if ground.systemd.start(unit::AGENT).await? == Started::Now {
            say("cutover-agent is started");
        }
        operator.wait_for(&ground.host, READY_WITHIN).await?;
    }
    Ok(Installed {
        host: ground.host.to_string(),
        unchanged: !changed,
        command: ground::installed("cutover").is_some(),
    })
}

/// The CA, and what the operator shows: as they are, or made. Says whether something was made.
fn access(
    config: &Config,
    wish: &Wish,
    ground: &Ground,
    say: &dyn Fn(&str),
) -> Result<(Authority, Credentials, Address, bool), LocalError> {
    let now = SystemTime::now();
    let mut contexts = Contexts::read(wish.context_dir.as_deref())?;
    let mut changed = false;
    let address = Address::new(&ground.at, config.port)?;
    let made_before = if config.has_ca() {
        Some(Authority::load(&config.pki())?)
    } else {
        None
    };
    let known = contexts.known(&wish.context, made_before.as_ref(), &address, now);
    if let Known::Anothers(address) = known {
        return Err(LocalError::Context {
            name: wish.context.clone(),
            path: contexts.path(),
            address,
        });
    }
    let authority = match made_before {
        Some(authority) => authority,
        None => {
            let authority = make_ca(config, &ground.addresses, now)?;
            changed = true;
            let addresses = ground.addresses.join(", ");
            say(&format!(
                "CA and certificate for {addresses}: {}",
                config.pki().display()
            ));
            authority
        }
    };
    let credentials = match known {
        Known::Good(credentials) => *credentials,
        Known::Not | Known::Stale | Known::Anothers(_) => {
            let issued = issue(config, &authority, &wish.operator, now)?;
            contexts.choose(&wish.context);
            let path = contexts.keep(&wish.context, &address, &issued, &authority.bundle_pem())?;
            changed = true;
            say(&format!(
                "operator {}, context {:?}: {}",
                wish.operator,
                wish.context,
                path.display()
            ));
            let key = issued.key_pem.as_ref().map_or("", |key| key.expose());
            Credentials::from_pem(&issued.certificate_pem, key)?
        }
    };
    Ok((authority, credentials, address, changed))
}
