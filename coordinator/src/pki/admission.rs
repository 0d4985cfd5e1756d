//! Which machine may be which host: decided here, kept by a [`super::Registry`].
//!
//! Kept true: a token opens the door as often as it says and no longer than it
//! says; a host's name belongs to one key and one machine; when two machines
//! speak for one host, both are refused until a person decides (P4). A repeated
//! question after a lost answer gets the same answer and costs no use.

use std::collections::BTreeMap;
use std::time::SystemTime;

use cutover_core::HostId;
use cutover_proto::tls::{Fingerprint, Serial};
use cutover_proto::token::TokenHash;

use super::holding::Holding;

/// What is kept of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRecord {
    /// Of its secret.
    pub hash: TokenHash,
    /// Until when it opens.
    pub expires: SystemTime,
    /// How often it still opens.
    pub uses_left: u32,
    /// What its hosts are labelled with.
    pub labels: BTreeMap<String, String>,
}

/// What is kept of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostRecord {
    /// Its name.
    pub host: HostId,
    /// Its machine's id.
    pub machine_id: String,
    /// Of its public key.
    pub key: Fingerprint,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The certificates that it was given and that may still be valid, the newest last.
    pub given: Vec<Given>,
    /// The one of them that it is known to hold: it showed it, or said that it keeps it.
    pub shown: Option<Serial>,
    /// The token that let it in.
    pub token: TokenHash,
    /// Whether it may speak.
    pub standing: Standing,
}

/// What is kept of one certificate of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// Its number.
    pub serial: Serial,
    /// Until when it holds.
    pub until: SystemTime,
    /// Of which CA it is, and what was given with it; none: that was not recorded.
    pub holding: Option<Holding>,
}

/// Whether a host may speak.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It may.
    Good,
    /// It may not: two machines spoke for it; a person decides.
    Quarantined {
        /// The machine that it was.
        first: String,
        /// The machine that spoke for it, too.
        second: String,
    },
}

/// A machine asks to become a host.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Of the token's secret.
    pub token: TokenHash,
    /// The name that it would like.
    pub host: HostId,
    /// Its machine's id.
    pub machine_id: String,
    /// Of the public key that it proved to hold.
    pub key: Fingerprint,
    /// Labels that it brings.
    pub labels: BTreeMap<String, String>,
    /// The certificate that it will be given.
    pub given: Given,
}

/// Why a machine does not become a host, or a host gets no certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdmissionRefusal {
    /// No such token.
    #[error("the token is not known here: it was removed, or another coordinator made it")]
    UnknownToken,
    /// Its time is over.
    #[error("the token has expired: make a new one with `cutover host token`")]
    ExpiredToken,
    /// It was used as often as it may.
    #[error("the token was used already: make a new one with `cutover host token`")]
    UsedToken,
    /// Another machine or key has the name.
    #[error(
        "the name {0} is taken by another machine: use another one, or `cutover host rm {0}` first"
    )]
    NameTaken(HostId),
    /// The host does not exist (any more).
    #[error(
        "the host {0} is not known here: it was removed; to enrol it again, remove the agent's `membership` folder, then \
         `cutover-agent enroll` with a new token (`cutover host token`)"
    )]
    UnknownHost(HostId),
    /// The key is not the host's.
    #[error("this is not the key that the host {0} was enrolled with")]
    AnotherKey(HostId),
    /// Two machines spoke for it.
    #[error(
        "the host {host} is quarantined: the machines {first} and {second} both spoke for it; `cutover host rm {host}`, \
         give the copy another machine-id, remove the agent's `membership` folder on the right one, then enrol it \
         anew (`cutover host token`)"
    )]
    Quarantined {
        /// Which host.
        host: HostId,
        /// One machine.
        first: String,
        /// The other.
        second: String,
    },
}

/// Decides about a machine that asks to become a host. The answer is what is to be kept: the
/// token as it is afterwards, and the host; both or neither.
///
/// # Errors
/// When it may not; then nothing changes.
pub fn admit(
    token: Option<&TokenRecord>,
    known: Option<&HostRecord>,
    ask: &Ask,
    now: SystemTime,
) -> Result<(TokenRecord, HostRecord), AdmissionRefusal> {
    let token = token.ok_or(AdmissionRefusal::UnknownToken)?;
    if now >= token.expires {
        return Err(AdmissionRefusal::ExpiredToken);
    }
    let (uses_left, mut given) = match known {
        Some(host) => {
            host.refuse_quarantined()?;
            if host.key != ask.key || host.machine_id != ask.machine_id {
                return Err(AdmissionRefusal::NameTaken(ask.host.clone()));
            }
            // The same machine with the same token asks again: its answer was lost.
            let again = host.token == token.hash;
            (
                if again {
                    Some(token.uses_left)
                } else {
                    token.uses_left.checked_sub(1)
                },
                host.live_given(now),
            )
        }
        None => (token.uses_left.checked_sub(1), Vec::new()),
    };
    let uses_left = uses_left.ok_or(AdmissionRefusal::UsedToken)?;
    given.push(ask.given.clone());
    let mut labels = ask.labels.clone();
    labels.extend(token.labels.clone()); // the operator's word counts more
    let host = HostRecord {
        host: ask.host.clone(),
        machine_id: ask.machine_id.clone(),
        key: ask.key,
        labels,
        given,
        shown: known.and_then(|host| host.shown.clone()),
        token: token.hash,
        standing: Standing::Good,
    };
    Ok((
        TokenRecord {
            uses_left,
            ..token.clone()
        },
        host,
    ))
}

