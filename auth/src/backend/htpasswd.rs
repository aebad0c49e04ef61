//! Passwords in Apache's htpasswd file (spec/auth-rbac.md §2.1).

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use md5::{Digest, Md5};
use parking_lot::Mutex;
use sha1::Sha1;
use sha2::Sha256;
use subtle::ConstantTimeEq;
use tokio::sync::Semaphore;

use super::{AuthBackend, BackendError};

/// A verified password is not hashed again for this long.
const REMEMBER: Duration = Duration::from_secs(60);
/// Verified passwords that are remembered.
const REMEMBERED: usize = 1024;
/// Passwords that are hashed at a time; bcrypt is slow on purpose.
const HASHERS: usize = 2;

/// Checks passwords against a file of `user:hash` lines, read at every login so that edits apply at once.
#[derive(Debug)]
pub struct FlatFile {
    path: PathBuf,
    hashers: Semaphore,
    /// Keyed digests of (user, hash, password) that matched; the key is of this process.
    verified: Mutex<HashMap<[u8; 32], Instant>>,
    key: [u8; 32],
}

impl FlatFile {
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), hashers: Semaphore::new(HASHERS), verified: Mutex::default(), key: rand::random() }
    }

    /// A line for the file, with bcrypt at Apache's default cost.
    pub fn line(user: &str, password: &str) -> Result<String, BackendError> {
        let hash = bcrypt::hash(password, 5).map_err(|e| BackendError(e.to_string()))?;
        Ok(format!("{user}:{hash}\n"))
    }

    fn digest(&self, user: &str, hash: &str, password: &str) -> [u8; 32] {
        let mut digest = Sha256::new();
        digest.update(self.key);
        for part in [user, hash, password] {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        digest.finalize().into()
    }

    fn is_remembered(&self, digest: &[u8; 32]) -> bool {
        self.verified.lock().get(digest).is_some_and(|at| at.elapsed() < REMEMBER)
    }

    fn remember(&self, digest: [u8; 32]) {
        let mut verified = self.verified.lock();
        if verified.len() >= REMEMBERED {
            verified.retain(|_, at| at.elapsed() < REMEMBER);
        }
        if verified.len() < REMEMBERED {
            verified.insert(digest, Instant::now());
        }
    }
}

#[async_trait]
impl AuthBackend for FlatFile {
    async fn authenticate(&self, user: &str, password: &str) -> Result<bool, BackendError> {
        let text = tokio::fs::read_to_string(&self.path)
            .await
            .map_err(|error| BackendError(format!("{}: {error}", self.path.display())))?;
        let Some(hash) = find(&text, user) else { return Ok(false) };
        let digest = self.digest(user, hash, password);
        if self.is_remembered(&digest) {
            return Ok(true);
        }
        let (hash, password) = (hash.to_owned(), password.to_owned());
        let permit = self.hashers.acquire().await.map_err(|e| BackendError(e.to_string()))?;
        let matches = tokio::task::spawn_blocking(move || verify(&hash, &password))
            .await
            .map_err(|e| BackendError(e.to_string()))?;
        drop(permit);
        if matches {
            self.remember(digest);
        }
        Ok(matches)
    }
}

/// The hash of a user; the last line wins.
fn find<'a>(text: &'a str, user: &str) -> Option<&'a str> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .filter_map(|line| line.split_once(':'))
        .filter(|(name, _)| *name == user)
        .map(|(_, hash)| hash)
        .next_back()
}

/// Whether a password has this hash. Hashes of unknown kinds, plain text too, match nothing.
pub fn verify(hash: &str, password: &str) -> bool {
    if hash.starts_with("$2") {
        // A hash that bcrypt can't read matches nothing.
        return bcrypt::verify(password, hash).unwrap_or(false);
    }
    if let Some(encoded) = hash.strip_prefix("{SHA}") {
        use base64::Engine as _;
        let digest = base64::engine::general_purpose::STANDARD.encode(Sha1::digest(password.as_bytes()));
        return digest.as_bytes().ct_eq(encoded.as_bytes()).into();
    }
    for magic in ["$apr1$", "$1$"] {
        if let Some(rest) = hash.strip_prefix(magic) {
            let salt = rest.split('$').next().unwrap_or_default();
            return md5_crypt(magic, salt, password).as_bytes().ct_eq(hash.as_bytes()).into();
        }
    }
    false
}

