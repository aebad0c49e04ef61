//! Redis.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::binaries;
use crate::ports::free_port;
use crate::process::{Process, listens, private_dir};

/// One server, without persistence: a restart loses everything, as the fault tests want it.
#[derive(Debug)]
pub struct Redis {
    pub process: Process,
    pub port: u16,
    bind: String,
}

impl Redis {
    pub fn private() -> Result<Self> {
        Self::start_new(&private_dir("redis")?, "127.0.0.1")
    }

    pub fn start_new(dir: &Path, bind: &str) -> Result<Self> {
        fs::create_dir_all(dir)?;
        let mut server = Self { process: Process::new("redis-server", dir), port: free_port(), bind: bind.to_owned() };
        server.start()?;
        Ok(server)
    }

    pub fn start(&mut self) -> Result<()> {
        let mut command = Command::new(binaries::find("SQUALL_TEST_BIN_REDIS_SERVER", "redis-server", &[])?);
        let addresses = if self.bind == "127.0.0.1" { self.bind.clone() } else { format!("127.0.0.1 {}", self.bind) };
        command.args(["--port", &self.port.to_string(), "--bind"]).args(addresses.split(' '));
        command.args(["--save", "", "--appendonly", "no", "--protected-mode", "no", "--dir"]).arg(self.process.dir());
        let port = self.port;
        self.process.start(&mut command, Duration::from_secs(20), || Ok(listens(port)))
    }

    /// Sends one inline command and returns the answer's first line.
    pub fn command(&self, line: &str) -> Result<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(format!("{line}\r\n").as_bytes())?;
        let mut buffer = [0; 512];
        let read = stream.read(&mut buffer)?;
        let answer = String::from_utf8_lossy(&buffer[..read]).lines().next().unwrap_or_default().to_owned();
        if answer.starts_with('-') {
            bail!("{line}: {answer}");
        }
        Ok(answer)
    }

    pub fn address(&self) -> String {
        format!("{}:{}", self.bind, self.port)
    }
}
