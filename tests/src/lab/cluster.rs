//! The nodes of a laboratory, and what can be done to them.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use servers::{Postgres, Rabbit, Redis, ReplicaSet, ZooKeeper};

use super::network::Network;
use crate::api::Api;
use crate::node::binary;
use crate::wait::eventually;

pub const PASSWORD: &str = "correct-horse-battery";
const HTTP: u16 = 8080;
const RAFT: u16 = 7300;
/// Debug build, busy machine.
const START: Duration = Duration::from_secs(90);

/// Who gives out permits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Backend {
    #[default]
    Raft,
    Redis,
    ZooKeeper,
}

#[derive(Debug, Clone)]
pub struct LabOptions {
    pub nodes: usize,
    pub mongo_members: usize,
    pub backend: Backend,
    /// Further lines for every node's configuration, by section: `("runners", "max_concurrent = 4")`.
    pub config: Vec<(&'static str, String)>,
    /// Where `squall` lies; beside the test if not given.
    pub bin_dir: Option<PathBuf>,
}

impl LabOptions {
    fn program(&self) -> PathBuf {
        self.bin_dir.as_ref().map_or_else(|| binary("squall"), |dir| dir.join("squall"))
    }
}

impl Default for LabOptions {
    fn default() -> Self {
        Self { nodes: 3, mongo_members: 1, backend: Backend::default(), config: Vec::new(), bin_dir: None }
    }
}

/// One node.
#[derive(Debug)]
pub struct Member {
    pub name: String,
    pub index: usize,
    /// `http://ADDRESS:8080`.
    pub base: String,
    pub dir: PathBuf,
    /// From its next start on it runs this sensor alone.
    pub sensor_ref: Option<String>,
    child: Option<Child>,
}

impl Member {
    pub fn is_up(&self) -> bool {
        self.child.is_some()
    }

    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    pub fn log(&self) -> String {
        fs::read(self.dir.join("node.log")).map(|text| String::from_utf8_lossy(&text).into_owned()).unwrap_or_default()
    }
}

/// Servers, nodes and the network between them.
#[derive(Debug)]
pub struct Lab {
    // Nodes end before the servers and the network.
    pub nodes: Vec<Member>,
    pub mongo: ReplicaSet,
    pub rabbit: Rabbit,
    pub postgres: Postgres,
    pub redis: Option<Redis>,
    pub zookeeper: Option<ZooKeeper>,
    pub network: Network,
    pub dir: PathBuf,
    options: LabOptions,
}

impl Lab {
    /// `None`, with a word why, where this process may not make namespaces.
    pub async fn start(options: LabOptions) -> Result<Option<Self>> {
        if !Network::possible() {
            let required = std::env::var("SQUALL_TEST_REQUIRE_LAB").is_ok_and(|value| value == "1");
            anyhow::ensure!(!required, "network namespaces can't be made, and SQUALL_TEST_REQUIRE_LAB=1");
            return Ok(None);
        }
        let mut lab = tokio::task::spawn_blocking(move || Self::prepare(options)).await??;
        for index in 0..lab.nodes.len() {
            lab.launch(index)?;
        }
        for index in 0..lab.nodes.len() {
            lab.wait_ready(index, START).await;
        }
        Ok(Some(lab))
    }

    fn prepare(options: LabOptions) -> Result<Self> {
        let dir = servers::private_dir("lab")?;
        let network = Network::new(options.nodes)?;
        let address = network.servers();
        let (mongo, rabbit, postgres, redis, zookeeper) = std::thread::scope(|scope| -> Result<_> {
            let mongo = scope.spawn(|| ReplicaSet::start(&dir.join("mongodb"), options.mongo_members, &address));
            let rabbit = scope.spawn(|| Rabbit::start_new(&dir.join("rabbitmq"), &address));
            let postgres = scope.spawn(|| Postgres::start_new(&dir.join("postgres"), &address));
            let redis = (options.backend == Backend::Redis)
                .then(|| Redis::start_new(&dir.join("redis"), &address))
                .transpose()?;
            let zookeeper = (options.backend == Backend::ZooKeeper)
                .then(|| ZooKeeper::start_new(&dir.join("zookeeper"), &address))
                .transpose()?;
            let panicked = "a server's start panicked";
            Ok((
                mongo.join().ok().context(panicked)??,
                rabbit.join().ok().context(panicked)??,
                postgres.join().ok().context(panicked)??,
                redis,
                zookeeper,
            ))
        })?;
        let mut lab = Self { nodes: Vec::new(), mongo, rabbit, postgres, redis, zookeeper, network, dir, options };
        squall(&lab.options.program(), &["cluster", "init-ca", "--name", "lab", "--dir"], &lab.dir.join("ca"))?;
        for index in 0..lab.options.nodes {
            lab.add_member(index)?;
        }
        Ok(lab)
    }

