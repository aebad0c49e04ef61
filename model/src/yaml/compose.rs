//! From the parser's events to a value.

use std::borrow::Cow;
use std::collections::HashMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Tag};
use serde_json::Value;

use super::{MAX_DEPTH, MAX_NODES, YamlError, resolve};
use crate::resource::Object;

/// A composed node, how many nodes it stands for, and how deep collections nest in it (a scalar: 0).
#[derive(Clone)]
struct Node {
    value: Value,
    size: usize,
    depth: usize,
}

struct Composer {
    anchors: HashMap<usize, Node>,
    nodes: usize,
}

/// A collection that isn't closed yet.
enum Open {
    Sequence { items: Vec<Value>, size: usize, depth: usize, anchor: usize },
    Mapping { mapping: Mapping, size: usize, depth: usize, anchor: usize },
}

/// A mapping under way: merged keys come in where the mapping itself has none.
#[derive(Default)]
struct Mapping {
    own: Object,
    merged: Vec<Value>,
    key: Option<Key>,
}

enum Key {
    Name(String),
    Merge,
}

fn error(mark: &Marker, message: impl Into<String>) -> YamlError {
    YamlError { line: mark.line().max(1), column: mark.col() + 1, message: message.into() }
}

/// `unique`: a key that comes twice in a mapping is an error, otherwise the last one wins.
pub fn load(text: &str, unique: bool) -> Result<Value, YamlError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut text = Cow::Borrowed(text);
    let mut work = 0;
    loop {
        match load_strictly(&text, unique) {
            Err(failed) if failed.message == BAD_INDENT && work < MAX_REINDENTED => {
                work += text.len();
                match reindented(&text, failed.line, failed.column) {
                    Some(again) => text = Cow::Owned(again),
                    None => return Err(failed),
                }
            }
            other => return other,
        }
    }
}

/// The parser's objection to a quoted scalar whose later lines stand to the left of their parent. PyYAML reads them.
const BAD_INDENT: &str = "invalid indentation in quoted scalar";
/// Bytes that are parsed again because of [`BAD_INDENT`].
const MAX_REINDENTED: usize = 64 << 20;

/// The text with the later lines of the quoted scalar at a place moved to the right: blanks at the beginnings of its
/// lines mean nothing.
fn reindented(text: &str, line: usize, column: usize) -> Option<String> {
    let start: usize = text.split_inclusive('\n').take(line - 1).map(str::len).sum();
    let open = text[start..].char_indices().nth(column - 1).map(|(at, _)| start + at)?;
    let (before, scalar) = text.split_at(open);
    let quote = scalar.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    let mut escaped = false;
    let end = scalar[1..].find(|c| {
        let closes = c == quote && !escaped;
        escaped = c == '\\' && quote == '"' && !escaped;
        closes
    })?;
    let (scalar, after) = scalar.split_at(end + 1);
    let pad = " ".repeat(column);
    let moved = scalar.replace('\n', &format!("\n{pad}"));
    (moved.len() > scalar.len()).then(|| format!("{before}{moved}{after}"))
}

