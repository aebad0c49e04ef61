//! What the znode of a key holds.

use std::collections::VecDeque;

use coordinator::state::Woken;
use coordinator::{CoordinatorError, Grant, KeyState};
use serde::{Deserialize, Serialize};
use zookeeper_client::Stat;

/// Grants to waiters that are kept for listeners; who is behind by more is told that some are lost.
const KEPT_GRANTS: usize = 32;
/// ZooKeeper refuses znodes from 1 MB on.
const MAX_BYTES: usize = 900_000;

/// Format 1; fields may be added.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    #[serde(flatten)]
    pub state: KeyState,
    /// Last token.
    #[serde(rename = "t", default)]
    token: u64,
    /// Latest grants to waiters: number, request, slot, token. Numbers grow by one.
    #[serde(rename = "g", default)]
    grants: VecDeque<(u64, String, u32, u64)>,
    /// Number of the last of them.
    #[serde(rename = "n", default)]
    last: u64,
}

impl Record {
    /// A new znode is empty.
    pub(crate) fn read(data: &[u8]) -> Result<Self, CoordinatorError> {
        if data.is_empty() {
            return Ok(Self::default());
        }
        serde_json::from_slice(data).map_err(|error| {
            CoordinatorError::Unavailable(format!("ZooKeeper holds a key that can't be read: {error}"))
        })
    }

    pub(crate) fn write(&self) -> Result<Vec<u8>, CoordinatorError> {
        match serde_json::to_vec(self) {
            Ok(data) if data.len() <= MAX_BYTES => Ok(data),
            Ok(_) => Err(CoordinatorError::TooManyWaiters),
            Err(error) => Err(CoordinatorError::Unavailable(error.to_string())),
        }
    }

    /// Tokens of the next grants are higher. A znode that is made anew begins above all of its predecessors: each of
    /// their grants took at least one transaction to end.
    pub(crate) fn last_token(&self, stat: &Stat) -> u64 {
        let transaction = u64::try_from(stat.mzxid).unwrap_or(0);
        self.token.max(transaction << 8)
    }

    pub(crate) fn note(&mut self, token: u64, woken: Vec<Woken>) {
        self.token = token;
        for (request, grant) in woken {
            self.last += 1;
            self.grants.push_back((self.last, request, grant.slot, grant.token));
        }
        while self.grants.len() > KEPT_GRANTS {
            self.grants.pop_front();
        }
    }

    /// The grants after number `after`, and whether some before them are gone.
    pub(crate) fn grants_after(&self, after: u64) -> (Vec<Woken>, bool) {
        let first = self.grants.front().map_or(self.last + 1, |(number, ..)| *number);
        let grants = self.grants.iter().filter(|(number, ..)| *number > after);
        let grants = grants.map(|(_, request, slot, token)| (request.clone(), Grant { slot: *slot, token: *token }));
        (grants.collect(), after + 1 < first)
    }

    /// Number of the last grant to a waiter.
    pub(crate) const fn last(&self) -> u64 {
        self.last
    }
}

pub(crate) const KEYS: &str = "/keys";

/// The znode of a key.
pub(crate) fn path(key: &str) -> String {
    let mut path = format!("{KEYS}/");
    for byte in key.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => path.push(byte.into()),
            _ => path.push_str(&format!("%{byte:02X}")),
        }
    }
    path
}

/// The key of a znode.
pub(crate) fn key(path: &str) -> Option<String> {
    let name = path.strip_prefix(KEYS)?.strip_prefix('/')?;
    let (mut bytes, mut rest) = (Vec::with_capacity(name.len()), name.bytes());
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            plain => plain,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use coordinator::Answer;

    use super::*;

    #[test]
    fn names_come_back() {
        for name in ["a", ".", "a/b", "%41", "\u{e4}\u{1f600}\0", "keys"] {
            let path = path(name);
            assert_eq!(key(&path).as_deref(), Some(name));
            assert!(path[KEYS.len() + 1..].chars().all(|c| c.is_ascii_alphanumeric() || "%-_".contains(c)));
        }
        assert_eq!(key("/keys"), None);
        assert_eq!(key("/generation"), None);
    }

    #[test]
    fn grants_are_told_once_and_gaps_show() {
        let mut record = Record::default();
        let mut token = 5;
        for n in 0..40 {
            let (answer, woken) = record.state.ask(1, &n.to_string(), true, &mut token).unwrap();
            assert_eq!(matches!(answer, Answer::Granted(_)), n == 0);
            record.note(token, woken);
        }
        assert_eq!(record.grants_after(0), (Vec::new(), false));
        for n in 0..39 {
            let woken = record.state.release(&n.to_string(), &mut token);
            record.note(token, woken);
            record = Record::read(&record.write().unwrap()).unwrap();
            let (grants, gap) = record.grants_after(n);
            assert!(grants.len() == 1 && grants[0].0 == (n + 1).to_string() && !gap);
        }
        assert_eq!(record.grants_after(0).0.len(), KEPT_GRANTS);
        assert!(record.grants_after(6).1 && !record.grants_after(7).1);
        assert_eq!(record.last(), 39);
    }

    /// Stored by the first version.
    #[test]
    fn old_records_are_read() {
        let text = r#"{"l":2,"h":[["a",0,257],["b",1,258]],"w":["c","d"],"t":258,"g":[[1,"b",1,258]],"n":1}"#;
        let record = Record::read(text.as_bytes()).unwrap();
        assert_eq!(record.state.waiting(), 2);
        assert_eq!(String::from_utf8(record.write().unwrap()).unwrap(), text);
    }
}
