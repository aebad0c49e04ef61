//! Which node of which cluster a data directory belongs to: `identity.json`, written once, checked at every start.
//!
//! A node's number must never be used by another log: a node that forgets its vote could vote twice. So a directory
//! whose log is gone, or whose identity is damaged or foreign, is refused instead of repaired.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::RaftError;
use crate::state::NodeId;

const FORMAT: u16 = 1;
const FILE: &str = "identity.json";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub cluster_id: String,
    pub node_id: NodeId,
    /// Whether the log was made; from then on it must exist.
    pub has_log: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    format: u16,
    cluster_id: String,
    /// 16 hex digits: JSON numbers lose digits in other people's tools.
    node_id: String,
    has_log: bool,
    /// SHA-256 of the other fields, 16 hex digits: finds damage and slips of the editor.
    check: String,
}

impl Identity {
    /// A new node, of the given cluster or a new one.
    pub fn fresh(cluster_id: Option<&str>) -> Self {
        let cluster_id = cluster_id.map_or_else(|| hex(rand::random()), str::to_owned);
        // 0 is kept free, and 63 bits are positive everywhere.
        let node_id = (rand::random::<u64>() >> 1).max(1);
        Self { cluster_id, node_id, has_log: false }
    }

    pub fn node_hex(&self) -> String {
        hex(self.node_id)
    }

    /// Whether the directory has an identity.
    pub fn exists(dir: &Path) -> bool {
        dir.join(FILE).symlink_metadata().is_ok()
    }

    /// Reads the directory's identity, or gives it a new one: of the expected cluster, else of `usual`, else of a new
    /// one. Blocks.
    pub fn load_or_create(dir: &Path, expected_cluster: Option<&str>, usual: Option<&str>) -> Result<Self, RaftError> {
        let path = dir.join(FILE);
        let refuse = |reason: String| RaftError::Identity { path: path.clone(), reason };
        fs::create_dir_all(dir).map_err(|error| refuse(format!("the directory can't be made: {error}")))?;
        let identity = match fs::read(&path) {
            Ok(bytes) => Self::decode(&bytes).map_err(refuse)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if log_path(dir).symlink_metadata().is_ok() {
                    return Err(refuse("is missing, but a log is there; restore the file".to_owned()));
                }
                let identity = Self::fresh(expected_cluster.or(usual));
                identity.save(dir)?;
                identity
            }
            Err(error) => return Err(refuse(format!("can't be read: {error}"))),
        };
        match expected_cluster {
            Some(expected) if expected != identity.cluster_id => {
                Err(refuse(format!("the directory belongs to cluster '{}', not to '{expected}'", identity.cluster_id)))
            }
            _ => Ok(identity),
        }
    }

    /// Replaces the file atomically and durably. Blocks.
    pub fn save(&self, dir: &Path) -> Result<(), RaftError> {
        let path = dir.join(FILE);
        let write = || -> io::Result<()> {
            let temporary = dir.join("identity.json.new");
            let mut file = fs::File::create(&temporary)?;
            file.write_all(&self.encode()?)?;
            file.sync_all()?;
            fs::rename(&temporary, &path)?;
            fs::File::open(dir)?.sync_all()
        };
        write().map_err(|error| RaftError::Storage(format!("{}: {error}", path.display())))
    }

    fn check(&self) -> String {
        let text = format!("{FORMAT} {} {} {}", self.cluster_id, self.node_hex(), self.has_log);
        Sha256::digest(text)[..8].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn encode(&self) -> io::Result<Vec<u8>> {
        let written = Written {
            format: FORMAT,
            cluster_id: self.cluster_id.clone(),
            node_id: self.node_hex(),
            has_log: self.has_log,
            check: self.check(),
        };
        let mut bytes = serde_json::to_vec_pretty(&written)?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    fn decode(bytes: &[u8]) -> Result<Self, String> {
        let written: Written = serde_json::from_slice(bytes).map_err(|error| format!("is damaged: {error}"))?;
        if written.format != FORMAT {
            return Err(format!("format {} is not known to this release", written.format));
        }
        let node_id = u64::from_str_radix(&written.node_id, 16).map_err(|_| "is damaged: node_id".to_owned())?;
        let identity = Self { cluster_id: written.cluster_id, node_id, has_log: written.has_log };
        if identity.check() != written.check {
            return Err("is damaged: the check sum doesn't fit".to_owned());
        }
        Ok(identity)
    }
}

/// Where the log of a data directory is.
pub fn log_path(dir: &Path) -> PathBuf {
    dir.join("raft.redb")
}

fn hex(number: u64) -> String {
    format!("{number:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_kept_and_guarded() {
        let dir = tempfile::tempdir().unwrap();
        let made = Identity::load_or_create(dir.path(), None, None).unwrap();
        assert_eq!(Identity::load_or_create(dir.path(), None, None).unwrap(), made);
        assert_eq!(Identity::load_or_create(dir.path(), Some(&made.cluster_id), None).unwrap(), made);
        let foreign = Identity::load_or_create(dir.path(), Some("other"), None).unwrap_err();
        assert!(foreign.to_string().contains("not to 'other'"), "{foreign}");

        let path = dir.path().join(FILE);
        let text = fs::read_to_string(&path).unwrap();
        for damage in [text.replacen(&made.node_hex()[..4], "dead", 1), text[..20].to_owned(), String::new()] {
            fs::write(&path, damage).unwrap();
            let error = Identity::load_or_create(dir.path(), None, None).unwrap_err().to_string();
            assert!(error.contains("damaged"), "{error}");
        }
        fs::remove_file(&path).unwrap();
        fs::write(log_path(dir.path()), b"x").unwrap();
        let error = Identity::load_or_create(dir.path(), None, None).unwrap_err().to_string();
        assert!(error.contains("a log is there"), "{error}");
    }

    #[test]
    fn fresh_ones_differ() {
        let (one, two) = (Identity::fresh(None), Identity::fresh(Some("c")));
        assert_ne!(one.node_id, two.node_id);
        assert_eq!(two.cluster_id, "c");
    }
}
