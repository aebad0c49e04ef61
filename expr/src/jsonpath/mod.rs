//! JSONPath as Python's `jsonpath-rw` 1.4 reads it: rule criteria and the `jsonpath_query` filter use it
//! (spec/rules.md §8).

mod lexer;
mod parser;

use std::borrow::Cow;

use serde_json::Value;

/// A path that can't be read; the text says where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PathError(pub String);

/// A compiled path.
#[derive(Debug, Clone, PartialEq)]
pub struct JsonPath(Step);

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Root,
    This,
    Parent,
    /// Fields by name; `*` among them takes all.
    Fields(Vec<String>),
    Index(i64),
    Slice(Option<i64>, Option<i64>),
    Child(Box<Step>, Box<Step>),
    Descendants(Box<Step>, Box<Step>),
    /// Left matches for which the right finds something.
    Where(Box<Step>, Box<Step>),
    Union(Box<Step>, Box<Step>),
}

/// A match: the value, and what lies above it, nearest last.
#[derive(Debug, Clone)]
struct Found<'v> {
    value: Cow<'v, Value>,
    above: Vec<Cow<'v, Value>>,
}

/// Matches beyond this many are left out.
const MAX_MATCHES: usize = 100_000;

impl JsonPath {
    pub fn parse(path: &str) -> Result<Self, PathError> {
        parser::parse(path).map(JsonPath)
    }

    /// For a path that begins with the field `name`: the same path from that field's value on.
    pub fn below(&self, name: &str) -> Option<Self> {
        self.0.below(name).map(Self)
    }

    /// All matches in order.
    pub fn find<'v>(&self, root: &'v Value) -> Vec<Cow<'v, Value>> {
        let start = Found { value: Cow::Borrowed(root), above: Vec::new() };
        self.0.find(&start).into_iter().map(|found| found.value).collect()
    }

    /// All matches in a value that can't be changed, as YAQL's data are: the library knows only Python's own lists and
    /// mappings to go down into, so `..` finds what is at its start and nothing below.
    pub fn find_frozen<'v>(&self, root: &'v Value) -> Vec<Cow<'v, Value>> {
        Self(self.0.shallow()).find(root)
    }

    /// The first match. A plain path of names costs no allocation.
    pub fn first<'v>(&self, root: &'v Value) -> Option<Cow<'v, Value>> {
        if let Some(found) = self.0.walk(root) {
            return found.map(Cow::Borrowed);
        }
        self.find(root).into_iter().next()
    }
}

impl Step {
    fn below(&self, name: &str) -> Option<Self> {
        let is_name = |step: &Self| matches!(step, Self::Fields(names) if names.len() == 1 && names[0] == name);
        match self {
            step if is_name(step) => Some(Self::This),
            Self::Child(left, right) if **left == Self::Root && is_name(right) => Some(Self::This),
            Self::Child(left, right) if !right.looks_up() => {
                Some(Self::Child(Box::new(left.below(name)?), right.clone()))
            }
            Self::Descendants(left, right) if !right.looks_up() => {
                Some(Self::Descendants(Box::new(left.below(name)?), right.clone()))
            }
            _ => None,
        }
    }

    /// Without going down any level for `..`.
    fn shallow(&self) -> Self {
        let both = |left: &Self, right: &Self| (Box::new(left.shallow()), Box::new(right.shallow()));
        match self {
            Self::Child(left, right) | Self::Descendants(left, right) => {
                let (left, right) = both(left, right);
                Self::Child(left, right)
            }
            Self::Where(left, right) => {
                let (left, right) = both(left, right);
                Self::Where(left, right)
            }
            Self::Union(left, right) => {
                let (left, right) = both(left, right);
                Self::Union(left, right)
            }
            plain => plain.clone(),
        }
    }

    /// Whether a step depends on what lies above its start.
    fn looks_up(&self) -> bool {
        match self {
            Self::Root | Self::Parent => true,
            Self::This | Self::Fields(_) | Self::Index(_) | Self::Slice(..) => false,
            Self::Child(left, right)
            | Self::Descendants(left, right)
            | Self::Where(left, right)
            | Self::Union(left, right) => left.looks_up() || right.looks_up(),
        }
    }

