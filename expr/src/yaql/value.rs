//! Values of running expressions.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash, Hasher};
use std::rc::Rc;

use chrono::{DateTime, FixedOffset};
use serde_json::{Map, Number, Value};

use super::texts;
use crate::workflow::Fault;

/// Entries of a mapping that are gone through one by one.
const UNINDEXED: usize = 8;
/// Nesting of lists and mappings.
const MAX_DEPTH: u16 = 100;
/// Bytes of a value that an expression has built, about as JSON would have it; data of the workflow may be larger.
const MAX_WEIGHT: usize = 64 << 20;

pub(super) type R<T = V> = Result<T, Fault>;

#[derive(Debug, Clone)]
pub(super) enum V {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(Rc<str>),
    Seq(Rc<Seq>),
    Dict(Rc<Dict>),
    Date(DateTime<FixedOffset>),
    /// Microseconds.
    Span(i64),
    Regex(Rc<Pattern>),
}

/// What a collection is to the functions' types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    List,
    /// Can be gone through, has no length and no index.
    Iter,
    Set,
    /// `values()` of a mapping.
    View,
}

#[derive(Debug, Clone)]
pub(super) struct Seq {
    pub items: Vec<V>,
    pub kind: Kind,
    /// Goes on forever; `items` is as much as is ever computed.
    pub endless: bool,
    /// By what `orderBy` has sorted it, for `thenBy`.
    pub order: Option<Rc<Order>>,
    /// Python's own list, as parsed texts give it, and not one of YAQL's that can't be changed.
    pub thawed: bool,
    size: Size,
}

/// Keys of sorted items.
#[derive(Debug, Clone, Default)]
pub(super) struct Order {
    pub keys: Vec<Vec<V>>,
    pub descending: Vec<bool>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Dict {
    pub entries: Vec<(V, V)>,
    /// As [`Seq::thawed`].
    pub thawed: bool,
    /// Places by key, of more than [`UNINDEXED`] entries.
    index: HashMap<V, usize>,
    size: Size,
}

/// How much a value is when it is written out: parts may be shared, and then the whole is more than its memory.
#[derive(Debug, Clone, Copy, Default)]
struct Size {
    /// Lists and mappings within each other.
    depth: u16,
    /// About the bytes of its text.
    weight: usize,
}

impl Size {
    fn around<'v>(items: impl Iterator<Item = &'v V>) -> Self {
        items.fold(Self { depth: 1, weight: 2 }, |size, item| size.with(item))
    }

    fn with(self, item: &V) -> Self {
        let Self { depth, weight } = item.size();
        Self { depth: self.depth.max(depth + 1), weight: self.weight.saturating_add(weight) }
    }

    /// `data` may be as large as it is.
    fn check(self, data: bool) -> R<()> {
        if self.depth > MAX_DEPTH {
            return Err(Fault::limit("the value is nested too deeply"));
        }
        if self.weight > MAX_WEIGHT && !data { Err(Fault::limit("the value is too large")) } else { Ok(()) }
    }
}

#[derive(Debug)]
pub(super) struct Pattern {
    pub source: String,
    pub regex: crate::pyregex::PyRegex,
}

impl V {
    pub(super) fn text(text: impl AsRef<str>) -> Self {
        Self::Text(Rc::from(text.as_ref()))
    }

    pub(super) fn list(items: Vec<Self>) -> R {
        Self::seq(items, Kind::List)
    }

    pub(super) fn iter(items: Vec<Self>) -> R {
        Self::seq(items, Kind::Iter)
    }

    pub(super) fn seq(items: Vec<Self>, kind: Kind) -> R {
        Self::seq_open(items, kind, false)
    }

    pub(super) fn seq_open(items: Vec<Self>, kind: Kind, endless: bool) -> R {
        let size = Size::around(items.iter());
        size.check(false)?;
        Ok(Self::Seq(Rc::new(Seq { items, kind, endless, order: None, thawed: false, size })))
    }

    /// What `orderBy` gives.
    pub(super) fn ordered(items: Vec<Self>, order: Order) -> R {
        let size = Size::around(items.iter());
        size.check(false)?;
        let order = Some(Rc::new(order));
        Ok(Self::Seq(Rc::new(Seq { items, kind: Kind::Iter, endless: false, order, thawed: false, size })))
    }

    /// A set: doubles dropped, order of first appearance.
    pub(super) fn set(items: Vec<Self>) -> R {
        Self::seq(unique(items), Kind::Set)
    }

    pub(super) fn dict(dict: Dict) -> R {
        dict.size.check(false)?;
        Ok(Self::Dict(Rc::new(dict)))
    }

