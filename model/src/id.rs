//! Resource ids: 24 hex digits (12 bytes), as StackStorm's ObjectIds.
//!
//! An id is either fresh ([`Id::fresh`]) or derived from the cause of the record ([`Id::derive`],
//! DESIGN §2 rule 2), so that repeating a step finds the record that the first try made.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::time::Timestamp;

/// A 12-byte id: 4 bytes of seconds since the epoch, then 8 bytes that are random or a hash.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id([u8; 12]);

impl Id {
    /// A new id, unique by 64 random bits, sorted by `now` to the second.
    pub fn fresh(now: Timestamp) -> Self {
        Self::with_time(now, rand::random::<[u8; 8]>())
    }

    /// The id of the record that `parts` cause: equal parts and time give an equal id.
    ///
    /// `cause_time` is the time of the cause (the scheduled time of a tick, the occurrence time of a trigger
    /// instance), never the time of the call. `kind` keeps records of different kinds apart.
    pub fn derive(kind: &str, cause_time: Timestamp, parts: &[&str]) -> Self {
        let mut hash = Sha256::new();
        hash.update((kind.len() as u64).to_be_bytes());
        hash.update(kind);
        for part in parts {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let digest = hash.finalize();
        let mut tail = [0; 8];
        tail.copy_from_slice(&digest[..8]);
        Self::with_time(cause_time, tail)
    }

    /// The time it was made with, to the second.
    pub fn time(&self) -> Timestamp {
        let [a, b, c, d, ..] = self.0;
        Timestamp::from_micros(i64::from(u32::from_be_bytes([a, b, c, d])) * 1_000_000)
    }

    /// The twelve bytes, for adapters that keep ids in binary form; they sort as the text does.
    pub const fn as_bytes(&self) -> &[u8; 12] {
        &self.0
    }

    pub const fn from_bytes(bytes: [u8; 12]) -> Self {
        Self(bytes)
    }

    /// The id of content that is addressed by its hash.
    pub fn of_content(bytes: &[u8]) -> Self {
        let digest = Sha256::digest(bytes);
        let mut raw = [0; 12];
        raw.copy_from_slice(&digest[..12]);
        Self(raw)
    }

    fn with_time(time: Timestamp, tail: [u8; 8]) -> Self {
        let mut raw = [0; 12];
        let seconds = u32::try_from(time.micros() / 1_000_000).unwrap_or(0);
        raw[..4].copy_from_slice(&seconds.to_be_bytes());
        raw[4..].copy_from_slice(&tail);
        Self(raw)
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0u8; 24];
        for (i, byte) in self.0.iter().enumerate() {
            text[2 * i] = HEX[usize::from(byte >> 4)];
            text[2 * i + 1] = HEX[usize::from(byte & 15)];
        }
        f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not 24 hex digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a valid ObjectId, it must be a 12-byte input or a 24-character hex string")]
pub struct InvalidId(pub String);

impl FromStr for Id {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let bytes = text.as_bytes();
        let invalid = || InvalidId(text.to_owned());
        if bytes.len() != 24 {
            return Err(invalid());
        }
        let mut raw = [0; 12];
        for (i, pair) in bytes.chunks_exact(2).enumerate() {
            let digit = |c: u8| char::from(c).to_digit(16);
            let (Some(high), Some(low)) = (digit(pair[0]), digit(pair[1])) else {
                return Err(invalid());
            };
            raw[i] = (high * 16 + low) as u8;
        }
        Ok(Self(raw))
    }
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derived_ids_depend_on_every_part_and_its_boundary() {
        let at = Timestamp::from_micros(1_700_000_000_000_000);
        let id = Id::derive("tick", at, &["ab", "c"]);
        assert_eq!(id, Id::derive("tick", at, &["ab", "c"]));
        assert_ne!(id, Id::derive("tick", at, &["a", "bc"]));
        assert_ne!(id, Id::derive("tock", at, &["ab", "c"]));
        assert!(id.to_string().starts_with("6553f100"));
        assert_eq!(id, id.to_string().parse().unwrap());
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "last", "6553f100", "zz53f10000000000000000zz", "6553f1000000000000000000ff"] {
            assert!(text.parse::<Id>().is_err(), "{text}");
        }
    }
}