    /// Plain names and indexes only: the outer option says whether this is such a path.
    fn walk<'v>(&self, at: &'v Value) -> Option<Option<&'v Value>> {
        match self {
            Self::Fields(names) if names.len() == 1 && names[0] != "*" => Some(at.get(names[0].as_str())),
            Self::Root | Self::This => Some(Some(at)),
            Self::Index(index) if !at.is_string() => Some(element(at, *index)),
            Self::Child(left, right) if !matches!(**right, Self::Root) => match left.walk(at)? {
                Some(value) => right.walk(value),
                None => Some(None),
            },
            _ => None,
        }
    }

    fn find<'v>(&self, at: &Found<'v>) -> Vec<Found<'v>> {
        match self {
            Self::Root => vec![
                at.above.first().map_or_else(|| at.clone(), |root| Found { value: root.clone(), above: Vec::new() }),
            ],
            Self::This => vec![at.clone()],
            Self::Parent => at.parent().into_iter().collect(),
            Self::Fields(names) => at.fields(names),
            Self::Index(index) if at.value.is_string() => at.character(*index).into_iter().collect(),
            Self::Index(index) => {
                let found = at.map(|value| element(value, *index).into_iter().collect());
                found.into_iter().collect()
            }
            Self::Slice(start, end) => at.slice(*start, *end),
            Self::Child(left, right) => bounded(left.find(at).iter().flat_map(|found| right.find(found))),
            Self::Where(left, right) => {
                left.find(at).into_iter().filter(|found| !right.find(found).is_empty()).collect()
            }
            Self::Union(left, right) => bounded(left.find(at).into_iter().chain(right.find(at))),
            Self::Descendants(left, right) => {
                let mut out = Vec::new();
                for found in left.find(at) {
                    descend(&found, right, &mut out);
                }
                out
            }
        }
    }
}

fn bounded<'v>(found: impl Iterator<Item = Found<'v>>) -> Vec<Found<'v>> {
    found.take(MAX_MATCHES).collect()
}

/// The step's matches here, then those below, in order.
fn descend<'v>(at: &Found<'v>, step: &Step, out: &mut Vec<Found<'v>>) {
    if out.len() >= MAX_MATCHES {
        return;
    }
    out.extend(step.find(at));
    for child in at.children() {
        descend(&child, step, out);
    }
}

fn element(value: &Value, index: i64) -> Option<&Value> {
    let items = value.as_array()?;
    let place = if index < 0 { index + i64::try_from(items.len()).ok()? } else { index };
    items.get(usize::try_from(place).ok()?)
}

impl<'v> Found<'v> {
    fn below(&self, value: Cow<'v, Value>) -> Self {
        let mut above = self.above.clone();
        above.push(self.value.clone());
        Self { value, above }
    }

    fn parent(&self) -> Option<Self> {
        let mut above = self.above.clone();
        above.pop().map(|value| Self { value, above })
    }

    /// Texts are lists of characters to an index.
    fn character(&self, index: i64) -> Option<Self> {
        let text = self.value.as_str()?;
        let place = usize::try_from(if index < 0 { -1 - index } else { index }).ok()?;
        let found = if index < 0 { text.chars().rev().nth(place) } else { text.chars().nth(place) };
        found.map(|c| self.below(Cow::Owned(Value::String(c.to_string()))))
    }

    /// Children picked by `pick`.
    fn map(&self, pick: impl Fn(&Value) -> Vec<&Value>) -> Vec<Self> {
        match &self.value {
            Cow::Borrowed(value) => pick(value).into_iter().map(|found| self.below(Cow::Borrowed(found))).collect(),
            Cow::Owned(value) => pick(value).into_iter().map(|found| self.below(Cow::Owned(found.clone()))).collect(),
        }
    }

    fn fields(&self, names: &[String]) -> Vec<Self> {
        self.map(|value| {
            let Some(fields) = value.as_object() else { return Vec::new() };
            if names.iter().any(|name| name == "*") {
                return fields.values().collect();
            }
            names.iter().filter_map(|name| fields.get(name)).collect()
        })
    }

    /// What isn't a list counts as a list of itself.
    fn slice(&self, start: Option<i64>, end: Option<i64>) -> Vec<Self> {
        let items = match &*self.value {
            Value::Array(items) => items.len(),
            Value::Null => return Vec::new(),
            _ => 1,
        };
        let places = slice_places(items, start, end);
        self.map(|value| match value.as_array() {
            Some(items) => items.get(places.clone()).unwrap_or_default().iter().collect(),
            None => places.clone().map(|_| value).collect(),
        })
    }

    fn children(&self) -> Vec<Self> {
        self.map(|value| match value {
            Value::Array(items) => items.iter().collect(),
            Value::Object(fields) => fields.values().collect(),
            _ => Vec::new(),
        })
    }
}

/// Places of Python's `[start:end]`.
fn slice_places(length: usize, start: Option<i64>, end: Option<i64>) -> std::ops::Range<usize> {
    let length = i64::try_from(length).unwrap_or(i64::MAX);
    let clamp = |given: i64| (if given < 0 { given.saturating_add(length) } else { given }).clamp(0, length);
    let place = |at: i64| usize::try_from(at).unwrap_or(0);
    place(start.map_or(0, clamp))..place(end.map_or(length, clamp))
}

#[cfg(test)]
mod tests;