/// Decides about a host that wants its certificate renewed; gives the host as it is to be kept.
///
/// # Errors
/// When it may not; then nothing changes.
pub fn renew(
    known: Option<&HostRecord>,
    host: &HostId,
    key: Fingerprint,
    given: Given,
    now: SystemTime,
) -> Result<HostRecord, AdmissionRefusal> {
    let known = known.ok_or_else(|| AdmissionRefusal::UnknownHost(host.clone()))?;
    known.refuse_quarantined()?;
    if known.key != key {
        return Err(AdmissionRefusal::AnotherKey(host.clone()));
    }
    let mut all = known.live_given(now);
    all.push(given);
    Ok(HostRecord {
        given: all,
        ..known.clone()
    })
}

/// Decides about a machine that speaks for a host, holding the certificate `shown`; gives the host
/// as it is to be kept, if it changes.
///
/// # Errors
/// When it may not speak. A quarantine that begins here is `Ok`: it must be kept first, then refused.
pub fn speak(
    known: Option<&HostRecord>,
    host: &HostId,
    machine_id: &str,
    shown: &Serial,
) -> Result<Option<HostRecord>, AdmissionRefusal> {
    let known = known.ok_or_else(|| AdmissionRefusal::UnknownHost(host.clone()))?;
    known.refuse_quarantined()?;
    if known.machine_id == machine_id {
        // One that is not known here (a backup was restored) says nothing of what came with it.
        let is_known = known.given.iter().any(|given| given.serial == *shown);
        let shown = is_known.then(|| shown.clone());
        return Ok((known.shown != shown).then(|| HostRecord {
            shown,
            ..known.clone()
        }));
    }
    let standing = Standing::Quarantined {
        first: known.machine_id.clone(),
        second: machine_id.to_owned(),
    };
    Ok(Some(HostRecord {
        standing,
        ..known.clone()
    }))
}

impl HostRecord {
    /// Of which CA its certificate is and whom it believes, as far as it is known to: what it
    /// was given may not have reached it.
    #[must_use]
    pub fn holding(&self) -> Option<&Holding> {
        let shown = self.shown.as_ref()?;
        let given = self.given.iter().find(|given| given.serial == *shown)?;
        given.holding.as_ref()
    }

    /// A person decided: this machine is the host, and the quarantine is over.
    #[must_use]
    pub fn readmitted(&self, machine_id: &str) -> Self {
        Self {
            machine_id: machine_id.to_owned(),
            standing: Standing::Good,
            ..self.clone()
        }
    }

    /// Refuses a host that may not speak.
    ///
    /// # Errors
    /// When it is quarantined; names both machines.
    pub fn refuse_quarantined(&self) -> Result<(), AdmissionRefusal> {
        match &self.standing {
            Standing::Good => Ok(()),
            Standing::Quarantined { first, second } => Err(AdmissionRefusal::Quarantined {
                host: self.host.clone(),
                first: first.clone(),
                second: second.clone(),
            }),
        }
    }

