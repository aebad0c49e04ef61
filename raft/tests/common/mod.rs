//! A cluster of nodes in this process: real sockets, real TLS, real files.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)] // helpers of tests

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use raft::{ClusterOptions, Group, Options, Status, TlsFiles, pki};

pub const SOON: Duration = Duration::from_secs(20);

/// A free port below the ephemeral range: there peers that dial a dead node can't connect to themselves and hold it.
pub fn port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let base = 18_000 + u16::try_from(std::process::id() % 1_200).unwrap() * 10;
    for _ in 0..2_000 {
        let port = base.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        if port < 32_000 && std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port")
}

/// The directory of a cluster: `ca/` and a directory per node.
pub struct Cluster {
    pub root: PathBuf,
    pub ports: Vec<u16>,
    _dir: Option<tempfile::TempDir>,
}

impl Cluster {
    pub fn new(nodes: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        pki::init_ca(&dir.path().join("ca"), "test").unwrap();
        let ports = (0..nodes).map(|_| port()).collect();
        let cluster = Self { root: dir.path().to_owned(), ports, _dir: Some(dir) };
        for node in 0..nodes {
            cluster.issue(node);
        }
        cluster
    }

    /// One that another process made.
    pub fn existing(root: PathBuf, ports: Vec<u16>) -> Self {
        Self { root, ports, _dir: None }
    }

    pub fn name(node: usize) -> String {
        format!("n{node}")
    }

    pub fn path(&self, node: usize) -> PathBuf {
        self.root.join(Self::name(node))
    }

    pub fn ca(&self) -> PathBuf {
        self.root.join("ca")
    }

    pub fn issue(&self, node: usize) {
        pki::issue(&self.ca(), &self.path(node), &Self::name(node), &["127.0.0.1".to_owned()]).unwrap();
    }

    pub fn tls(&self, node: usize) -> TlsFiles {
        let (dir, name) = (self.path(node), Self::name(node));
        TlsFiles {
            ca: self.ca().join("ca.pem"),
            cert: dir.join(format!("{name}.pem")),
            key: dir.join(format!("{name}.key")),
        }
    }

    pub fn address(&self, node: usize) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.ports[node]))
    }

    pub fn options(&self, node: usize) -> Options {
        let seeds = self.ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        let listen = self.address(node);
        let cluster = ClusterOptions::new(listen, listen.to_string(), self.tls(node), seeds);
        Options {
            // Debug builds on shared cores: slower than the defaults.
            heartbeat: Duration::from_millis(150),
            election_min: Duration::from_millis(500),
            election_max: Duration::from_millis(1_000),
            lease: Duration::from_secs(3),
            session_ttl: Duration::from_secs(4),
            cluster: Some(cluster),
            ..Options::new(self.path(node).join("raft"), Self::name(node))
        }
    }

    pub async fn start(&self, node: usize) -> Group {
        Group::open(self.options(node)).await.unwrap()
    }

    /// Starts all and waits until each has its session.
    pub async fn start_all(&self) -> Vec<Group> {
        let groups = futures::future::join_all((0..self.ports.len()).map(|node| self.start(node))).await;
        for group in &groups {
            group.wait_ready(SOON).await.unwrap();
        }
        groups
    }

    /// New ports for all.
    pub fn move_all(&mut self) {
        self.ports = self.ports.iter().map(|_| port()).collect();
    }

    pub fn knows(&self, address: &str) -> bool {
        self.ports.iter().any(|port| address == format!("127.0.0.1:{port}"))
    }

    /// A certificate of our authority that ended long ago.
    pub fn expired(&self, name: &str) -> TlsFiles {
        let pem = |file: &str| std::fs::read_to_string(self.ca().join(file)).unwrap();
        let authority = rcgen::KeyPair::from_pem(&pem("ca.key")).unwrap();
        let issuer = rcgen::Issuer::from_ca_cert_pem(&pem("ca.pem"), authority).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
        let certificate = params.signed_by(&key, &issuer).unwrap();
        let dir = self.root.join("expired");
        std::fs::create_dir_all(&dir).unwrap();
        let (cert, key_file) = (dir.join("old.pem"), dir.join("old.key"));
        std::fs::write(&cert, certificate.pem()).unwrap();
        std::fs::write(&key_file, key.serialize_pem()).unwrap();
        TlsFiles { ca: self.ca().join("ca.pem"), cert, key: key_file }
    }

    pub fn forget_disk(&self, node: usize) {
        std::fs::remove_dir_all(self.path(node).join("raft")).unwrap();
    }
}

/// Waits until the condition gives something.
pub async fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < SOON, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The node that leads and knows it.
pub async fn leader(groups: &[Group]) -> usize {
    eventually("a leader", || groups.iter().position(|group| group.status().is_leader)).await
}

/// Waits until a status fits.
pub async fn status(group: &Group, what: &str, fits: impl Fn(&Status) -> bool) -> Status {
    let began = Instant::now();
    loop {
        let status = group.status();
        if fits(&status) {
            return status;
        }
        assert!(began.elapsed() < SOON, "in vain: {what}: {status:#?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until all have applied the same, and compares their states.
pub async fn settled(groups: &[Group]) {
    let began = Instant::now();
    loop {
        let all: Vec<Status> = groups.iter().map(Group::status).collect();
        if all.iter().all(|status| status.applied == all[0].applied && status.applied.is_some()) {
            assert!(all.iter().all(|status| status.state_hash == all[0].state_hash), "replicas differ");
            return;
        }
        assert!(
            began.elapsed() < SOON,
            "the nodes don't settle: {:?}",
            all.iter().map(|s| s.applied).collect::<Vec<_>>()
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
