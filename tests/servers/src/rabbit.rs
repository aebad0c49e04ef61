//! RabbitMQ: single brokers and clusters on one machine.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::binaries;
use crate::ports::{free_port, free_ports};
use crate::process::{Process, listens, private_dir, wait_for};

const START: Duration = Duration::from_secs(120);

/// One broker, with its own Erlang name server (epmd) so that others on the machine don't see it.
#[derive(Debug)]
pub struct Rabbit {
    pub process: Process,
    /// AMQP.
    pub port: u16,
    name: String,
    bind: String,
    distribution: u16,
    epmd: u16,
    /// Lines of configuration that name the cluster's brokers.
    peers: String,
    /// Parent of the directories of all brokers of a cluster; holds the shared cookie.
    home: PathBuf,
}

fn program(name: &str) -> Result<PathBuf> {
    // The scripts in /usr/sbin change the user and find another cookie.
    binaries::find(
        &format!("SQUALL_TEST_BIN_{}", name.to_uppercase().replace('-', "_")),
        &format!("{name}.none"),
        &[PathBuf::from("/usr/lib/rabbitmq/bin").join(name)],
    )
}

impl Rabbit {
    pub fn private() -> Result<Self> {
        let dir = private_dir("rabbitmq")?;
        let mut broker = Self::prepare(&dir, &dir, "127.0.0.1", free_port())?;
        broker.start()?;
        Ok(broker)
    }

    /// `bind`: the address of the AMQP listener.
    pub fn start_new(dir: &Path, bind: &str) -> Result<Self> {
        fs::create_dir_all(dir)?;
        let mut broker = Self::prepare(dir, dir, bind, free_port())?;
        broker.start()?;
        Ok(broker)
    }

    fn prepare(home: &Path, dir: &Path, bind: &str, epmd: u16) -> Result<Self> {
        fs::create_dir_all(dir)?;
        let [port, distribution] = free_ports();
        Ok(Self {
            process: Process::new("rabbitmq", dir),
            port,
            name: format!("q{port}@localhost"),
            bind: bind.to_owned(),
            distribution,
            epmd,
            peers: String::new(),
            home: home.to_owned(),
        })
    }

