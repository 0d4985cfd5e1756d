//! A coordinator's gates on real sockets, with a registry in memory, and peers of every kind.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "in a test's rig a panic is the report"
)]

pub mod agent;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use cutover_agent::enroll::{Enrolled, Membership, Wish, enroll};
use cutover_coordinator::gate::{Caller, Doors, EnrolmentService, Gates, Refusals};
use cutover_coordinator::pki::admission::{self, AdmissionRefusal};
use cutover_coordinator::pki::holding::{Holdings, HostHolding};
use cutover_coordinator::pki::{
    Ask, Authority, Given, HostRecord, Lives, Registry, RegistryError, TokenRecord, key_of_request,
};
use cutover_coordinator::reached::Reached;
use cutover_coordinator::roster::{About, Roster, RosterEvent};
use cutover_core::HostId;
use cutover_proto::identity::Identity;
use cutover_proto::tls::{
    Address, ClientTls, Connection, Credentials, DenyList, Dial, Fingerprint, Serial, Trust,
};
use cutover_proto::token::{Token, TokenHash, TokenSecret};
use cutover_proto::v1::agent_link_client::AgentLinkClient;
use cutover_proto::v1::enrolment_server::{Enrolment, EnrolmentServer};
use cutover_proto::v1::{
    EnrollRequest, EnrollResponse, FromAgent, Hello, RenewRequest, RenewResponse, ToAgent,
    from_agent, to_agent,
};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};

/// Longer than anything here takes; a wait that reaches it has failed.
pub const LONG: Duration = Duration::from_secs(20);

/// Tokens and hosts, kept in memory.
#[derive(Default)]
pub struct Memory(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    tokens: BTreeMap<TokenHash, TokenRecord>,
    hosts: BTreeMap<HostId, HostRecord>,
}

impl Memory {
    pub fn token(&self, token: TokenRecord) {
        self.0.lock().unwrap().tokens.insert(token.hash, token);
    }

    pub fn host(&self, name: &str) -> Option<HostRecord> {
        self.0.lock().unwrap().hosts.get(&host(name)).cloned()
    }

    pub fn put(&self, record: HostRecord) {
        self.0
            .lock()
            .unwrap()
            .hosts
            .insert(record.host.clone(), record);
    }

    pub fn remove(&self, name: &str) -> Vec<Serial> {
        let removed = self.0.lock().unwrap().hosts.remove(&host(name));
        removed
            .map(|host| host.given.into_iter().map(|given| given.serial).collect())
            .unwrap_or_default()
    }

    /// Everything that could have changed.
    pub fn snapshot(&self) -> String {
        let kept = self.0.lock().unwrap();
        format!("{:?} {:?}", kept.tokens, kept.hosts)
    }
}

#[tonic::async_trait]
impl Registry for Memory {
    async fn admit(&self, ask: Ask, now: SystemTime) -> Result<HostRecord, RegistryError> {
        let mut kept = self.0.lock().unwrap();
        let (token, host) = admission::admit(
            kept.tokens.get(&ask.token),
            kept.hosts.get(&ask.host),
            &ask,
            now,
        )?;
        kept.tokens.insert(token.hash, token);
        kept.hosts.insert(host.host.clone(), host.clone());
        Ok(host)
    }

    async fn renew(
        &self,
        host: &HostId,
        key: Fingerprint,
        given: Given,
        now: SystemTime,
    ) -> Result<HostRecord, RegistryError> {
        let mut kept = self.0.lock().unwrap();
        let record = admission::renew(kept.hosts.get(host), host, key, given, now)?;
        kept.hosts.insert(host.clone(), record.clone());
        Ok(record)
    }

    async fn speak(
        &self,
        host: &HostId,
        machine_id: &str,
        shown: &Serial,
    ) -> Result<HostRecord, RegistryError> {
        let mut kept = self.0.lock().unwrap();
        if let Some(changed) = admission::speak(kept.hosts.get(host), host, machine_id, shown)? {
            kept.hosts.insert(host.clone(), changed.clone());
            changed.refuse_quarantined()?;
        }
        Ok(kept.hosts[host].clone())
    }
}