/// Poul-Henning Kamp's MD5-based password hash, as Apache (`$apr1$`) and crypt (`$1$`) write it.
fn md5_crypt(magic: &str, salt: &str, password: &str) -> String {
    let salt = &salt[..salt.char_indices().nth(8).map_or(salt.len(), |(i, _)| i)];
    let (key, salt_bytes) = (password.as_bytes(), salt.as_bytes());
    let inner = Md5::new().chain_update(key).chain_update(salt_bytes).chain_update(key).finalize();
    let mut outer = Md5::new().chain_update(key).chain_update(magic).chain_update(salt_bytes);
    let mut left = key.len();
    while left > 0 {
        outer.update(&inner[..left.min(16)]);
        left = left.saturating_sub(16);
    }
    let mut bits = key.len();
    while bits > 0 {
        if bits & 1 == 1 {
            outer.update([0]);
        } else {
            outer.update(&key[..1]);
        }
        bits >>= 1;
    }
    let mut sum = outer.finalize();
    for round in 0..1000 {
        let mut md5 = Md5::new();
        if round % 2 == 1 {
            md5.update(key)
        } else {
            md5.update(sum)
        }
        if round % 3 != 0 {
            md5.update(salt_bytes);
        }
        if round % 7 != 0 {
            md5.update(key);
        }
        if round % 2 == 1 {
            md5.update(sum)
        } else {
            md5.update(key)
        }
        sum = md5.finalize();
    }
    let mut text = format!("{magic}{salt}$");
    for [a, b, c] in [[0, 6, 12], [1, 7, 13], [2, 8, 14], [3, 9, 15], [4, 10, 5]] {
        let triple = u32::from(sum[a]) << 16 | u32::from(sum[b]) << 8 | u32::from(sum[c]);
        to_64(triple, 4, &mut text);
    }
    to_64(u32::from(sum[11]), 2, &mut text);
    text
}

fn to_64(mut value: u32, digits: usize, out: &mut String) {
    const ALPHABET: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    for _ in 0..digits {
        out.push(char::from(ALPHABET[(value & 63) as usize]));
        value >>= 6;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made with `openssl passwd`.
    #[test]
    fn known_hashes() {
        assert!(verify("$apr1$saltsalt$r/QcFGT5pNL28bNkeDMHR.", "hunter2"));
        assert!(!verify("$apr1$saltsalt$r/QcFGT5pNL28bNkeDMHR.", "hunter3"));
        assert!(verify("$1$abc$p1vuYbr2s1geoZa/eNVtW/", "a longer pässword, over sixteen"));
        assert!(verify("$apr1$x$tMwYqBfQwi3FYAr0aJc8M/", ""));
        assert!(verify("{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", "password"));
        assert!(!verify("{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", "Password"));
        assert!(!verify("plain", "plain"));
        assert!(!verify("$2y$05$short", "x"));
        assert!(!verify("", ""));
    }

    #[tokio::test]
    async fn edits_apply_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("htpasswd");
        let backend = FlatFile::new(&path);
        assert!(backend.authenticate("ana", "secret").await.is_err());
        std::fs::write(&path, format!("# users\n\n{}", FlatFile::line("ana", "se:cret").unwrap())).unwrap();
        for _ in 0..2 {
            assert!(backend.authenticate("ana", "se:cret").await.unwrap());
            assert!(!backend.authenticate("ana", "secret").await.unwrap());
            assert!(!backend.authenticate("bob", "se:cret").await.unwrap());
        }
        std::fs::write(&path, FlatFile::line("ana", "other").unwrap()).unwrap();
        assert!(!backend.authenticate("ana", "se:cret").await.unwrap());
        assert!(backend.authenticate("ana", "other").await.unwrap());
    }
}
