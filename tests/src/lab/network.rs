//! A network of namespaces: one bridge, a namespace with an address for each node, cuts by nftables.
//!
//! | address | who |
//! |---|---|
//! | `.1` | the test itself, as a client |
//! | `.2` | the servers (MongoDB, RabbitMQ, …) |
//! | `.11`, `.12`, … | the nodes |

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Removed, with everything that runs in it, when dropped.
#[derive(Debug)]
pub struct Network {
    /// Begins the names of all interfaces and namespaces of this network.
    prefix: String,
    /// `10.a.b`.
    net: String,
    nodes: usize,
    scratch: tempfile::TempDir,
}

fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).output().with_context(|| format!("can't run {program}"))?;
    if !output.status.success() {
        bail!("{program} {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn ip(arguments: &str) -> Result<String> {
    run("ip", &arguments.split(' ').collect::<Vec<_>>())
}

impl Network {
    /// Whether this process may make namespaces; says why not.
    pub fn possible() -> bool {
        let name = format!("sqtry{}", std::process::id());
        match ip(&format!("netns add {name}")) {
            Ok(_) => ip(&format!("netns del {name}")).is_ok(),
            Err(error) => {
                eprintln!("SKIPPED: network namespaces can't be made here ({error})");
                false
            }
        }
    }

    pub fn new(nodes: usize) -> Result<Self> {
        let number: u16 = rand::random();
        let prefix = format!("sq{number:04x}");
        let net = format!("10.{}.{}", 100 + number % 100, number >> 8);
        let network = Self { prefix, net, nodes: 0, scratch: tempfile::tempdir()? };
        let bridge = &network.prefix;
        // With an address of its own: else it takes the lowest of its ports', so that a node that joins would change
        // it, and the others went on sending to the old one until they ask anew.
        ip(&format!("link add {bridge} address 02:00:5e:00:53:01 type bridge"))?;
        ip(&format!("addr add {}/24 dev {bridge}", network.client()))?;
        ip(&format!("addr add {}/24 dev {bridge}", network.servers()))?;
        ip(&format!("link set {bridge} up"))?;
        let mut network = network;
        for _ in 0..nodes {
            network.add()?;
        }
        Ok(network)
    }

    /// Adds a namespace; its index.
    pub fn add(&mut self) -> Result<usize> {
        let node = self.nodes;
        self.nodes += 1;
        let (space, bridge) = (self.space(node), self.prefix.clone());
        let outside = format!("{bridge}v{node}");
        ip(&format!("netns add {space}"))?;
        ip(&format!("link add {outside} type veth peer name eth0 netns {space}"))?;
        ip(&format!("link set {outside} master {bridge} up"))?;
        ip(&format!("-n {space} link set lo up"))?;
        ip(&format!("-n {space} addr add {}/24 dev eth0", self.address(node)))?;
        ip(&format!("-n {space} link set eth0 up"))?;
        Ok(node)
    }

    fn space(&self, node: usize) -> String {
        format!("{}n{node}", self.prefix)
    }

    pub fn client(&self) -> String {
        format!("{}.1", self.net)
    }

    pub fn servers(&self) -> String {
        format!("{}.2", self.net)
    }

    pub fn address(&self, node: usize) -> String {
        format!("{}.{}", self.net, 11 + node)
    }

    /// A command that runs in the node's namespace.
    pub fn command(&self, node: usize, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.space(node)]).arg(program);
        command
    }

    /// Drops everything between the node and these addresses, in both directions.
    pub fn cut(&self, node: usize, from: &[String]) -> Result<()> {
        let list = from.join(", ");
        let rules = format!(
            "table ip cut {{\n  chain input {{\n    type filter hook input priority 0;\n    ip saddr {{ {list} }} drop\n  }}\n  \
             chain output {{\n    type filter hook output priority 0;\n    ip daddr {{ {list} }} drop\n  }}\n}}\n"
        );
        self.nft(node, &rules)
    }

    /// Drops only what the node would receive from these addresses.
    pub fn deafen(&self, node: usize, to: &[String]) -> Result<()> {
        let list = to.join(", ");
        let rules = format!(
            "table ip cut {{\n  chain input {{\n    type filter hook input priority 0;\n    ip saddr {{ {list} }} drop\n  }}\n}}\n"
        );
        self.nft(node, &rules)
    }

    fn nft(&self, node: usize, rules: &str) -> Result<()> {
        let file = self.scratch.path().join(format!("cut{node}.nft"));
        fs::write(&file, rules)?;
        self.heal(node)?;
        let file = file.to_string_lossy();
        run("ip", &["netns", "exec", &self.space(node), "nft", "-f", &file]).map(drop)
    }

    /// Ends every cut of the node.
    pub fn heal(&self, node: usize) -> Result<()> {
        // There may be none.
        let _ = run("ip", &["netns", "exec", &self.space(node), "nft", "delete", "table", "ip", "cut"]);
        Ok(())
    }

    /// SIGKILL to everything in the namespace at once: the box lost its power.
    pub fn power_off(&self, node: usize) {
        for _ in 0..3 {
            let pids = ip(&format!("netns pids {}", self.space(node))).unwrap_or_default();
            for pid in pids.lines().filter_map(|line| line.trim().parse::<i32>().ok()) {
                let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
            }
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for node in 0..self.nodes {
            self.power_off(node);
            let _ = ip(&format!("netns del {}", self.space(node)));
        }
        let _ = ip(&format!("link del {}", self.prefix));
    }
}