/// Stands for the operators' service: says who asked, and counts.
#[derive(Clone, Default)]
pub struct Operators(pub Arc<Mutex<Vec<Identity>>>);

#[tonic::async_trait]
impl Enrolment for Operators {
    async fn enroll(
        &self,
        request: Request<EnrollRequest>,
    ) -> Result<Response<EnrollResponse>, Status> {
        let identity = request
            .extensions()
            .get::<Identity>()
            .expect("the gate says who asks")
            .clone();
        assert_eq!(
            request
                .extensions()
                .get::<Caller>()
                .expect("and from where")
                .identity(),
            &identity
        );
        self.0.lock().unwrap().push(identity.clone());
        Ok(Response::new(EnrollResponse {
            host_id: identity.to_string(),
            ..Default::default()
        }))
    }

    async fn renew(&self, _: Request<RenewRequest>) -> Result<Response<RenewResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }
}

/// A coordinator's gates.
pub struct Coordinator {
    pub folder: tempfile::TempDir,
    pub authority: Arc<Authority>,
    pub registry: Arc<Memory>,
    pub denied: Arc<DenyList>,
    pub refusals: Arc<Refusals>,
    pub operators: Operators,
    pub roster: Arc<Roster>,
    pub gates: Gates,
    pub events: mpsc::Receiver<RosterEvent>,
    serving: tokio::task::JoinHandle<()>,
}

impl Coordinator {
    pub fn start() -> Self {
        Self::start_with(Lives::default())
    }

