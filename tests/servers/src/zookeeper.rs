//! ZooKeeper, one standalone server.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use crate::binaries;
use crate::ports::free_port;
use crate::process::{Process, listens, private_dir};

/// One server; sessions may be as short as a second.
#[derive(Debug)]
pub struct ZooKeeper {
    pub process: Process,
    pub port: u16,
    bind: String,
}

impl ZooKeeper {
    pub fn private() -> Result<Self> {
        Self::start_new(&private_dir("zookeeper")?, "127.0.0.1")
    }

    pub fn start_new(dir: &Path, bind: &str) -> Result<Self> {
        fs::create_dir_all(dir)?;
        let mut server = Self { process: Process::new("zookeeper", dir), port: free_port(), bind: bind.to_owned() };
        server.start()?;
        Ok(server)
    }

    pub fn start(&mut self) -> Result<()> {
        let dir = self.process.dir();
        let config = dir.join("zoo.cfg");
        let data = dir.join("data");
        fs::create_dir_all(&data)?;
        // A tick of 500 ms: sessions may last from 1 s to 10 s.
        let text = format!(
            "dataDir={}\nclientPort={}\ntickTime=500\nadmin.enableServer=false\n4lw.commands.whitelist=*\nmaxClientCnxns=0\n",
            data.display(),
            self.port
        );
        fs::write(&config, text)?;
        fs::write(
            dir.join("log4j.properties"),
            "log4j.rootLogger=WARN, out\nlog4j.appender.out=org.apache.log4j.ConsoleAppender\nlog4j.appender.out.layout=org.apache.log4j.PatternLayout\nlog4j.appender.out.layout.ConversionPattern=%d %p %m%n\n",
        )?;
        let mut command = Command::new(binaries::find("SQUALL_TEST_BIN_JAVA", "java", &[])?);
        command.args(["-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"]);
        command.arg(format!("{}:/usr/share/java/zookeeper.jar:/usr/share/java/*", dir.display()));
        command.arg("org.apache.zookeeper.server.quorum.QuorumPeerMain").arg(&config);
        let port = self.port;
        self.process.start(&mut command, Duration::from_secs(60), || Ok(listens(port)))
    }

    pub fn address(&self) -> String {
        format!("{}:{}", self.bind, self.port)
    }
}
