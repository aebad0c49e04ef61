//! PostgreSQL.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::binaries;
use crate::ports::free_port;
use crate::process::{Process, private_dir};

const START: Duration = Duration::from_secs(60);

/// One server with a superuser `squall` and a database `squall`, without a password on the loopback interface.
#[derive(Debug)]
pub struct Postgres {
    pub process: Process,
    pub port: u16,
    bind: String,
}

impl Postgres {
    pub fn private() -> Result<Self> {
        Self::start_new(&private_dir("postgres")?, "127.0.0.1")
    }

    /// `bind`: a further address to listen on.
    pub fn start_new(dir: &Path, bind: &str) -> Result<Self> {
        fs::create_dir_all(dir)?;
        let mut server = Self { process: Process::new("postgres", dir), port: free_port(), bind: bind.to_owned() };
        server.initialise()?;
        server.start()?;
        let made = server
            .program("createdb")?
            .args(["-h", "127.0.0.1", "-U", "squall", "-p"])
            .arg(server.port.to_string())
            .arg("squall")
            .output()?;
        if !made.status.success() {
            bail!("createdb: {}", String::from_utf8_lossy(&made.stderr));
        }
        Ok(server)
    }

    /// PostgreSQL refuses to run as root: a user namespace in which we are somebody else leaves files ours.
    fn program(&self, name: &str) -> Result<Command> {
        let debian: Vec<PathBuf> =
            binaries::versioned(Path::new("/usr/lib/postgresql")).into_iter().map(|bin| bin.join(name)).collect();
        let program = binaries::find(&format!("SQUALL_TEST_BIN_{}", name.to_uppercase()), name, &debian)?;
        if !nix::unistd::geteuid().is_root() {
            return Ok(Command::new(program));
        }
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-user=1000", "--map-group=1000"]).arg(program);
        Ok(command)
    }

    fn data(&self) -> PathBuf {
        self.process.dir().join("data")
    }

    fn initialise(&self) -> Result<()> {
        if self.data().exists() {
            return Ok(());
        }
        let mut command = self.program("initdb")?;
        command
            .args(["-A", "trust", "-U", "squall", "-E", "UTF8", "--no-locale", "--no-instructions", "-D"])
            .arg(self.data());
        let made = command.output()?;
        if !made.status.success() {
            bail!("initdb: {}", String::from_utf8_lossy(&made.stderr));
        }
        if self.bind != "127.0.0.1" {
            let rule = "host all all samenet trust\n";
            fs::write(
                self.data().join("pg_hba.conf"),
                format!("local all all trust\nhost all all 127.0.0.1/32 trust\n{rule}"),
            )?;
        }
        Ok(())
    }

    /// Starts it (again) with its data and port.
    pub fn start(&mut self) -> Result<()> {
        let mut command = self.program("postgres")?;
        let listen = if self.bind == "127.0.0.1" { "127.0.0.1".to_owned() } else { format!("127.0.0.1,{}", self.bind) };
        command.arg("-D").arg(self.data()).arg("-p").arg(self.port.to_string());
        command.arg("-h").arg(listen).arg("-k").arg("").args([
            "-c",
            "shared_buffers=32MB",
            "-c",
            "max_connections=100",
        ]);
        let mut ready = self.program("pg_isready")?;
        ready.args(["-q", "-h", "127.0.0.1", "-p"]).arg(self.port.to_string());
        self.process.start(&mut command, START, || Ok(ready.status()?.success()))
    }

    /// "Fast" shutdown: sessions are ended, everything is written.
    pub fn stop_fast(&mut self) -> Result<()> {
        self.process.interrupt()
    }

    pub fn url(&self) -> String {
        format!("postgres://squall@{}:{}/squall", self.bind, self.port)
    }
}