    pub fn start_with(lives: Lives) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::init(folder.path(), &addresses(), SystemTime::now())
            .unwrap()
            .with_lives(lives);
        let any = "127.0.0.1:0".parse().unwrap();
        Self::open(
            folder,
            Arc::new(authority),
            Arc::default(),
            Arc::default(),
            [any, any],
        )
    }

    /// The same coordinator again: same CA, same registry, same addresses.
    pub async fn restart(self) -> Self {
        let at = [self.gates.main, self.gates.enrolment];
        self.gates.close().await;
        self.serving.await.unwrap();
        Self::open(self.folder, self.authority, self.registry, self.denied, at)
    }

    /// The same, with the CAs as they lie in its folder now.
    pub async fn restart_anew(mut self) -> Self {
        self.authority = Arc::new(Authority::load(self.folder.path()).unwrap());
        self.restart().await
    }

    pub async fn stop(self) -> Duration {
        let from = tokio::time::Instant::now();
        self.gates.close().await;
        tokio::time::timeout(LONG, self.serving)
            .await
            .expect("serving ends")
            .unwrap();
        from.elapsed()
    }

    fn open(
        folder: tempfile::TempDir,
        authority: Arc<Authority>,
        registry: Arc<Memory>,
        denied: Arc<DenyList>,
        at: [std::net::SocketAddr; 2],
    ) -> Self {
        let refusals = Arc::<Refusals>::default();
        let operators = Operators::default();
        let (sender, events) = mpsc::channel(1024);
        let about = About {
            coordinator_id: "c1".to_owned(),
            epoch: 1,
            lease_seconds: 30,
            holding: authority.holding().clone(),
        };
        let roster = Roster::new(about, Arc::clone(&registry) as Arc<dyn Registry>, sender);
        let (credentials, _) = authority
            .own(folder.path(), &addresses(), SystemTime::now(), 1.0)
            .unwrap();
        let doors = Doors {
            main: at[0],
            enrolment: at[1],
            credentials,
            trust: authority.trust().unwrap(),
            denied: Arc::clone(&denied),
            refusals: Arc::clone(&refusals),
        };
        let enrolment = EnrolmentService {
            authority: Arc::clone(&authority),
            registry: Arc::clone(&registry) as Arc<dyn Registry>,
            denied: Arc::clone(&denied),
            reached: Reached::by(addresses()).unwrap(),
            port: None,
            refusals: Arc::clone(&refusals),
        };
        let more = Routes::new(EnrolmentServer::new(operators.clone()));
        let (gates, serving) = Gates::open(doors, Arc::clone(&roster), enrolment, more).unwrap();
        let serving = tokio::spawn(async move { serving.await.unwrap() });
        Self {
            folder,
            authority,
            registry,
            denied,
            refusals,
            operators,
            roster,
            gates,
            events,
            serving,
        }
    }

    pub fn main(&self) -> Address {
        address(self.gates.main)
    }

    pub fn enrolment(&self) -> Address {
        address(self.gates.enrolment)
    }

    pub fn trust(&self) -> Trust {
        self.authority.trust().unwrap()
    }

    /// What every host is known to hold, as the program is told it.
    pub fn holdings(&self) -> Holdings {
        let kept = self.registry.0.lock().unwrap();
        let hosts = kept.hosts.values().map(|record| {
            HostHolding::new(record.host.to_string(), String::new(), record.holding())
        });
        Holdings::new(self.authority.holding(), hosts.collect())
    }

    /// A token that opens so often, for so long.
    pub fn token(&self, uses_left: u32, life: Duration) -> Token {
        let secret = TokenSecret::from_bytes(cutover_proto::tls::random().unwrap());
        let expires = SystemTime::now() + life;
        let labels = BTreeMap::from([("role".to_owned(), "web".to_owned())]);
        self.registry.token(TokenRecord {
            hash: secret.hash(),
            expires,
            uses_left,
            labels,
        });
        Token {
            ca: self.authority.fingerprint(),
            expires,
            secret,
        }
    }

    pub fn wish(&self, name: &str, token: Token) -> Wish {
        Wish {
            coordinator: self.enrolment(),
            token,
            host: host(name),
            machine_id: format!("machine-of-{name}"),
            labels: BTreeMap::new(),
        }
    }

    /// Enrols as the agent does.
    pub async fn enrolled(&self, folder: &Path, name: &str) -> Membership {
        let token = self.token(1, LONG);
        match enroll(folder, self.wish(name, token)).await.unwrap() {
            Enrolled::New(membership) => membership,
            Enrolled::Already(_) => panic!("{name} was enrolled already"),
        }
    }

    /// A host that the registry knows, with a certificate issued at `at`.
    pub fn known_host(&self, name: &str, at: SystemTime) -> Credentials {
        let (credentials, csr) = certificate(&self.authority, name, at);
        self.registry.put(HostRecord {
            host: host(name),
            machine_id: format!("machine-of-{name}"),
            key: key_of_request(&host(name), &csr).unwrap(),
            labels: BTreeMap::new(),
            given: vec![Given {
                serial: Serial::of_certificate(credentials.certificate()).unwrap(),
                until: at,
                holding: Some(self.authority.holding().clone()),
            }],
            shown: None,
            token: Fingerprint::of(b"none"),
            standing: admission::Standing::Good,
        });
        credentials
    }

    pub fn operator(&self, name: &str) -> Credentials {
        let issued = self
            .authority
            .operator(&name.parse().unwrap(), SystemTime::now())
            .unwrap();
        Credentials::from_pem(&issued.certificate_pem, issued.key_pem.unwrap().expose()).unwrap()
    }

    /// Connects with these, once.
    pub async fn connect(&self, credentials: &Credentials) -> Connection {
        self.dial(credentials).connect().await.expect("connected")
    }

    pub fn dial(&self, credentials: &Credentials) -> Dial {
        Dial::new(
            self.main(),
            Arc::new(ClientTls::mutual(credentials, &self.trust()).unwrap()),
        )
    }

    pub async fn event(&mut self) -> RosterEvent {
        tokio::time::timeout(LONG, self.events.recv())
            .await
            .expect("an event in time")
            .expect("an event")
    }

    /// The reasons of all refusals, once there are so many.
    pub async fn refused(&self, count: usize) -> Vec<String> {
        let reasons = || {
            self.refusals
                .recent()
                .into_iter()
                .map(|refusal| refusal.reason)
                .collect::<Vec<_>>()
        };
        within(|| reasons().len() >= count, "refusals").await;
        let reasons = reasons();
        assert_eq!(reasons.len(), count, "{reasons:?}");
        reasons
    }

    /// Nothing was opened, changed or asked.
    pub fn assert_untouched(&mut self, before: &str) {
        assert_eq!(self.registry.snapshot(), before);
        assert!(self.roster.present().is_empty());
        assert!(self.operators.0.lock().unwrap().is_empty());
        assert!(self.events.try_recv().is_err());
    }
}

