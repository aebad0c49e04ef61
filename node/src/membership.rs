//! This node's place in the group: its session, its duties, what all nodes agree on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use model::{Duty, Lease, Session};
use raft::state::SENSOR_ROLE;
use raft::{ClusterOptions, Group, Options, RaftError, TlsFiles};
use runners::sensors::partition::Pins;
use tokio::sync::watch;

use crate::cluster::door::Door;
use crate::config::{Config, Role};
use crate::data_dir::DataDir;
use crate::patience::{Backoff, Board};

/// A single box has its session within milliseconds.
const ALONE: Duration = Duration::from_secs(30);
/// How long one attempt waits for the group.
const ATTEMPT: Duration = Duration::from_secs(2);
/// A group that isn't ready is logged again after so many attempts.
const LOG_EVERY: u32 = 15;

/// How long a stop waits for others to take over.
const DRAIN: Duration = Duration::from_secs(3);

/// The node's membership.
pub struct Membership {
    group: Group,
}

impl std::fmt::Debug for Membership {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Membership").field("session", &*self.group.session().borrow()).finish_non_exhaustive()
    }
}

impl Membership {
    /// Opens the group. A node on its own has its session when this returns. One of several gets it by
    /// [`begin`](Self::begin), for with it come duties and sensors.
    pub async fn open(data: &DataDir, name: &str, config: &Config, board: &Board) -> Result<Self> {
        let mut options = options(data, name, config)?;
        options.begin_at_once = !config.cluster.is_on();
        if config.cluster.is_on() {
            Door::of_config(config)?.write(&data.root)?;
        }
        let group = Group::open(options).await.context("can't open the consensus group")?;
        if !config.cluster.is_on() {
            group.wait_ready(ALONE).await.context("the consensus group isn't ready")?;
            board.set("raft", Ok(()));
        }
        Ok(Self { group })
    }

    /// The node can do what the group asks of it: waits until it has a session.
    pub async fn begin(&self) {
        self.group.begin();
        let mut attempts = 0_u32;
        while let Err(error) = self.group.wait_ready(ATTEMPT).await {
            if attempts.is_multiple_of(LOG_EVERY) {
                let why = self.group.check().err().unwrap_or(error);
                tracing::warn!(error = %why, "the start waits for the consensus group");
            }
            attempts += 1;
        }
    }

    pub fn session(&self) -> watch::Receiver<Option<Session>> {
        self.group.session()
    }

    pub fn duty(&self, duty: Duty) -> watch::Receiver<Option<Lease>> {
        self.group.duty(duty)
    }

    /// Sessions that have not ended; none while this node isn't sure of its own.
    pub fn live_sessions(&self) -> Option<Vec<Session>> {
        self.group.live_sessions()
    }

    /// The value that the cluster has under this name: this one if there was none. Waits for a leader.
    pub async fn agree(&self, name: &str, proposal: Vec<u8>) -> Result<Vec<u8>> {
        let mut backoff = Backoff::default();
        loop {
            match self.group.agree(name, proposal.clone()).await {
                Ok(value) => return Ok(value),
                Err(error) if is_passing(&error) => {
                    tracing::info!(name, %error, "the cluster hasn't agreed yet");
                    tokio::time::sleep(backoff.next()).await;
                }
                Err(error) => return Err(error).with_context(|| format!("the cluster can't agree on '{name}'")),
            }
        }
    }

    /// The sensors that this node is to run.
    pub fn sensors(&self) -> watch::Receiver<Arc<BTreeMap<String, Lease>>> {
        self.group.sensors()
    }

    /// Tells the group which sensors there are, if it doesn't know.
    pub async fn want_sensors(&self, refs: BTreeSet<String>, pins: Pins) -> Result<(), RaftError> {
        let known = self.group.status().sensors;
        let is_known = known.len() == refs.len()
            && known.iter().all(|sensor| {
                let pinned = pins.get(&sensor.sensor).into_iter().flatten();
                !sensor.moves && refs.contains(&sensor.sensor) && pinned.eq(&sensor.pinned_to)
            });
        if is_known { Ok(()) } else { self.group.want_sensors(refs, pins).await }
    }