    fn environment(&self, command: &mut Command) {
        let dir = self.process.dir();
        command
            .env("HOME", &self.home)
            .env("RABBITMQ_NODENAME", &self.name)
            .env("RABBITMQ_NODE_PORT", self.port.to_string())
            .env("RABBITMQ_NODE_IP_ADDRESS", if self.bind == "127.0.0.1" { "127.0.0.1" } else { "0.0.0.0" })
            .env("RABBITMQ_DIST_PORT", self.distribution.to_string())
            .env("ERL_EPMD_PORT", self.epmd.to_string())
            .env("RABBITMQ_MNESIA_BASE", dir.join("mnesia"))
            .env("RABBITMQ_LOG_BASE", dir.join("logs"))
            .env("RABBITMQ_LOGS", "-")
            .env("RABBITMQ_CONFIG_FILE", dir.join("rabbitmq.conf"))
            .env("RABBITMQ_CONF_ENV_FILE", dir.join("none.conf"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", dir.join("plugins"))
            .env("RABBITMQ_PID_FILE", dir.join("rabbit.pid"))
            // Schedulers that spin while idle take a processor from everything else on the machine.
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none +A 8");
    }

    /// Starts it (again) with its data and ports.
    pub fn start(&mut self) -> Result<()> {
        let dir = self.process.dir();
        fs::write(dir.join("plugins"), "[].\n")?;
        let config = "loopback_users = none\nvm_memory_high_watermark.absolute = 512MB\n\
                      disk_free_limit.absolute = 50MB\nlog.console = true\nlog.console.level = warning\n";
        fs::write(dir.join("rabbitmq.conf"), format!("{config}{}", self.peers))?;
        // Started by us, in its group, so that it ends with the broker: erl would leave one behind.
        let mut command = Command::new("sh");
        self.environment(&mut command);
        let (epmd, server) = (self.epmd, program("rabbitmq-server")?);
        let server = server.display();
        // Those of a cluster share one, which runs already.
        let script = format!(
            "epmd -port {epmd} -names >/dev/null 2>&1 || {{ epmd -port {epmd} & \
             while ! epmd -port {epmd} -names >/dev/null 2>&1; do sleep 0.05; done; }}; exec {server}"
        );
        command.args(["-c", &script]);
        let port = self.port;
        self.process.start(&mut command, START, || Ok(listens(port)))?;
        // The listener opens before the start is through.
        wait_for("the broker is up", START, || Ok(self.control(&["await_startup"])?.status.success()))
    }

    /// Runs `rabbitmqctl`.
    pub fn control(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(program("rabbitmqctl")?);
        self.environment(&mut command);
        Ok(command.arg("-q").args(arguments).output()?)
    }

    /// Runs `rabbitmqctl`, which must succeed; returns its output.
    pub fn ctl(&self, arguments: &[&str]) -> Result<String> {
        let output = self.control(arguments)?;
        if !output.status.success() {
            bail!("rabbitmqctl {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Erlang's name of the broker, as `rabbitmqctl` shows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn url(&self) -> String {
        self.url_of("%2f")
    }

    /// `vhost`: percent-encoded.
    pub fn url_of(&self, vhost: &str) -> String {
        format!("amqp://guest:guest@{}:{}/{vhost}", self.bind, self.port)
    }
}

/// Brokers that form a cluster.
#[derive(Debug)]
pub struct RabbitCluster {
    pub brokers: Vec<Rabbit>,
    /// Serves the names of all: one that dies with its broker would take the others' with it.
    _epmd: Process,
}

impl RabbitCluster {
    pub fn private(size: usize) -> Result<Self> {
        let dir = private_dir("rabbitmq-cluster")?;
        let port = free_port();
        let folder = dir.join("epmd");
        fs::create_dir_all(&folder)?;
        let mut epmd = Process::new("epmd", &folder);
        let program = binaries::find("SQUALL_TEST_BIN_EPMD", "epmd", &[])?;
        epmd.start(Command::new(program).args(["-port", &port.to_string()]), START, || Ok(listens(port)))?;
        let mut brokers: Vec<Rabbit> = (0..size)
            .map(|at| Rabbit::prepare(&dir, &dir.join(format!("r{at}")), "127.0.0.1", port))
            .collect::<Result<_>>()?;
        // They find each other as they start; the first makes the cluster.
        let mut peers = "cluster_formation.peer_discovery_backend = classic_config\n".to_owned();
        for (at, broker) in brokers.iter().enumerate() {
            peers.push_str(&format!("cluster_formation.classic_config.nodes.{} = {}\n", at + 1, broker.name));
        }
        // Made by us: brokers that start at once would each make their own.
        fs::write(dir.join(".erlang.cookie"), "squall-tests")?;
        fs::set_permissions(dir.join(".erlang.cookie"), fs::Permissions::from_mode(0o400))?;
        std::thread::scope(|scope| {
            let starts: Vec<_> = brokers
                .iter_mut()
                .map(|broker| {
                    broker.peers.clone_from(&peers);
                    scope.spawn(|| broker.start())
                })
                .collect();
            starts.into_iter().try_for_each(|start| start.join().unwrap_or_else(|_| bail!("a broker's start panicked")))
        })?;
        let whole = |names: &str| brokers.iter().all(|broker| names.contains(&broker.name));
        wait_for("all brokers are in the cluster", START, || {
            Ok(whole(&brokers.first().context("a cluster has brokers")?.ctl(&[
                "cluster_status",
                "--formatter",
                "json",
            ])?))
        })?;
        Ok(Self { brokers, _epmd: epmd })
    }

    pub fn urls(&self) -> Vec<String> {
        self.brokers.iter().map(Rabbit::url).collect()
    }
}
