//! HAProxy in front of a laboratory's nodes, configured as `make cluster` configures it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use super::Lab;
use crate::api::Api;
use crate::wait::eventually;

/// Ended when dropped.
#[derive(Debug)]
pub struct Balancer {
    /// `http://127.0.0.1:PORT`.
    pub base: String,
    child: Child,
}

/// HAProxy, unless it isn't installed.
fn program() -> Option<PathBuf> {
    let places = ["/usr/sbin/haproxy", "/usr/local/sbin/haproxy", "/usr/bin/haproxy"];
    places.into_iter().map(PathBuf::from).find(|place| place.exists())
}

impl Balancer {
    /// In front of all nodes that the laboratory has now. `None`, with a word why, where HAProxy isn't installed.
    pub async fn start(lab: &Lab) -> Result<Option<Self>> {
        let Some(program) = program() else {
            let required = std::env::var("SQUALL_TEST_REQUIRE_SERVERS").is_ok_and(|value| value == "1");
            anyhow::ensure!(!required, "haproxy isn't installed, and SQUALL_TEST_REQUIRE_SERVERS=1");
            eprintln!("SKIPPED: haproxy isn't installed");
            return Ok(None);
        };
        let template = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/cluster/haproxy.cfg.in");
        let port = servers::free_port();
        let mut config = fs::read_to_string(&template)?.replace("@PORT@", &port.to_string());
        for node in &lab.nodes {
            let address = node.base.strip_prefix("http://").context("not a URL")?;
            config += &format!("    server {} {address}\n", node.name);
        }
        let file = lab.dir.join("haproxy.cfg");
        fs::write(&file, config)?;
        let log = fs::File::create(lab.dir.join("haproxy.log"))?;
        let child = Command::new(program)
            .args(["-db", "-f"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let balancer = Self { base: format!("http://127.0.0.1:{port}"), child };
        let api = Api::anonymous(&balancer.base);
        eventually("the balancer has nodes", Duration::from_secs(20), || async {
            api.health("serving").await.ok().filter(|reply| reply.status == 200)
        })
        .await;
        Ok(Some(balancer))
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
