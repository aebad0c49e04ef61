//! What a node keeps in its data directory besides the store and the log: users, keys, packs.

use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use domain::crypto::Crypto;

/// Work factor of password hashes: some 15 ms on the machines we measure on.
const BCRYPT_COST: u32 = 8;

/// The user that the first start makes.
pub const ADMIN: &str = "st2admin";

/// Paths below the data directory.
#[derive(Debug, Clone)]
pub struct DataDir {
    pub root: PathBuf,
}

/// How the administrator's password came to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admin {
    /// Users were there.
    Existing,
    /// Taken from the environment.
    Given,
    /// Made up, and written to this file.
    Generated { password: String, file: PathBuf },
}

impl DataDir {
    /// Makes the directory if it isn't there.
    pub fn open(root: &Path) -> Result<Self> {
        let prepare = |path: &Path| {
            std::fs::create_dir_all(path).with_context(|| format!("can't make the data directory {}", path.display()))
        };
        prepare(root)?;
        let root = root.canonicalize().with_context(|| format!("can't use {}", root.display()))?;
        for name in ["packs", "configs", "overrides", "virtualenvs"] {
            prepare(&root.join(name))?;
        }
        let data = Self { root };
        let raft = data.raft();
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&raft)
            .with_context(|| format!("can't make {}", raft.display()))?;
        Ok(data)
    }

    /// The file of a database before it is opened: databases hold tokens, secrets and what workflows know in clear, so
    /// they are their owner's alone. SQLite gives new side files the same mode; those of an earlier version that did
    /// not are made private too. The directory itself stays passable, for actions that run as another user read their
    /// packs in it.
    pub fn private_database(&self, name: &str) -> Result<PathBuf> {
        let database = self.root.join(name);
        let fail = || format!("can't make {} its owner's alone", database.display());
        std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(&database).with_context(fail)?;
        for suffix in ["", "-wal", "-shm"] {
            let path = self.root.join(format!("{name}{suffix}"));
            match std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error).with_context(fail),
                _ => {}
            }
        }
        Ok(database)
    }

    pub fn raft(&self) -> PathBuf {
        self.root.join("raft")
    }

    pub fn packs(&self) -> PathBuf {
        self.root.join("packs")
    }

    pub fn htpasswd(&self) -> PathBuf {
        self.root.join("htpasswd")
    }

    pub fn action_token_secret(&self) -> PathBuf {
        self.root.join("action-token-secret")
    }

    fn key_file(&self) -> PathBuf {
        self.root.join("datastore-key.json")
    }

    /// The text of this directory's datastore key, if there is one.
    pub fn own_key(&self) -> Result<Option<String>> {
        let path = self.key_file();
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("can't read the key {}", path.display())),
        }
    }

    /// Keeps a copy of the key that the cluster agreed on. Another key that was here is kept beside it.
    pub fn keep_agreed_key(&self, text: &str) -> Result<()> {
        let path = self.key_file();
        match self.own_key()? {
            Some(own) if own == text => return Ok(()),
            Some(_) => {
                let kept = self.root.join("datastore-key.before-cluster.json");
                tracing::warn!(kept = %kept.display(), "the cluster has another datastore key than this node had");
                std::fs::rename(&path, &kept).with_context(|| format!("can't keep {}", kept.display()))?;
            }
            None => {}
        }
        write_private(&path, text)
    }

    /// A private file of this name with the others' texts, one after another.
    pub fn joined(&self, name: &str, parts: &[&PathBuf]) -> Result<PathBuf> {
        let mut text = String::new();
        for part in parts {
            let read = std::fs::read_to_string(part).with_context(|| format!("can't read {}", part.display()))?;
            text.push_str(read.trim_end());
            text.push('\n');
        }
        let path = self.root.join(name);
        write_private(&path, &text)?;
        Ok(path)
    }

    /// Hash of the administrator's password, if there is an administrator.
    pub fn admin_hash(&self) -> Option<String> {
        let users = std::fs::read_to_string(self.htpasswd()).ok()?;
        users.lines().find_map(|line| line.strip_prefix(ADMIN)?.strip_prefix(':')).map(str::to_owned)
    }

    /// Makes the cluster's administrator this node's too, unless it has one.
    pub fn adopt_admin(&self, hash: &str, password: Option<&str>) -> Result<Admin> {
        if self.admin_hash().is_some() {
            return Ok(Admin::Existing);
        }
        let users = std::fs::read_to_string(self.htpasswd()).unwrap_or_default();
        write_private(&self.htpasswd(), &format!("{users}{ADMIN}:{hash}\n"))?;
        let Some(password) = password else { return Ok(Admin::Existing) };
        let file = self.root.join("admin-password");
        write_private(&file, &format!("{password}\n"))?;
        Ok(Admin::Generated { password: password.to_owned(), file })
    }

    /// Reads the datastore's key, making it at the first start.
    pub fn crypto(&self, configured: Option<&Path>) -> Result<Option<Crypto>> {
        let path = match configured {
            Some(path) => path.to_owned(),
            None => {
                let path = self.key_file();
                if !path.is_file() {
                    write_private(&path, &Crypto::generate_key_file())?;
                }
                path
            }
        };
        let text = std::fs::read_to_string(&path).with_context(|| format!("can't read the key {}", path.display()))?;
        Ok(Some(Crypto::from_key_file(&text).with_context(|| path.display().to_string())?))
    }

    /// Makes the administrator at the first start. A password in the environment also replaces an older one.
    pub fn admin(&self, given: Option<&str>) -> Result<Admin> {
        let path = self.htpasswd();
        let users = std::fs::read_to_string(&path).unwrap_or_default();
        let known = users.lines().find_map(|line| line.strip_prefix(ADMIN)?.strip_prefix(':'));
        match (given, known) {
            (None, Some(_)) => Ok(Admin::Existing),
            (Some(password), Some(hash)) if bcrypt::verify(password, hash).unwrap_or(false) => Ok(Admin::Existing),
            (Some(password), _) => {
                set_password(&path, &users, password)?;
                Ok(Admin::Given)
            }
            (None, None) => {
                let password = random_password();
                let file = self.root.join("admin-password");
                write_private(&file, &format!("{password}\n"))?;
                set_password(&path, &users, &password)?;
                Ok(Admin::Generated { password, file })
            }
        }
    }
}