    fn size(&self) -> Size {
        match self {
            Self::Seq(seq) => seq.size,
            Self::Dict(dict) => dict.size,
            Self::Text(text) => Size { depth: 0, weight: text.len() + 4 },
            _ => Size { depth: 0, weight: 8 },
        }
    }

    pub(super) fn truthy(&self) -> bool {
        match self {
            Self::Null => false,
            Self::Bool(flag) => *flag,
            Self::Int(number) => *number != 0,
            Self::Float(number) => *number != 0.0,
            Self::Text(text) => !text.is_empty(),
            Self::Seq(seq) => seq.kind == Kind::Iter || !seq.items.is_empty(),
            Self::Dict(dict) => !dict.entries.is_empty(),
            Self::Span(span) => *span != 0,
            Self::Date(_) | Self::Regex(_) => true,
        }
    }

    /// Data of the workflow.
    pub(super) fn from_json(value: &Value) -> R {
        Self::convert(value, false)
    }

    /// What a function has parsed.
    pub(super) fn parsed(value: &Value) -> R {
        Self::convert(value, true)
    }

    fn convert(value: &Value, thawed: bool) -> R {
        Ok(match value {
            Value::Null => Self::Null,
            Value::Bool(flag) => Self::Bool(*flag),
            Value::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(number), _) => Self::Int(number.into()),
                (_, Some(number)) => Self::Int(number.into()),
                _ => Self::Float(number.as_f64().unwrap_or(f64::NAN)),
            },
            Value::String(text) => Self::text(text),
            Value::Array(items) => {
                let items: Vec<Self> = items.iter().map(|item| Self::convert(item, thawed)).collect::<R<_>>()?;
                let size = Size::around(items.iter());
                size.check(true)?;
                Self::Seq(Rc::new(Seq { items, kind: Kind::List, endless: false, order: None, thawed, size }))
            }
            Value::Object(fields) => {
                let mut dict = Dict { thawed, ..Dict::default() };
                for (name, field) in fields {
                    dict.insert(Self::text(name), Self::convert(field, thawed)?);
                }
                dict.size.check(true)?;
                Self::Dict(Rc::new(dict))
            }
        })
    }

    /// What leaves the expression: collections become arrays, keys become text.
    pub(super) fn to_json(&self) -> R<Value> {
        Ok(match self {
            Self::Null => Value::Null,
            Self::Bool(flag) => Value::Bool(*flag),
            Self::Int(number) => i64::try_from(*number)
                .map(Value::from)
                .or_else(|_| u64::try_from(*number).map(Value::from))
                .unwrap_or_else(|_| Value::from(*number as f64)),
            // JSON has no infinity.
            Self::Float(number) => {
                Number::from_f64(*number).map_or_else(|| Value::String(texts::text(self)), Value::Number)
            }
            Self::Text(text) => Value::String(text.to_string()),
            Self::Seq(seq) => {
                if seq.endless {
                    return Err(Fault::limit("the collection has no end"));
                }
                let bad = seq.items.iter().find_map(Self::unhashable).filter(|_| seq.kind == Kind::Set);
                if let Some(bad) = bad {
                    return Err(Fault::new("TypeError", format!("unhashable type: '{bad}'")));
                }
                Value::Array(seq.items.iter().map(Self::to_json).collect::<R<_>>()?)
            }
            Self::Dict(dict) => {
                let mut fields = Map::new();
                for (name, field) in &dict.entries {
                    if let Some(bad) = name.unhashable() {
                        return Err(Fault::new("TypeError", format!("unhashable type: '{bad}'")));
                    }
                    fields.insert(key_text(name), field.to_json()?);
                }
                Value::Object(fields)
            }
            Self::Date(date) => Value::String(texts::iso(date)),
            Self::Span(_) | Self::Regex(_) => Value::String(texts::text(self)),
        })
    }

    /// Tuples become lists on the way out, and those can't be members of sets.
    fn unhashable(&self) -> Option<&'static str> {
        match self {
            Self::Seq(seq) if seq.kind == Kind::List => Some("list"),
            Self::Dict(_) => Some("dict"),
            _ => None,
        }
    }

    /// Whether Python would have its own list or mapping here.
    pub(super) fn is_thawed(&self) -> bool {
        match self {
            Self::Seq(seq) => seq.thawed,
            Self::Dict(dict) => dict.thawed,
            _ => false,
        }
    }

    pub(super) fn is_list(&self) -> bool {
        matches!(self, Self::Seq(seq) if matches!(seq.kind, Kind::List | Kind::Iter))
    }
}

fn key_text(key: &V) -> String {
    match key {
        V::Null => "null".to_owned(),
        V::Bool(flag) => flag.to_string(),
        other => texts::text(other),
    }
}

/// Without doubles.
pub(super) fn unique(items: Vec<V>) -> Vec<V> {
    let mut seen = HashSet::new();
    items.into_iter().filter(|item| seen.insert(item.clone())).collect()
}

