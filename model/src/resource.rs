//! What every stored resource has in common: an id, a collection, and the keys by which it can be found.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::id::Id;
use crate::time::Timestamp;

/// A JSON object.
pub type Object = serde_json::Map<String, serde_json::Value>;

/// The value under which a document is indexed. Absent keys are simply not given.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    Text(String),
    Int(i64),
}

impl From<&str> for Key {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}
impl From<String> for Key {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}
impl From<i64> for Key {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}
impl From<bool> for Key {
    fn from(value: bool) -> Self {
        Self::Int(value.into())
    }
}
impl From<Timestamp> for Key {
    fn from(value: Timestamp) -> Self {
        Self::Int(value.micros())
    }
}
impl From<Id> for Key {
    fn from(value: Id) -> Self {
        Self::Text(value.to_string())
    }
}
impl From<crate::status::Status> for Key {
    fn from(value: crate::status::Status) -> Self {
        Self::Text(value.as_str().to_owned())
    }
}

/// The keys of one document: `(field, value)` with fields that its [`Collection`] declares.
pub type Keys = Vec<(&'static str, Key)>;

/// Whether a key holds text or an integer (timestamps are integers: microseconds).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    Text,
    Int,
}

/// An index over declared fields, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Index {
    pub fields: &'static [&'static str],
    /// At most one document with these values. Documents that lack the first field are not in the index.
    pub unique: bool,
}

/// Declares a collection: adapters make tables, columns and indexes from it.
#[derive(Debug, PartialEq, Eq)]
pub struct Collection {
    pub name: &'static str,
    /// Fields that queries and sorts may name.
    pub fields: &'static [(&'static str, KeyKind)],
    pub indexes: &'static [Index],
}

/// A document of a collection. Its stored form is its serde form.
pub trait Resource: Serialize + DeserializeOwned + Clone + Send + Sync + 'static {
    const COLLECTION: &'static Collection;

    fn id(&self) -> Id;

    fn keys(&self) -> Keys;
}

/// A document with the revision under which it was read; an update names it and fails if another came first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Versioned<T> {
    /// 1 after the insert, one more after each update.
    pub rev: u64,
    pub doc: T,
}

impl<T> std::ops::Deref for Versioned<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.doc
    }
}

/// Shorthand for declaring collections.
pub const fn index(fields: &'static [&'static str]) -> Index {
    Index { fields, unique: false }
}

/// As [`index`], refusing a second document with equal values.
pub const fn unique(fields: &'static [&'static str]) -> Index {
    Index { fields, unique: true }
}

/// Serialises to a JSON object; resources are structs, so anything else is an empty object.
pub fn to_object<T: Serialize>(value: &T) -> Object {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::Object(object)) => object,
        _ => Object::new(),
    }
}