pub fn random_password() -> String {
    const LETTERS: &[u8] = b"abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789";
    (0..20).map(|_| char::from(LETTERS[rand::random_range(0..LETTERS.len())])).collect()
}

pub fn hash_password(password: &str) -> Result<String> {
    bcrypt::hash(password, BCRYPT_COST).context("can't hash the password")
}

fn set_password(path: &Path, users: &str, password: &str) -> Result<()> {
    let hash = hash_password(password)?;
    let others = users.lines().filter(|line| !line.starts_with(&format!("{ADMIN}:")));
    let mut text: String = others.map(|line| format!("{line}\n")).collect();
    text.push_str(&format!("{ADMIN}:{hash}\n"));
    write_private(path, &text)
}

/// Writes a file that only its owner can read, under its final name only when it is complete.
pub fn write_private(path: &Path, text: &str) -> Result<()> {
    let partial = path.with_extension("partial");
    let write = || -> std::io::Result<()> {
        let mut file =
            std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&partial, path)
    };
    write().with_context(|| format!("can't write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_administrator_is_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path()).unwrap();
        let Admin::Generated { password, file } = data.admin(None).unwrap() else { panic!("not generated") };
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_to_string(&file).unwrap().trim(), password);
        assert_eq!(data.admin(None).unwrap(), Admin::Existing);
        assert_eq!(data.admin(Some(&password)).unwrap(), Admin::Existing);
        assert_eq!(data.admin(Some("other")).unwrap(), Admin::Given);
        assert_eq!(data.admin(Some("other")).unwrap(), Admin::Existing);
        assert_eq!(std::fs::read_to_string(data.htpasswd()).unwrap().lines().count(), 1);
    }

    #[test]
    fn what_holds_secrets_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path()).unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        let made = data.private_database("new.db").unwrap();
        assert_eq!((mode(&made), mode(&data.raft())), (0o600, 0o700));
        for open in ["old.db", "old.db-wal"] {
            std::fs::write(dir.path().join(open), "kept").unwrap();
            std::fs::set_permissions(dir.path().join(open), std::fs::Permissions::from_mode(0o644)).unwrap();
        }
        let made = data.private_database("old.db").unwrap();
        assert_eq!((mode(&made), mode(&dir.path().join("old.db-wal"))), (0o600, 0o600));
        assert_eq!(std::fs::read_to_string(made).unwrap(), "kept");
    }

    #[test]
    fn what_the_cluster_agreed_on_is_taken_over_once() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path()).unwrap();
        let hash = hash_password("hunter2").unwrap();
        assert!(matches!(data.adopt_admin(&hash, Some("hunter2")).unwrap(), Admin::Generated { .. }));
        assert_eq!(data.adopt_admin("other", None).unwrap(), Admin::Existing);
        assert_eq!(data.admin_hash().as_deref(), Some(hash.as_str()));
        data.crypto(None).unwrap();
        let own = data.own_key().unwrap().unwrap();
        data.keep_agreed_key("agreed").unwrap();
        data.keep_agreed_key("agreed").unwrap();
        assert_eq!(data.own_key().unwrap().as_deref(), Some("agreed"));
        let kept = dir.path().join("datastore-key.before-cluster.json");
        assert_eq!(std::fs::read_to_string(kept).unwrap(), own);
    }

    #[test]
    fn keys_stay_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path()).unwrap();
        let secret = data.crypto(None).unwrap().unwrap().encrypt("x").unwrap();
        assert_eq!(data.crypto(None).unwrap().unwrap().decrypt(&secret).unwrap(), "x");
    }
}
