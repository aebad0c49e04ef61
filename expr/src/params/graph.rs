//! The graph of variables and parameters, and its evaluation in order.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use minijinja::Value as Jinja;
use model::Object;
use serde_json::Value;

use super::{ParamError, has_template, is_immutable};
use crate::filters::dumps;
use crate::jinja::{Compiled, Context, RenderError, Variables, compile, values};

#[derive(Debug, Default)]
struct Node<'v> {
    value: Option<&'v Value>,
    template: Option<Template>,
    /// The context's own names are there even without a value.
    exists: bool,
    /// Nodes that use this one.
    users: Vec<usize>,
    /// How many nodes this one uses.
    uses: usize,
}

#[derive(Debug)]
struct Template {
    compiled: Arc<Compiled>,
    /// A list or object in JSON form.
    container: bool,
}

/// Variables and parameters in the order of their appearance.
pub(super) struct Graph<'v> {
    context: &'v Context<'v>,
    names: Vec<String>,
    index: HashMap<String, usize>,
    nodes: Vec<Node<'v>>,
    /// A template that could not be compiled for another reason than its syntax.
    failure: Option<ParamError>,
    /// Words in templates, with the node that uses them, which count if there is such a node.
    candidates: Vec<(String, usize)>,
}

impl<'v> Graph<'v> {
    pub(super) fn new(context: &'v Context<'v>) -> Self {
        let mut graph = Self {
            context,
            names: Vec::new(),
            index: HashMap::new(),
            nodes: Vec::new(),
            failure: None,
            candidates: Vec::new(),
        };
        let datastore = graph.node("st2kv");
        graph.nodes[datastore].exists = true;
        for (name, value) in context.vars {
            graph.add_value(name, value);
        }
        graph
    }

    fn node(&mut self, name: &str) -> usize {
        if let Some(index) = self.index.get(name) {
            return *index;
        }
        let index = self.nodes.len();
        self.nodes.push(Node::default());
        self.names.push(name.to_owned());
        self.index.insert(name.to_owned(), index);
        index
    }

    pub(super) fn add_value(&mut self, name: &str, value: &'v Value) {
        let index = self.node(name);
        self.nodes[index].value = Some(value);
    }

    /// Adds a value, or a template with what it uses. A text with bad syntax is a value.
    pub(super) fn add(&mut self, name: &str, value: &'v Value) {
        let Some((compiled, used)) = self.template(name, value) else {
            self.add_value(name, value);
            return;
        };
        let index = self.node(name);
        self.candidates.extend(compiled.candidates().iter().map(|word| (word.clone(), index)));
        self.nodes[index].template = Some(Template { compiled, container: !value.is_string() });
        for used in used {
            let source = self.node(&used);
            self.connect(source, index);
        }
    }

    /// A second template of the same node (a default) may use the same name again.
    fn connect(&mut self, source: usize, user: usize) {
        if !self.nodes[source].users.contains(&user) {
            self.nodes[source].users.push(user);
            self.nodes[user].uses += 1;
        }
    }

    fn template(&mut self, name: &str, value: &Value) -> Option<(Arc<Compiled>, Vec<String>)> {
        if !has_template(value) {
            return None;
        }
        let compiled = match value {
            Value::String(text) => compile(text, false),
            other => compile(&typed_insertions(&dumps(other)), false),
        };
        match compiled {
            Ok(compiled) => {
                let used = compiled.names().map(str::to_owned).collect();
                Some((compiled, used))
            }
            Err(RenderError::Syntax(_)) => None,
            Err(error) => {
                self.failure = Some(failed(name, &error));
                None
            }
        }
    }