fn load_strictly(text: &str, unique: bool) -> Result<Value, YamlError> {
    let mut composer = Composer { anchors: HashMap::new(), nodes: 0 };
    let mut stack: Vec<Open> = Vec::new();
    let mut root: Option<Value> = None;
    let mut documents = 0;
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|failed| error(failed.marker(), failed.info()))?;
        let mark = &span.start;
        let node = match event {
            Event::DocumentStart(_) => {
                documents += 1;
                if documents > 1 {
                    return Err(error(mark, "expected a single document in the stream but found another"));
                }
                continue;
            }
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain;
                if plain && text == "<<" && tag.is_none() && expects_key(&stack) {
                    set_key(&mut stack, Key::Merge);
                    continue;
                }
                let value = scalar(&text, plain, tag.as_deref(), mark)?;
                let node = Node { value, size: 1, depth: 0 };
                composer.count(&node, mark)?;
                composer.remember(anchor, &node, mark)?;
                node
            }
            Event::SequenceStart(anchor, tag) => {
                check_tag(tag.as_deref(), &["seq"], mark)?;
                stack.push(Open::Sequence { items: Vec::new(), size: 1, depth: 1, anchor });
                check_depth(stack.len(), mark)?;
                continue;
            }
            Event::MappingStart(anchor, tag) => {
                check_tag(tag.as_deref(), &["map", "set"], mark)?;
                stack.push(Open::Mapping { mapping: Mapping::default(), size: 1, depth: 1, anchor });
                check_depth(stack.len(), mark)?;
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => composer.close(stack.pop(), mark)?,
            Event::Alias(anchor) => {
                let known = composer.anchors.get(&anchor).cloned();
                let node = known.ok_or_else(|| error(mark, "found an alias to an anchor that isn't complete"))?;
                composer.count(&node, mark)?;
                check_depth(stack.len() + node.depth, mark)?;
                node
            }
            _ => continue,
        };
        place(&mut stack, &mut root, node, unique, mark)?;
    }
    Ok(root.unwrap_or(Value::Null))
}

impl Composer {
    fn count(&mut self, node: &Node, mark: &Marker) -> Result<(), YamlError> {
        self.nodes += node.size;
        if self.nodes > MAX_NODES {
            return Err(error(mark, format!("the document has more than {MAX_NODES} nodes, aliases included")));
        }
        Ok(())
    }

    /// What an anchor keeps is a copy, and counts like one: nested anchors would multiply the text.
    fn remember(&mut self, anchor: usize, node: &Node, mark: &Marker) -> Result<(), YamlError> {
        if anchor != 0 {
            self.count(node, mark)?;
            self.anchors.insert(anchor, node.clone());
        }
        Ok(())
    }

    fn close(&mut self, open: Option<Open>, mark: &Marker) -> Result<Node, YamlError> {
        let (node, anchor) = match open {
            Some(Open::Sequence { items, size, depth, anchor }) => {
                (Node { value: Value::Array(items), size, depth }, anchor)
            }
            Some(Open::Mapping { mapping, size, depth, anchor }) => {
                (Node { value: Value::Object(mapping.finish(mark)?), size, depth }, anchor)
            }
            None => return Err(error(mark, "unexpected end of a collection")),
        };
        self.nodes += 1;
        self.remember(anchor, &node, mark)?;
        Ok(node)
    }
}

impl Mapping {
    /// Own keys win over merged ones, earlier merged mappings over later ones; merged keys come first, as PyYAML
    /// puts them.
    fn finish(self, mark: &Marker) -> Result<Object, YamlError> {
        if self.merged.is_empty() {
            return Ok(self.own);
        }
        let mut sources = Vec::new();
        for merged in self.merged {
            match merged {
                Value::Object(object) => sources.push(object),
                Value::Array(items) => {
                    for item in items {
                        match item {
                            Value::Object(object) => sources.push(object),
                            _ => return Err(error(mark, "expected a mapping for merging, but found something else")),
                        }
                    }
                }
                _ => return Err(error(mark, "expected a mapping or list of mappings for merging")),
            }
        }
        let mut whole = Object::new();
        for source in sources {
            for (name, value) in source {
                whole.entry(name).or_insert(value);
            }
        }
        whole.extend(self.own);
        Ok(whole)
    }
}

fn check_depth(depth: usize, mark: &Marker) -> Result<(), YamlError> {
    if depth > MAX_DEPTH {
        return Err(error(mark, format!("nested deeper than {MAX_DEPTH} levels")));
    }
    Ok(())
}

fn expects_key(stack: &[Open]) -> bool {
    matches!(stack.last(), Some(Open::Mapping { mapping, .. }) if mapping.key.is_none())
}