    fn live_given(&self, now: SystemTime) -> Vec<Given> {
        let renewable =
            |given: &&Given| given.until + super::authority::RENEWABLE_AFTER_EXPIRY > now;
        self.given.iter().filter(renewable).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn token(uses_left: u32) -> TokenRecord {
        let labels = BTreeMap::from([("role".to_owned(), "web".to_owned())]);
        TokenRecord {
            hash: Fingerprint::of(b"token"),
            expires: at(100),
            uses_left,
            labels,
        }
    }

    fn ask(host: &str, machine: &str, key: &[u8]) -> Ask {
        Ask {
            token: Fingerprint::of(b"token"),
            host: host.parse().expect("a name"),
            machine_id: machine.to_owned(),
            key: Fingerprint::of(key),
            labels: BTreeMap::from([
                ("role".to_owned(), "db".to_owned()),
                ("rack".to_owned(), "7".to_owned()),
            ]),
            given: given(7, 1000),
        }
    }

    fn given(serial: u8, until: u64) -> Given {
        let ca = Fingerprint::of(b"a CA");
        Given {
            serial: Serial::from_bytes(&[serial]),
            until: at(until),
            holding: Some(Holding {
                issuer: ca,
                trusts: [ca].into(),
            }),
        }
    }

    fn spoken(host: &HostRecord, machine: &str) -> Result<Option<HostRecord>, AdmissionRefusal> {
        let held = Serial::from_bytes(&[7]);
        let known = HostRecord {
            shown: Some(held.clone()),
            ..host.clone()
        };
        speak(Some(&known), &host.host, machine, &held)
    }

    #[test]
    fn a_token_opens_as_often_as_it_says_and_its_labels_win() {
        let (after, host) =
            admit(Some(&token(1)), None, &ask("web-1", "m1", b"k1"), at(1)).expect("admitted");
        assert_eq!(after.uses_left, 0);
        assert_eq!(
            (host.labels["role"].as_str(), host.labels["rack"].as_str()),
            ("web", "7")
        );
        let used = admit(Some(&after), None, &ask("web-2", "m2", b"k2"), at(1));
        assert_eq!(used, Err(AdmissionRefusal::UsedToken));
        let expired = admit(Some(&token(1)), None, &ask("web-1", "m1", b"k1"), at(100));
        assert_eq!(expired, Err(AdmissionRefusal::ExpiredToken));
        assert_eq!(
            admit(None, None, &ask("web-1", "m1", b"k1"), at(1)),
            Err(AdmissionRefusal::UnknownToken)
        );
    }

    #[test]
    fn a_machine_whose_answer_was_lost_asks_again_at_no_cost() {
        let (after, host) =
            admit(Some(&token(1)), None, &ask("web-1", "m1", b"k1"), at(1)).expect("admitted");
        let (again, host) =
            admit(Some(&after), Some(&host), &ask("web-1", "m1", b"k1"), at(2)).expect("again");
        assert_eq!((again.uses_left, host.given.len()), (0, 2));
    }

    #[test]
    fn a_name_belongs_to_one_machine_and_one_key() {
        let (_, host) =
            admit(Some(&token(9)), None, &ask("web-1", "m1", b"k1"), at(1)).expect("admitted");
        for other in [ask("web-1", "m2", b"k1"), ask("web-1", "m1", b"k2")] {
            let taken = admit(Some(&token(9)), Some(&host), &other, at(1));
            assert!(
                matches!(taken, Err(AdmissionRefusal::NameTaken(_))),
                "{taken:?}"
            );
        }
        let name = host.host.clone();
        let renew = |known, key| renew(known, &name, Fingerprint::of(key), given(8, 2000), at(1));
        assert!(matches!(
            renew(Some(&host), b"k2"),
            Err(AdmissionRefusal::AnotherKey(_))
        ));
        assert!(matches!(
            renew(None, b"k1"),
            Err(AdmissionRefusal::UnknownHost(_))
        ));
        assert_eq!(renew(Some(&host), b"k1").expect("renewed").given.len(), 2);
    }

    #[test]
    fn p4_one_host_id_from_two_machine_ids_is_quarantined_and_both_are_named_until_a_person_decides()
     {
        let (_, host) =
            admit(Some(&token(9)), None, &ask("web-1", "m1", b"k1"), at(1)).expect("admitted");
        assert_eq!(spoken(&host, "m1"), Ok(None));
        let caught = spoken(&host, "m2").expect("to be kept").expect("changed");
        for machine in ["m1", "m2"] {
            let text = spoken(&caught, machine).expect_err("refused").to_string();
            assert!(text.contains("m1") && text.contains("m2"), "{text}");
        }
        assert!(
            admit(
                Some(&token(9)),
                Some(&caught),
                &ask("web-1", "m1", b"k1"),
                at(1)
            )
            .is_err()
        );
        let decided = caught.readmitted("m2");
        assert_eq!(spoken(&decided, "m2"), Ok(None));
    }

    #[test]
    fn what_was_given_counts_when_the_host_is_seen_to_hold_it_and_not_before() {
        let (_, host) =
            admit(Some(&token(9)), None, &ask("web-1", "m1", b"k1"), at(1)).expect("admitted");
        let name = host.host.clone();
        assert_eq!(host.holding(), None, "the answer may have been lost");
        let say = |host: &HostRecord, serial: u8| {
            let spoken = speak(Some(host), &name, "m1", &Serial::from_bytes(&[serial]));
            spoken.expect("it may").unwrap_or_else(|| host.clone())
        };
        let host = say(&host, 7);
        assert_eq!(host.holding(), given(7, 1000).holding.as_ref());
        let key = Fingerprint::of(b"k1");
        let next = Fingerprint::of(b"the next CA");
        let mut newer = given(8, 2000);
        newer.holding = Some(Holding {
            issuer: next,
            trusts: [next].into(),
        });
        let host = renew(Some(&host), &name, key, newer.clone(), at(1)).expect("renewed");
        assert_eq!(host.holding(), given(7, 1000).holding.as_ref());
        assert_eq!(say(&host, 8).holding(), newer.holding.as_ref());
        assert_eq!(
            say(&say(&host, 8), 7).holding(),
            given(7, 1000).holding.as_ref()
        );
        assert_eq!(
            say(&host, 9).holding(),
            None,
            "nobody knows what came with that"
        );
    }
}
