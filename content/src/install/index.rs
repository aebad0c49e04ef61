//! Indexes of packs: one JSON document at an address or in a file (spec/packs.md §6.5).

use std::time::Duration;

use model::Object;
use serde_json::{Value, json};

use super::source::without_password;

const TIMEOUT: Duration = Duration::from_secs(30);

/// Larger documents are refused.
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// What the indexes say, and how each of them fared.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Indexes {
    pub packs: Object,
    /// `{url, packs, message, error}` for each.
    pub status: Vec<Value>,
}

enum Trouble {
    Unresponsive(String),
    Malformed(String),
    Empty,
    Other(String),
}

/// Reads all of them; of two that know a pack, the one named first counts.
pub async fn read(urls: &[String]) -> Indexes {
    let mut indexes = Indexes::default();
    let answers = futures::future::join_all(urls.iter().map(|url| one(url))).await;
    for (url, answer) in urls.iter().zip(answers) {
        let shown = without_password(url);
        let (message, error, count) = match answer {
            Ok(packs) => {
                let count = packs.len();
                for (name, pack) in packs {
                    indexes.packs.entry(name).or_insert(pack);
                }
                ("Success.".to_owned(), Value::Null, count)
            }
            Err(Trouble::Unresponsive(text)) => (text, "unresponsive".into(), 0),
            Err(Trouble::Malformed(text)) => (text, "malformed".into(), 0),
            Err(Trouble::Empty) => ("The index URL returned an empty object.".to_owned(), "empty".into(), 0),
            Err(Trouble::Other(text)) => (text, "other errors".into(), 0),
        };
        indexes.status.push(json!({"url": shown, "packs": count, "message": message, "error": error}));
    }
    indexes
}

async fn one(url: &str) -> Result<Object, Trouble> {
    let bytes = match url.strip_prefix("file://").or_else(|| url.starts_with('/').then_some(url)) {
        Some(path) => {
            let meta = tokio::fs::metadata(path).await.map_err(|error| Trouble::Unresponsive(error.to_string()))?;
            if meta.len() > MAX_BYTES as u64 {
                return Err(Trouble::Other(format!("the index has more than {MAX_BYTES} bytes")));
            }
            tokio::fs::read(path).await.map_err(|error| Trouble::Unresponsive(error.to_string()))?
        }
        None => download(url).await?,
    };
    let malformed = |text: String| Trouble::Malformed(text);
    let document: Value = serde_json::from_slice(&bytes).map_err(|error| malformed(error.to_string()))?;
    let Some(packs) = document.get("packs").and_then(Value::as_object) else {
        return match document {
            Value::Object(ref object) if object.is_empty() => Err(Trouble::Empty),
            Value::Object(_) => Err(malformed("Index should have root element: packs.".to_owned())),
            _ => Err(malformed("the index is no object".to_owned())),
        };
    };
    if packs.is_empty() { Err(Trouble::Empty) } else { Ok(packs.clone()) }
}

async fn download(url: &str) -> Result<Vec<u8>, Trouble> {
    let unresponsive = |error: reqwest::Error| Trouble::Unresponsive(error.without_url().to_string());
    // Proxies come from the environment, as for git.
    let client = reqwest::Client::builder().timeout(TIMEOUT).build().map_err(unresponsive)?;
    let mut answer = client.get(url).send().await.map_err(unresponsive)?;
    if !answer.status().is_success() {
        return Err(Trouble::Unresponsive(format!("the index answered {}", answer.status())));
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(unresponsive)? {
        if bytes.len() + chunk.len() > MAX_BYTES {
            return Err(Trouble::Other(format!("the index has more than {MAX_BYTES} bytes")));
        }
        bytes.extend(&chunk);
    }
    Ok(bytes)
}

impl Indexes {
    /// A text for whoever needs an answer, if no index gave one.
    pub fn all_failed(&self) -> Option<String> {
        if !self.packs.is_empty() {
            return None;
        }
        let tried: Vec<&str> = self.status.iter().filter_map(|status| status["url"].as_str()).collect();
        Some(format!("No results from the index: tried {}.\nStatus: {:#}", tried.join(", "), json!(self.status)))
    }

    /// The entry of a pack, by its name.
    pub fn pack(&self, name: &str) -> Option<&Value> {
        self.packs.get(name)
    }

    /// Entries that have the text somewhere; those with it in the name first, then in keywords.
    pub fn search(&self, query: &str) -> Vec<Value> {
        let query = query.to_lowercase();
        let mut ranks: [Vec<Value>; 3] = Default::default();
        for pack in self.packs.values() {
            let Some(fields) = pack.as_object() else { continue };
            let has = |field: &str| fields.get(field).is_some_and(|value| mentions(value, &query));
            let rank = match () {
                () if has("name") || has("ref") => 0,
                () if has("keywords") => 1,
                () if fields
                    .iter()
                    .any(|(name, value)| name != "repo_url" && name != "email" && mentions(value, &query)) =>
                {
                    2
                }
                () => continue,
            };
            ranks[rank].push(pack.clone());
        }
        ranks.into_iter().flatten().collect()
    }

    /// For `GET /packs/index/health`; of the errors only those that there are.
    pub fn health(&self) -> Value {
        let mut errors = Object::new();
        for kind in self.status.iter().filter_map(|status| status["error"].as_str()) {
            let before = errors.get(kind).and_then(Value::as_u64).unwrap_or(0);
            errors.insert(kind.to_owned(), (before + 1).into());
        }
        let valid = self.status.iter().filter(|status| status["error"].is_null()).count();
        json!({
            "indexes": {
                "count": self.status.len(),
                "valid": valid,
                "invalid": self.status.len() - valid,
                "errors": errors,
                "status": self.status,
            },
            "packs": {"count": self.packs.len()},
        })
    }
}

/// Whether some text in it holds the lower-case query.
fn mentions(value: &Value, query: &str) -> bool {
    match value {
        Value::String(text) => text.to_lowercase().contains(query),
        Value::Array(items) => items.iter().any(|item| mentions(item, query)),
        Value::Object(fields) => {
            fields.iter().any(|(name, value)| name.to_lowercase().contains(query) || mentions(value, query))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(dir: &tempfile::TempDir, name: &str, text: &str) -> String {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        format!("file://{}", path.display())
    }

    #[tokio::test]
    async fn the_first_index_counts_and_bad_ones_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let first = write(&dir, "a", r#"{"packs": {"csv": {"name": "csv", "version": "2.0.0"}}}"#);
        let second = write(
            &dir,
            "b",
            r#"{"packs": {"csv": {"name": "csv", "version": "1.0.0"},
                "sheets": {"name": "sheets", "keywords": ["CSV"], "repo_url": "https://x/plain"},
                "other": {"name": "other", "description": "reads csv", "email": "plain@x"}}}"#,
        );
        let urls = [first, second, write(&dir, "c", "{}"), write(&dir, "d", "["), "file:///nowhere/x".to_owned()];
        let indexes = read(&urls).await;
        assert_eq!(indexes.pack("csv").unwrap()["version"], "2.0.0");
        let names: Vec<_> = indexes.search("csv").iter().map(|pack| pack["name"].clone()).collect();
        assert_eq!(names, ["csv", "sheets", "other"]);
        assert!(indexes.search("plain").is_empty());
        let health = indexes.health();
        assert_eq!(health["indexes"]["valid"], 2);
        assert_eq!(health["indexes"]["errors"], json!({"unresponsive": 1, "malformed": 1, "empty": 1}));
        assert_eq!(health["packs"]["count"], 3);
        assert!(read(&urls[4..]).await.all_failed().is_some());
    }
}