fn set_key(stack: &mut [Open], key: Key) {
    if let Some(Open::Mapping { mapping, .. }) = stack.last_mut() {
        mapping.key = Some(key);
    }
}

/// Puts a finished node where it belongs: into the open collection, or as the document.
fn place(
    stack: &mut [Open],
    root: &mut Option<Value>,
    node: Node,
    unique: bool,
    mark: &Marker,
) -> Result<(), YamlError> {
    match stack.last_mut() {
        None => *root = Some(node.value),
        Some(Open::Sequence { items, size, depth, .. }) => {
            *size += node.size;
            *depth = (*depth).max(node.depth + 1);
            items.push(node.value);
        }
        Some(Open::Mapping { mapping, size, depth, .. }) => {
            *size += node.size;
            *depth = (*depth).max(node.depth + 1);
            match mapping.key.take() {
                None => mapping.key = Some(Key::Name(key_text(node.value, mark)?)),
                Some(Key::Merge) => mapping.merged.push(node.value),
                Some(Key::Name(name)) => {
                    if unique && mapping.own.contains_key(&name) {
                        return Err(error(mark, format!("found duplicate key \"{name}\"")));
                    }
                    mapping.own.insert(name, node.value);
                }
            }
        }
    }
    Ok(())
}

/// Keys as JSON writes Python's: `true`, `null`, numbers by their text.
fn key_text(key: Value, mark: &Marker) -> Result<String, YamlError> {
    match key {
        Value::String(text) => Ok(text),
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(key.to_string()),
        Value::Array(_) | Value::Object(_) => Err(error(mark, "found a collection as a mapping's key")),
    }
}

/// The local part of a core tag (`!!str`), or an error for any other.
fn core_tag<'a>(tag: &'a Tag, mark: &Marker) -> Result<&'a str, YamlError> {
    let full: Cow<'_, str> = if tag.handle == "!!" {
        Cow::Owned(format!("tag:yaml.org,2002:{}", tag.suffix))
    } else {
        Cow::Owned(format!("{}{}", tag.handle, tag.suffix))
    };
    if full == "!" {
        return Ok("str");
    }
    match full.strip_prefix("tag:yaml.org,2002:") {
        Some(_) => Ok(tag.suffix.strip_prefix("tag:yaml.org,2002:").unwrap_or(&tag.suffix)),
        None => Err(error(mark, format!("could not determine a constructor for the tag '{full}'"))),
    }
}

fn check_tag(tag: Option<&Tag>, allowed: &[&str], mark: &Marker) -> Result<(), YamlError> {
    let Some(tag) = tag else { return Ok(()) };
    let name = core_tag(tag, mark)?;
    if allowed.contains(&name) {
        return Ok(());
    }
    Err(error(mark, format!("could not determine a constructor for the tag 'tag:yaml.org,2002:{name}'")))
}

fn scalar(text: &str, plain: bool, tag: Option<&Tag>, mark: &Marker) -> Result<Value, YamlError> {
    let Some(tag) = tag else {
        return Ok(if plain { resolve::plain(text) } else { Value::String(text.to_owned()) });
    };
    let bad = |kind: &str| error(mark, format!("'{text}' is not of the tagged type {kind}"));
    match core_tag(tag, mark)? {
        "str" | "binary" | "timestamp" => Ok(Value::String(text.to_owned())),
        "int" => resolve::integer(text).ok_or_else(|| bad("int")),
        "float" => {
            let parsed = resolve::float(text).or_else(|| resolve::integer(text));
            parsed.and_then(|value| value.as_f64()).map(Value::from).ok_or_else(|| bad("float"))
        }
        "bool" => match resolve::plain(text) {
            Value::Bool(value) => Ok(Value::Bool(value)),
            _ => Err(bad("bool")),
        },
        "null" => Ok(Value::Null),
        other => Err(error(mark, format!("could not determine a constructor for the tag 'tag:yaml.org,2002:{other}'"))),
    }
}