/// A certificate of `authority` for a host, issued at `at`, and its request.
pub fn certificate(authority: &Authority, name: &str, at: SystemTime) -> (Credentials, Vec<u8>) {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let csr = request(&key);
    let issued = authority.agent(&host(name), &csr, at).unwrap();
    (
        Credentials::from_pem(&issued.certificate_pem, &key.serialize_pem()).unwrap(),
        csr,
    )
}

pub fn request(key: &KeyPair) -> Vec<u8> {
    CertificateParams::default()
        .serialize_request(key)
        .unwrap()
        .der()
        .to_vec()
}

/// An agent's end of one session, as a puppet.
pub struct Puppet {
    pub first: Option<to_agent::What>,
    pub incoming: Streaming<ToAgent>,
    pub outgoing: mpsc::Sender<FromAgent>,
    pub connection: Connection,
}

impl Puppet {
    pub async fn open(connection: Connection, hello: Hello) -> Result<Self, Status> {
        let (outgoing, stream) = mpsc::channel(16);
        outgoing
            .try_send(FromAgent {
                what: Some(from_agent::What::Hello(hello)),
            })
            .unwrap();
        let mut client = AgentLinkClient::new(connection.channel.clone());
        let mut incoming = client
            .session(ReceiverStream::new(stream))
            .await?
            .into_inner();
        let first = incoming.message().await?.and_then(|first| first.what);
        Ok(Self {
            first,
            incoming,
            outgoing,
            connection,
        })
    }

    pub fn welcomed(self) -> Self {
        assert!(
            matches!(self.first, Some(to_agent::What::Welcome(_))),
            "{:?}",
            self.first
        );
        self
    }

    pub fn refused(self) -> cutover_proto::v1::Refused {
        match self.first {
            Some(to_agent::What::Refused(refused)) => refused,
            other => panic!("not refused: {other:?}"),
        }
    }

    /// What still comes, until the end of the stream.
    pub async fn rest(mut self) -> Vec<to_agent::What> {
        let mut rest = Vec::new();
        let end = async {
            while let Ok(Some(message)) = self.incoming.message().await {
                rest.extend(message.what);
            }
        };
        tokio::time::timeout(LONG, end)
            .await
            .expect("the stream ends");
        rest
    }
}

pub fn hello(name: &str) -> Hello {
    Hello {
        protocol: cutover_proto::PROTOCOL,
        oldest_protocol: cutover_proto::OLDEST_PROTOCOL,
        agent_version: "test".to_owned(),
        host_id: name.to_owned(),
        machine_id: format!("machine-of-{name}"),
        ..Hello::default()
    }
}

pub fn host(name: &str) -> HostId {
    name.parse().unwrap()
}

pub fn addresses() -> Vec<String> {
    vec!["127.0.0.1".to_owned(), "localhost".to_owned()]
}

pub fn address(at: std::net::SocketAddr) -> Address {
    at.to_string().parse().unwrap()
}

/// Looks until it is so.
pub async fn within(so: impl Fn() -> bool, what: &str) {
    let deadline = tokio::time::Instant::now() + LONG;
    let mut look = tokio::time::interval(Duration::from_millis(5));
    while !so() {
        assert!(
            tokio::time::Instant::now() < deadline,
            "waited in vain for {what}"
        );
        look.tick().await;
    }
}

/// Whether an error of the agent's is this refusal, by its words.
pub fn says(error: &dyn std::error::Error, refusal: &AdmissionRefusal) {
    assert!(error.to_string().contains(&refusal.to_string()), "{error}");
}