    fn add_member(&mut self, index: usize) -> Result<()> {
        let name = format!("n{}", index + 1);
        let dir = self.dir.join(&name);
        fs::create_dir_all(&dir)?;
        let address = self.network.address(index);
        let ca = self.dir.join("ca");
        squall(
            &self.options.program(),
            &["cluster", "cert", "--name", &name, "--host", &address, "--ca-dir", &ca.to_string_lossy(), "--out"],
            &dir,
        )?;
        self.nodes.push(Member {
            name,
            index,
            base: format!("http://{address}:{HTTP}"),
            dir,
            sensor_ref: None,
            child: None,
        });
        Ok(())
    }

    /// Adds a node with the given roles (all if none) and starts it; its index.
    pub async fn add_node(&mut self, roles: &[&str]) -> Result<usize> {
        let index = self.network.add()?;
        self.add_member(index)?;
        let roles: Vec<String> = roles.iter().map(|role| format!("\"{role}\"")).collect();
        let line = if roles.is_empty() { String::new() } else { format!("roles = [{}]\n", roles.join(", ")) };
        fs::write(self.nodes[index].dir.join("roles"), line)?;
        self.launch(index)?;
        self.wait_live(index).await;
        Ok(index)
    }

    /// Until the node's process answers at all.
    async fn wait_live(&self, index: usize) {
        let api = Api::anonymous(&self.nodes[index].base);
        eventually(&format!("{} answers", self.nodes[index].name), START, || async {
            api.health("live").await.ok().filter(|reply| reply.status == 200)
        })
        .await;
    }

    /// The node's configuration file.
    pub fn config(&self, index: usize) -> String {
        let node = &self.nodes[index];
        let address = self.network.address(index);
        let dir = node.dir.display();
        let peers: Vec<String> =
            (0..self.options.nodes).map(|peer| format!("\"{}:{RAFT}\"", self.network.address(peer))).collect();
        let roles = fs::read_to_string(node.dir.join("roles")).unwrap_or_default();
        let coordinator = match (&self.redis, &self.zookeeper) {
            (Some(redis), _) => format!("backend = \"redis\"\nurl = \"redis://{}\"\n", redis.address()),
            (_, Some(keeper)) => format!("backend = \"zookeeper\"\nurl = \"zookeeper://{}/lab\"\n", keeper.address()),
            _ => String::new(),
        };
        let mut sections = vec![
            ("node", format!("name = \"{}\"\ndata_dir = \"{dir}/data\"\n{roles}", node.name)),
            ("listen", format!("combined = \"{address}:{HTTP}\"\n")),
            (
                "cluster",
                format!(
                    "listen = \"{address}:{RAFT}\"\npeers = [{}]\nbootstrap_expect = {}\nca_file = \"{}/ca/ca.pem\"\n\
                     cert_file = \"{dir}/cert.pem\"\nkey_file = \"{dir}/key.pem\"\n",
                    peers.join(", "),
                    self.options.nodes,
                    self.dir.display(),
                ),
            ),
            ("store", format!("url = \"{}\"\n", self.mongo.uri())),
            ("bus", format!("urls = [\"{}\"]\n", self.rabbit.url())),
            ("workflow", format!("url = \"{}\"\n", self.postgres.url())),
            ("coordinator", coordinator),
        ];
        for (section, line) in &self.options.config {
            // A node's own roles come before everybody's.
            if *section == "node" && line.starts_with("roles") && !roles.is_empty() {
                continue;
            }
            match sections.iter_mut().find(|(name, _)| name == section) {
                Some((_, text)) => *text += &format!("{line}\n"),
                None => sections.push((section, format!("{line}\n"))),
            }
        }
        sections.iter().map(|(name, text)| format!("[{name}]\n{text}\n")).collect()
    }

