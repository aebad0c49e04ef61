//! The servers that all tests of a run share.

use std::fs;
use std::path::Path;

use anyhow::Result;

use crate::{Postgres, Rabbit, Redis, ReplicaSet, ZooKeeper, sweep};

/// Variables that announce them.
pub const MONGODB: &str = "SQUALL_TEST_MONGODB";
pub const RABBITMQ: &str = "SQUALL_TEST_RABBITMQ";
pub const POSTGRES: &str = "SQUALL_TEST_POSTGRES";
pub const REDIS: &str = "SQUALL_TEST_REDIS";
pub const ZOOKEEPER: &str = "SQUALL_TEST_ZOOKEEPER";

/// The address of a shared server. Without one the test is skipped, loudly; with `SQUALL_TEST_REQUIRE_SERVERS=1`, as
/// in `make test`, it fails.
///
/// # Panics
/// If servers are required and the variable isn't set.
pub fn address(variable: &str) -> Option<String> {
    let found = std::env::var(variable).ok().filter(|value| !value.is_empty());
    if found.is_none() {
        let required = std::env::var("SQUALL_TEST_REQUIRE_SERVERS").is_ok_and(|value| value == "1");
        assert!(!required, "{variable} isn't set, and SQUALL_TEST_REQUIRE_SERVERS=1");
        eprintln!("SKIPPED: {variable} isn't set; `servers up` starts the servers");
    }
    found
}

/// Whether a test may start servers of its own: their programs are installed, or must be.
pub fn installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

/// Starts the named servers and leaves them running. Returns `VARIABLE=address` lines.
pub fn up(dir: &Path, which: &[String], mongo_members: usize) -> Result<Vec<(&'static str, String)>> {
    sweep(dir)?;
    let _ = fs::remove_dir_all(dir);
    fs::create_dir_all(dir)?;
    let dir = fs::canonicalize(dir)?;
    let wanted = |name: &str| which.is_empty() || which.iter().any(|one| one == name);
    // Side by side: each start mostly waits.
    std::thread::scope(|scope| {
        let mut starts = Vec::new();
        if wanted("mongodb") {
            starts.push(scope.spawn(|| -> Result<_> {
                let mut set = ReplicaSet::start(&dir.join("mongodb"), mongo_members, "127.0.0.1")?;
                set.keep();
                Ok((MONGODB, set.uri()))
            }));
        }
        if wanted("rabbitmq") {
            starts.push(scope.spawn(|| {
                let mut broker = Rabbit::start_new(&dir.join("rabbitmq"), "127.0.0.1")?;
                broker.process.keep();
                Ok((RABBITMQ, broker.url()))
            }));
        }
        if wanted("postgres") {
            starts.push(scope.spawn(|| {
                let mut server = Postgres::start_new(&dir.join("postgres"), "127.0.0.1")?;
                server.process.keep();
                Ok((POSTGRES, server.url()))
            }));
        }
        if wanted("redis") {
            starts.push(scope.spawn(|| {
                let mut server = Redis::start_new(&dir.join("redis"), "127.0.0.1")?;
                server.process.keep();
                Ok((REDIS, server.address()))
            }));
        }
        if wanted("zookeeper") {
            starts.push(scope.spawn(|| {
                let mut server = ZooKeeper::start_new(&dir.join("zookeeper"), "127.0.0.1")?;
                server.process.keep();
                Ok((ZOOKEEPER, server.address()))
            }));
        }
        starts
            .into_iter()
            .map(|start| start.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a server's start panicked"))))
            .collect()
    })
}
