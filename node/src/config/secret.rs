//! Values that must not be seen: passwords, tokens, and URLs that may hold a password.
//!
//! Their `Debug` and their serialized form (`squall config`) are masked, so no log line or error can show them.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize, Serializer};

use super::ConfigError;

const MASK: &str = "********";

/// A secret text.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(MASK)
    }
}

/// Where a server is. The password in it, if any, is for the adapter alone.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct ServerUrl(String);

impl ServerUrl {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// With the password.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What stands before `://`, or the whole text (`sqlite`).
    pub fn scheme(&self) -> &str {
        self.0.split_once("://").map_or(self.0.as_str(), |(scheme, _)| scheme)
    }

    /// Without the password, and without what may hold others (the query).
    fn masked(&self) -> String {
        let Some((scheme, rest)) = self.0.split_once("://") else { return self.0.clone() };
        let (rest, query) = rest.split_once('?').map_or((rest, ""), |(rest, query)| (rest, query));
        let query = if query.is_empty() { String::new() } else { format!("?{}", masked_query(query)) };
        // The last @ before the path ends the credentials: a password that isn't escaped may hold one itself.
        let rest = match rest.rsplit_once('@') {
            None => rest.to_owned(),
            Some((credentials, hosts)) => match credentials.split_once(':') {
                Some((user, _)) => format!("{user}:{MASK}@{hosts}"),
                None => format!("{credentials}@{hosts}"),
            },
        };
        format!("{scheme}://{rest}{query}")
    }
}

/// Values of keys that sound secret are masked.
fn masked_query(query: &str) -> String {
    let secret = |key: &str| {
        let key = key.to_ascii_lowercase();
        ["pass", "secret", "token", "authmechanismproperties"].iter().any(|word| key.contains(word))
    };
    let pairs = query.split('&').map(|pair| match pair.split_once('=') {
        Some((key, _)) if secret(key) => format!("{key}={MASK}"),
        _ => pair.to_owned(),
    });
    pairs.collect::<Vec<_>>().join("&")
}

impl fmt::Debug for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked())
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked())
    }
}

impl Serialize for ServerUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The text of a secret's file, without the white space around it. `key` names the file in errors.
pub fn read_file(key: &str, path: &Path) -> Result<String, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| ConfigError(format!("key `{key}`: can't read {}: {error}", path.display())))?;
    match text.trim() {
        "" => Err(ConfigError(format!("key `{key}`: {} is empty", path.display()))),
        text => Ok(text.to_owned()),
    }
}

/// The secret under one key, or in the file under the other.
pub fn given(key: &str, secret: Option<&Secret>, file: Option<&Path>) -> Result<Option<String>, ConfigError> {
    match (secret, file) {
        (Some(_), Some(_)) => Err(ConfigError(format!("keys `{key}` and `{key}_file`: give one of them"))),
        (Some(secret), None) => Ok(Some(secret.reveal().to_owned())),
        (None, Some(path)) => read_file(&format!("{key}_file"), path).map(Some),
        (None, None) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_masked_wherever_they_stand() {
        for (url, shown) in [
            ("sqlite", "sqlite"),
            ("mongodb://h1,h2/?replicaSet=rs", "mongodb://h1,h2/?replicaSet=rs"),
            ("mongodb://u:p@h1,h2/db", "mongodb://u:********@h1,h2/db"),
            ("amqp://u:p@ss@h/%2f", "amqp://u:********@h/%2f"),
            ("redis://:p@h", "redis://:********@h"),
            ("postgres://h/db?user=u&password=p", "postgres://h/db?user=u&password=********"),
        ] {
            let url = ServerUrl::new(url);
            assert_eq!(url.to_string(), shown);
            assert_eq!(format!("{url:?}"), shown);
            assert_eq!(serde_json::to_value(&url).unwrap(), shown);
        }
        let secret = Secret("hunter2".to_owned());
        assert!(!format!("{secret:?} {}", serde_json::to_string(&secret).unwrap()).contains("hunter2"));
    }

    #[test]
    fn a_secret_comes_from_one_place() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("secret");
        std::fs::write(&file, " hunter2\n").unwrap();
        assert_eq!(given("k", None, Some(&file)).unwrap().as_deref(), Some("hunter2"));
        let secret = Secret("x".to_owned());
        assert_eq!(given("k", Some(&secret), None).unwrap().as_deref(), Some("x"));
        assert!(given("k", Some(&secret), Some(&file)).unwrap_err().0.contains("`k_file`"));
        std::fs::write(&file, "\n").unwrap();
        assert!(given("k", None, Some(&file)).unwrap_err().0.contains("is empty"));
        assert!(given("k", None, Some(&dir.path().join("none"))).unwrap_err().0.contains("k_file"));
    }
}