    /// Sensors that have a node of their own.
    pub fn dedicated_sensors(&self) -> BTreeSet<String> {
        let sessions = self.group.status().sessions;
        let roles = sessions.iter().flat_map(|session| &session.roles);
        roles.filter_map(|role| role.strip_prefix(SENSOR_ROLE)).map(str::to_owned).collect()
    }

    /// Names of all members, and of this node.
    pub fn node_names(&self) -> Vec<String> {
        let status = self.group.status();
        let members = status.members.into_iter().map(|member| member.name);
        let names: BTreeSet<String> = members.chain([status.node_name]).collect();
        names.into_iter().collect()
    }

    /// Tells that a sensor was stopped here. If that can't be told, the end of its lease tells it.
    pub async fn release_sensor(&self, sensor: &str, epoch: u64) {
        if let Err(error) = self.group.release_sensor(sensor, epoch).await {
            tracing::debug!(sensor, epoch, %error, "the release of a sensor was not taken");
        }
    }

    pub fn check(&self) -> Result<(), String> {
        self.group.check().map_err(|error| error.to_string())
    }

    pub const fn group(&self) -> &Group {
        &self.group
    }

    /// Gives duties, sensors and the leadership to other nodes, if there are any; the session lives on.
    pub async fn drain(&self) {
        match tokio::time::timeout(DRAIN, self.group.drain()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the duties can't be handed over; their leases will end"),
            Err(_) => tracing::warn!("the duties could not be handed over in time; their leases will end"),
        }
    }

    /// Hands the duties over, ends the session, closes the log.
    pub async fn shutdown(&self) {
        self.group.shutdown().await;
    }
}

fn is_passing(error: &RaftError) -> bool {
    error.is_retryable()
}

fn options(data: &DataDir, name: &str, config: &Config) -> Result<Options> {
    let mut options = Options::new(data.raft(), name);
    options.heartbeat = config.raft.heartbeat.0;
    options.election_min = config.raft.election_min.0;
    options.election_max = config.raft.election_max.0;
    options.lease = config.raft.lease.0;
    options.session_ttl = config.raft.session_ttl.0;
    options.roles = config.node.roles.iter().map(|role| role.name().to_owned()).collect();
    options.roles.extend(config.sensors.only.iter().map(|sensor| format!("{SENSOR_ROLE}{sensor}")));
    options.duties = duties(config);
    options.cluster = cluster(config)?;
    Ok(options)
}

/// How to find the other nodes, if there are others.
pub fn cluster(config: &Config) -> Result<Option<ClusterOptions>> {
    let section = &config.cluster;
    let Some(listen) = section.listen else { return Ok(None) };
    // What a token brings lies in the data directory, unless other places are given.
    let file = |path: &Option<PathBuf>, name: &str| {
        path.clone().unwrap_or_else(|| config.node.data_dir.join("pki").join(name))
    };
    let tls = TlsFiles {
        ca: file(&section.ca_file, "ca.pem"),
        cert: file(&section.cert_file, "cert.pem"),
        key: file(&section.key_file, "key.pem"),
    };
    let advertise = section.advertise.clone().unwrap_or_else(|| listen.to_string());
    Ok(Some(ClusterOptions {
        bootstrap_expect: section.bootstrap_expect,
        voter: config.node.has(Role::Raft),
        max_voters: section.max_voters,
        join_token: section.token()?,
        ca_key: section.ca_key_file.clone(),
        ..ClusterOptions::new(listen, advertise, tls, section.peers.clone())
    }))
}

/// What this node is willing to do by turns.
fn duties(config: &Config) -> BTreeSet<Duty> {
    let role = |duty: &Duty| match duty {
        Duty::Timers => config.node.has(Role::Timers) && config.timers.enable,
        Duty::GarbageCollector | Duty::BackupScheduler => config.node.has(Role::Scheduler),
    };
    Duty::ALL.into_iter().filter(role).collect()
}