impl Dict {
    pub(super) fn get(&self, key: &V) -> Option<&V> {
        self.place(key).map(|at| &self.entries[at].1)
    }

    fn place(&self, key: &V) -> Option<usize> {
        if self.entries.len() > UNINDEXED {
            return self.index.get(key).copied();
        }
        self.entries.iter().position(|(known, _)| known == key)
    }

    /// The entry of a plain name.
    pub(super) fn named(&self, name: &str) -> Option<&V> {
        if self.entries.len() > UNINDEXED {
            return self.get(&V::text(name));
        }
        let is = |key: &V| matches!(key, V::Text(text) if **text == *name);
        self.entries.iter().find(|(key, _)| is(key)).map(|(_, value)| value)
    }

    pub(super) fn insert(&mut self, key: V, value: V) {
        let Size { depth, weight } = self.size.with(&key).with(&value);
        self.size = Size { depth: depth.max(1), weight };
        match self.place(&key) {
            Some(at) => self.entries[at].1 = value,
            None => {
                let count = self.entries.len();
                if count == UNINDEXED {
                    self.index = self.entries.iter().enumerate().map(|(at, (key, _))| (key.clone(), at)).collect();
                }
                if count >= UNINDEXED {
                    self.index.insert(key.clone(), count);
                }
                self.entries.push((key, value));
            }
        }
    }

    pub(super) fn without(&self, keys: &[V]) -> Self {
        let kept = self.entries.iter().filter(|(key, _)| !keys.contains(key));
        kept.cloned().collect()
    }
}

impl FromIterator<(V, V)> for Dict {
    fn from_iter<I: IntoIterator<Item = (V, V)>>(pairs: I) -> Self {
        let mut dict = Self::default();
        for (key, value) in pairs {
            dict.insert(key, value);
        }
        dict
    }
}

/// Python's equality: `true = 1 = 1.0`.
impl PartialEq for V {
    fn eq(&self, other: &Self) -> bool {
        if let (Self::Text(a), Self::Text(b)) = (self, other) {
            return a == b;
        }
        if let (Some(a), Some(b)) = (self.number(), other.number()) {
            return match (a, b) {
                (Self::Int(a), Self::Int(b)) => a == b,
                (a, b) => a.float() == b.float(),
            };
        }
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Seq(a), Self::Seq(b)) => match (a.kind, b.kind) {
                (Kind::Set, Kind::Set) => {
                    let theirs: HashSet<&Self> = b.items.iter().collect();
                    a.items.len() == b.items.len() && a.items.iter().all(|item| theirs.contains(item))
                }
                (Kind::List, Kind::List) => a.items == b.items,
                _ => Rc::ptr_eq(a, b),
            },
            (Self::Dict(a), Self::Dict(b)) => {
                a.entries.len() == b.entries.len() && a.entries.iter().all(|(key, value)| b.get(key) == Some(value))
            }
            (Self::Date(a), Self::Date(b)) => a == b,
            (Self::Span(a), Self::Span(b)) => a == b,
            (Self::Regex(a), Self::Regex(b)) => a.source == b.source,
            _ => false,
        }
    }
}

impl Eq for V {}

impl V {
    /// Numbers as Python compares them, truth values among them.
    fn number(&self) -> Option<Self> {
        match self {
            Self::Bool(flag) => Some(Self::Int((*flag).into())),
            Self::Int(_) | Self::Float(_) => Some(self.clone()),
            _ => None,
        }
    }

    pub(super) fn float(&self) -> f64 {
        match self {
            Self::Int(number) => *number as f64,
            Self::Float(number) => *number,
            _ => f64::NAN,
        }
    }
}

/// A hash that doesn't depend on the order.
fn unordered(items: impl Iterator<Item = impl Hash>) -> u64 {
    let one = |item| BuildHasherDefault::<DefaultHasher>::default().hash_one(item);
    items.map(one).fold(0, u64::wrapping_add)
}

impl Hash for V {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Self::Null => 0.hash(state),
            Self::Bool(flag) => f64::from(u8::from(*flag)).to_bits().hash(state),
            Self::Int(_) | Self::Float(_) => (self.float() + 0.0).to_bits().hash(state),
            Self::Text(text) => text.hash(state),
            Self::Seq(seq) if seq.kind == Kind::List => seq.items.hash(state),
            Self::Seq(seq) => unordered(seq.items.iter()).hash(state),
            Self::Dict(dict) => unordered(dict.entries.iter()).hash(state),
            Self::Date(date) => date.hash(state),
            Self::Span(span) => span.hash(state),
            Self::Regex(pattern) => pattern.source.hash(state),
        }
    }
}