    /// Starts the node's process, whatever it finds.
    pub fn launch(&mut self, index: usize) -> Result<()> {
        let config = self.nodes[index].dir.join("config.toml");
        fs::write(&config, self.config(index))?;
        let node = &mut self.nodes[index];
        anyhow::ensure!(node.child.is_none(), "{} runs already", node.name);
        let log = File::options().create(true).append(true).open(node.dir.join("node.log"))?;
        let level = std::env::var("SQUALL_TEST_LOG").unwrap_or_else(|_| "info,openraft=warn".to_owned());
        let mut command = self.network.command(index, &self.options.program());
        // Numbers for benchmarks are no configuration.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SQUALL_BENCH")) {
            command.env_remove(name);
        }
        if let Some(sensor) = &node.sensor_ref {
            command.env("SQUALL_SENSORS__ONLY", sensor);
        }
        let child = command
            .args(["server", "--config"])
            .arg(&config)
            .env("SQUALL_ADMIN_PASSWORD", PASSWORD)
            .env("SQUALL_LOG__LEVEL", level)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("can't start squall")?;
        node.child = Some(child);
        Ok(())
    }

    pub async fn wait_ready(&self, index: usize, within: Duration) {
        let api = Api::anonymous(&self.nodes[index].base);
        eventually(&format!("{} is ready", self.nodes[index].name), within, || async {
            api.health("ready").await.ok().filter(|reply| reply.status == 200)
        })
        .await;
    }

    /// Starts the node and waits until it is ready.
    pub async fn restart(&mut self, index: usize) -> Result<()> {
        self.launch(index)?;
        self.wait_ready(index, START).await;
        Ok(())
    }

    /// The box loses its power: everything in it is killed at once.
    pub fn kill(&mut self, index: usize) {
        self.network.power_off(index);
        if let Some(mut child) = self.nodes[index].child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    pub fn signal(&self, index: usize, signal: Signal) {
        if let Some(pid) = self.nodes[index].pid().and_then(|pid| i32::try_from(pid).ok()) {
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }

    /// SIGTERM, and waits for the end of the process.
    pub async fn stop(&mut self, index: usize, within: Duration) -> Result<()> {
        self.signal(index, Signal::SIGTERM);
        let mut child = self.nodes[index].child.take().context("the node isn't running")?;
        let end = Instant::now() + within;
        while child.try_wait()?.is_none() {
            if Instant::now() > end {
                let _ = child.kill();
                let _ = child.wait();
                bail!("{} didn't stop within {within:?}", self.nodes[index].name);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Addresses of all nodes but this one.
    pub fn others(&self, index: usize) -> Vec<String> {
        (0..self.nodes.len()).filter(|other| *other != index).map(|other| self.network.address(other)).collect()
    }

    pub fn bases(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.base.clone()).collect()
    }

    /// The administrator at this node.
    pub async fn admin(&self, index: usize) -> Api {
        let base = &self.nodes[index].base;
        eventually("the administrator logs in", START, || async { Api::login(base, "st2admin", PASSWORD).await.ok() })
            .await
    }

    /// What a node says of the cluster, over the API.
    pub async fn status(&self, api: &Api) -> Option<Value> {
        api.get("/v1/cluster/status").await.inspect_err(|error| println!("no status: {error:#}")).ok()
    }

    fn index_of(&self, name: &str) -> Option<usize> {
        self.nodes.iter().position(|node| node.name == name)
    }

    /// Index of the leader, as this node knows it.
    pub async fn leader(&self, api: &Api) -> Option<usize> {
        let status = self.status(api).await?;
        self.index_of(status["leader"].as_str()?)
    }

    /// Index of a duty's holder.
    pub async fn holder(&self, api: &Api, duty: &str) -> Option<usize> {
        let status = self.status(api).await?;
        let duties = status["duties"].as_array()?;
        let held = duties.iter().find(|held| held["duty"] == duty)?;
        self.index_of(held["holder"].as_str()?)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for index in 0..self.nodes.len() {
            self.kill(index);
        }
        if std::thread::panicking() || std::env::var_os("SQUALL_TEST_KEEP").is_some() {
            for node in &self.nodes {
                let log = node.log();
                let tail: Vec<&str> = log.lines().rev().take(40).collect();
                eprintln!("--- last lines of {}'s log ({}) ---", node.name, node.dir.display());
                tail.into_iter().rev().for_each(|line| eprintln!("{line}"));
            }
            return;
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Runs `squall ARGUMENTS DIR`.
fn squall(program: &Path, arguments: &[&str], dir: &Path) -> Result<()> {
    let output = Command::new(program).args(arguments).arg(dir).output()?;
    if !output.status.success() {
        bail!("squall {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
