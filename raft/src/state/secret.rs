//! Bytes that no log and no `Debug` shows.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A cluster-wide secret; written as hex.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(Vec<u8>);

impl Secret {
    pub const fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whoever calls this keeps it out of logs.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({} bytes)", self.0.len())
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = String::with_capacity(self.0.len() * 2);
        for byte in &self.0 {
            for nibble in [byte >> 4, byte & 15] {
                text.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0'));
            }
        }
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digits: Option<Vec<u8>> =
            text.chars().map(|digit| digit.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
        // The text itself stays out of the error.
        let digits = digits.filter(|digits| digits.len() % 2 == 0);
        let digits = digits.ok_or_else(|| serde::de::Error::custom("a secret isn't written in hex"))?;
        Ok(Self(digits.chunks(2).map(|pair| (pair[0] << 4) | pair[1]).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn survives_json_and_shows_nothing() {
        let secret = Secret::new(vec![0, 1, 0xab, 255]);
        let json = serde_json::to_string(&secret).unwrap();
        assert_eq!(json, "\"0001abff\"");
        assert_eq!(serde_json::from_str::<Secret>(&json).unwrap(), secret);
        assert_eq!(format!("{secret:?}"), "Secret(4 bytes)");
        for bad in ["\"0\"", "\"zz\"", "\"é\""] {
            let error = serde_json::from_str::<Secret>(bad).unwrap_err().to_string();
            assert!(error.contains("hex") && !error.contains('z'), "{error}");
        }
    }
}