    /// Defaults take the place of what is missing, null, immutable, or (as in StackStorm) itself a template: then a
    /// template wins over the caller's, while a plain default changes nothing.
    pub(super) fn add_defaults(&mut self, schemas: [&'v Object; 2]) {
        for (name, schema) in schemas.iter().flat_map(|schema| schema.iter()) {
            let present = self.index.get(name).map(|index| &self.nodes[*index]);
            let has_value = present.is_some_and(|node| node.exists || node.value.is_some_and(|value| !value.is_null()));
            if !has_value || is_immutable(schema) {
                if is_immutable(schema)
                    && let Some(index) = self.index.get(name)
                {
                    self.nodes[*index].template = None;
                }
                self.add(name, schema.get("default").unwrap_or(&Value::Null));
            }
        }
    }

    /// Values of all nodes but `st2kv`, each after those it uses.
    pub(super) fn resolve(mut self) -> Result<Object, ParamError> {
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        for (name, node) in self.names.iter().zip(&self.nodes) {
            if node.value.is_none() && node.template.is_none() && !node.exists {
                return Err(ParamError::Invalid(format!("Dependency unsatisfied in variable \"{name}\"")));
            }
        }
        for (word, user) in std::mem::take(&mut self.candidates) {
            if let Some(source) = self.index.get(&word).copied().filter(|source| *source != user) {
                self.connect(source, user);
            }
        }
        let order = self.order()?;
        let mut resolved = Object::new();
        let mut known: HashMap<&str, Jinja> = HashMap::new();
        for index in order {
            let (name, node) = (&self.names[index], &self.nodes[index]);
            if name == "st2kv" && node.exists && node.value.is_none() && node.template.is_none() {
                continue;
            }
            let value = match &node.template {
                Some(template) => render(name, template, &known, self.context)?,
                None => node.value.cloned().unwrap_or_default(),
            };
            if !node.users.is_empty() {
                known.insert(name, values::to_jinja(&value));
            }
            resolved.insert(name.clone(), value);
        }
        Ok(resolved)
    }

    /// Each node after those it uses; among free ones the order of appearance.
    fn order(&self) -> Result<Vec<usize>, ParamError> {
        let mut open: Vec<usize> = self.nodes.iter().map(|node| node.uses).collect();
        let mut order: Vec<usize> = (0..self.nodes.len()).filter(|index| open[*index] == 0).collect();
        let mut next = 0;
        while let Some(index) = order.get(next).copied() {
            next += 1;
            for user in &self.nodes[index].users {
                open[*user] -= 1;
                if open[*user] == 0 {
                    order.push(*user);
                }
            }
        }
        if order.len() == self.nodes.len() {
            return Ok(order);
        }
        let names = self.cyclic(&open).into_iter().collect::<Vec<_>>().join(", ");
        Err(ParamError::Invalid(format!(
            "Cyclic dependency found in the following variables: {names}. Likely the variable is referencing itself"
        )))
    }

    /// The first variable of each cycle.
    fn cyclic(&self, open: &[usize]) -> BTreeSet<&str> {
        let mut found = BTreeSet::new();
        let mut seen = vec![false; self.nodes.len()];
        for start in (0..self.nodes.len()).filter(|index| open[*index] > 0) {
            let reached = self.reached(start);
            if !reached[start] || seen[start] {
                continue;
            }
            found.insert(self.names[start].as_str());
            // Everything on a common cycle is told by its first variable.
            for (index, seen) in seen.iter_mut().enumerate() {
                *seen = *seen || (reached[index] && self.reached(index)[start]);
            }
        }
        found
    }

    fn reached(&self, start: usize) -> Vec<bool> {
        let mut reached = vec![false; self.nodes.len()];
        let mut queue = vec![start];
        while let Some(index) = queue.pop() {
            for user in &self.nodes[index].users {
                if !reached[*user] {
                    reached[*user] = true;
                    queue.push(*user);
                }
            }
        }
        reached
    }
}

/// Every `"{{name}}"` inside JSON keeps its type: the quotes go, and the value is inserted as JSON.
fn typed_insertions(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let mut rest = json;
    while let Some(start) = rest.find("\"{{") {
        let inner = &rest[start + 3..];
        // The range `A-z` of StackStorm's pattern, with what lies between the cases.
        let length = inner.find(|c: char| !matches!(c, 'A'..='z' | '0'..='9' | '-')).unwrap_or(inner.len());
        let Some(after) = inner[length..].strip_prefix("}}\"").filter(|_| length > 0) else {
            out.push_str(&rest[..start + 3]);
            rest = inner;
            continue;
        };
        out.push_str(&rest[..start]);
        out.push_str("{{");
        out.push_str(&inner[..length]);
        out.push_str(" | to_complex}}");
        rest = after;
    }
    out.push_str(rest);
    out
}

fn render(
    name: &str,
    template: &Template,
    known: &HashMap<&str, Jinja>,
    context: &Context<'_>,
) -> Result<Value, ParamError> {
    let lookup = |name: &str| known.get(name).cloned();
    let variables = Variables { lookup: &lookup, keys: context.keys, user_keys: true, legacy_system: false };
    let text = template.compiled.text(&variables).map_err(|error| failed(name, &error))?;
    if !template.container {
        return Ok(Value::String(text));
    }
    serde_json::from_str(&text)
        .map_err(|error| ParamError::Invalid(format!("Failed to render parameter \"{name}\": {error}")))
}

fn failed(name: &str, error: &RenderError) -> ParamError {
    match error {
        RenderError::NeedsKeys(_) => ParamError::Render(error.clone()),
        other => ParamError::Invalid(format!("Failed to render parameter \"{name}\": {other}")),
    }
}
