//! Whether a host's key is the one that we know it by.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use russh::keys::known_hosts::known_host_keys_path;
use russh::keys::{Algorithm, PublicKey};

use super::options::HostKeyPolicy;

/// Checks keys against a file in OpenSSH's form. Clones share the lock under which new hosts are written.
#[derive(Debug, Clone)]
pub struct HostKeys {
    policy: HostKeyPolicy,
    file: Option<PathBuf>,
    lock: Arc<Mutex<()>>,
}

impl HostKeys {
    pub fn new(policy: HostKeyPolicy, file: Option<PathBuf>) -> Self {
        Self { policy, file, lock: Arc::default() }
    }

    /// The algorithms of the keys that a host is known by: it is asked for one of these first, as another key of it
    /// would look like somebody else's.
    pub async fn known_algorithms(&self, host: &str, port: u16) -> Vec<Algorithm> {
        let Some(file) = self.file.clone().filter(|_| self.policy != HostKeyPolicy::Off) else { return Vec::new() };
        let host = host.to_owned();
        let read = tokio::task::spawn_blocking(move || known(&host, port, &file)).await;
        let keys = read.ok().and_then(Result::ok).unwrap_or_default();
        keys.iter().map(PublicKey::algorithm).collect()
    }

    /// Why the key is refused, if it is.
    pub async fn check(&self, host: &str, port: u16, key: &PublicKey) -> Result<(), String> {
        if self.policy == HostKeyPolicy::Off {
            return Ok(());
        }
        let (this, host, key) = (self.clone(), host.to_owned(), key.clone());
        let checked = tokio::task::spawn_blocking(move || this.check_now(&host, port, &key)).await;
        checked.unwrap_or_else(|error| Err(error.to_string()))
    }

    fn check_now(&self, host: &str, port: u16, key: &PublicKey) -> Result<(), String> {
        let Some(file) = &self.file else {
            return Err("there is no file of known hosts to check the host's key against".to_owned());
        };
        let _guard = self.lock.lock();
        let unreadable = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
        let known = known(host, port, file).map_err(|error| unreadable(&error))?;
        if known.iter().any(|known| known.key_data() == key.key_data()) {
            return Ok(());
        }
        let print = key.fingerprint(russh::keys::HashAlg::Sha256);
        if !known.is_empty() {
            return Err(format!(
                "The host's key has changed: {print} is not the one in {}. Remove the old line there if this is right",
                file.display()
            ));
        }
        if self.policy == HostKeyPolicy::Strict {
            return Err(format!("The host is not known: its key {print} is not in {}", file.display()));
        }
        learn(host, port, key, file).map_err(|error| unreadable(&error))
    }
}

fn known(host: &str, port: u16, file: &Path) -> Result<Vec<PublicKey>, russh::keys::Error> {
    Ok(known_host_keys_path(host, port, file)?.into_iter().map(|(_, key)| key).collect())
}

fn learn(host: &str, port: u16, key: &PublicKey, file: &Path) -> std::io::Result<()> {
    if let Some(parent) = file.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let text = key.to_openssh().map_err(std::io::Error::other)?;
    let name = if port == super::target::SSH_PORT { host.to_owned() } else { format!("[{host}]:{port}") };
    let complete = std::fs::read(file).map_or(true, |old| old.last().is_none_or(|last| *last == b'\n'));
    let gap = if complete { "" } else { "\n" };
    let mut opened = std::fs::OpenOptions::new().append(true).create(true).open(file)?;
    // One write: other processes append to the file as well.
    opened.write_all(format!("{gap}{name} {text}\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
    const TWO: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA6rWI3G1sz07DnfFlrouTcysQlj2P+jpNSOEWD9OJ3X";

    fn key(text: &str) -> PublicKey {
        PublicKey::from_openssh(text).unwrap()
    }

    #[tokio::test]
    async fn policies() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("ssh/known_hosts");
        let with = |policy| HostKeys::new(policy, Some(file.clone()));
        assert!(with(HostKeyPolicy::Strict).check("h", 22, &key(ONE)).await.is_err());
        assert!(with(HostKeyPolicy::Off).check("h", 22, &key(ONE)).await.is_ok());
        assert!(!file.exists());
        let accepting = with(HostKeyPolicy::AcceptNew);
        assert!(accepting.check("h", 22, &key(ONE)).await.is_ok());
        assert!(accepting.check("h", 2222, &key(TWO)).await.is_ok());
        assert!(with(HostKeyPolicy::Strict).check("h", 22, &key(ONE)).await.is_ok());
        assert!(with(HostKeyPolicy::Strict).check("h", 2222, &key(TWO)).await.is_ok());
        let changed = accepting.check("h", 22, &key(TWO)).await.unwrap_err();
        assert!(changed.contains("has changed"), "{changed}");
        assert!(with(HostKeyPolicy::Off).check("h", 22, &key(TWO)).await.is_ok());
        assert_eq!(accepting.known_algorithms("h", 22).await, [Algorithm::Ed25519]);
        assert_eq!(std::fs::read_to_string(&file).unwrap().lines().count(), 2);
    }
}
