//! The engine's set-up, compiled templates and their cache, and one rendering.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::sync::{Arc, LazyLock};

use minijinja::value::{Object, ValueKind};
use minijinja::{Environment, ErrorKind, State, UndefinedBehavior, Value as Jinja};
use parking_lot::RwLock;

use super::datastore::{Keys, Next};
use super::{KeySource, RenderError, complexity, errors, percent, slices, values};

/// Instructions and 64-byte steps of output that one rendering may take.
const FUEL: u64 = 500_000;
/// Bytes of the longest template that is taken, and of the longest text that comes out.
const MAX_TEMPLATE: usize = 1 << 20;
const MAX_OUTPUT: usize = 16 << 20;
/// Nested calls of macros and includes.
const RECURSION: usize = 100;

/// Where the datastore's table lies for filters; no template can spell it.
pub(crate) const KEYS_VARIABLE: &str = "\0keys";
const TEMPLATE: &str = "template";

pub(crate) static BASE: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut env = Environment::new();
    minijinja_contrib::add_to_environment(&mut env);
    env.set_unknown_method_callback(crate::filters::call_method);
    env.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    env.set_undefined_behavior(UndefinedBehavior::Strict);
    env.set_debug(true);
    env.set_fuel(Some(FUEL));
    env.set_recursion_limit(RECURSION);
    if let Ok(syntax) = minijinja::syntax::SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build() {
        env.set_syntax(syntax);
    }
    env.set_formatter(|out: &mut minijinja::Output<'_>, _: &mut State<'_, '_>, value: &Jinja| {
        let written = match value.as_str() {
            Some(text) => out.write_str(text),
            None => out.write_str(&values::text(value)),
        };
        written.map_err(minijinja::Error::from)
    });
    crate::filters::register(&mut env);
    env
});

/// Whether text is a template at all.
pub fn is_template(text: &str) -> bool {
    text.contains("{{") || text.contains("{%") || text.contains("{#")
}

/// A template ready to run.
#[derive(Debug)]
pub(crate) struct Compiled {
    env: Environment<'static>,
    /// The template as an expression, for results that keep their type.
    expression: Option<minijinja::Expression<'static, 'static>>,
    /// Variables that it takes from its context.
    names: Vec<String>,
    /// Words that may be variables too.
    candidates: Vec<String>,
    key_paths: Arc<[String]>,
    asks_keys: bool,
}

/// Where a rendering finds its variables.
pub(crate) struct Scope<'a> {
    pub lookup: &'a dyn Fn(&str) -> Option<Jinja>,
    pub keys: &'a dyn KeySource,
    /// Whether `st2kv.user` exists.
    pub user_keys: bool,
    /// Whether the datastore is also there as `system` (spec/rules.md §12).
    pub legacy_system: bool,
}

/// The variables of one rendering.
#[derive(Debug)]
struct Root(Vec<(String, Jinja)>);

impl Object for Root {
    fn get_value(self: &Arc<Self>, key: &Jinja) -> Option<Jinja> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Jinja> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone())
    }
}

impl Compiled {
    fn new(text: &str, typed: bool) -> Result<Self, RenderError> {
        if text.len() > MAX_TEMPLATE {
            return Err(RenderError::Limit(format!("the template is longer than {MAX_TEMPLATE} bytes")));
        }
        if complexity::is_too_complex(text) {
            return Err(RenderError::Limit("an expression of the template is too complex".to_owned()));
        }
        let source = percent::rewrite(text);
        let mut env = BASE.clone();
        env.add_template_owned(TEMPLATE, source.clone().into_owned()).map_err(|error| errors::syntax(&error))?;
        let inner = if typed { single_expression(&source) } else { None };
        let expression = inner.and_then(|inner| BASE.compile_expression_owned(inner.to_owned()).ok());
        let template = env.get_template(TEMPLATE).map_err(|error| errors::syntax(&error))?;
        let mut names: Vec<String> = template.undeclared_variables(false).into_iter().collect();
        names.sort_unstable();
        let asks_keys = text.contains("st2kv") || text.contains("decrypt_kv") || names.iter().any(|n| n == "system");
        let key_paths: Arc<[String]> = if asks_keys {
            let paths = template
                .undeclared_variables(true)
                .into_iter()
                .map(|path| if path.starts_with("system.") { format!("st2kv.{path}") } else { path });
            paths.filter(|path| path.starts_with("st2kv.")).collect()
        } else {
            Arc::default()
        };
        let mut candidates = slices::candidates(&source);
        candidates.retain(|word| names.binary_search(word).is_err());
        Ok(Self { env, expression, names, candidates, key_paths, asks_keys })
    }

    /// A template whose undefined variables are empty texts.
    pub(crate) fn lenient(text: &str) -> Result<Self, RenderError> {
        let mut compiled = Self::new(text, false)?;
        compiled.env.set_undefined_behavior(UndefinedBehavior::Lenient);
        Ok(compiled)
    }

    /// Variables that the template takes from its context; those that the engine itself has are left out.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        let globals = |name: &str| BASE.globals().any(|(global, _)| global == name);
        self.names.iter().map(String::as_str).filter(move |name| !globals(name))
    }

    /// Words that are variables of the template if its context has them.
    pub(crate) fn candidates(&self) -> &[String] {
        &self.candidates
    }

    pub(crate) fn text(&self, scope: &Scope<'_>) -> Result<String, RenderError> {
        let text =
            self.run(scope, |root| self.env.get_template(TEMPLATE).and_then(|template| template.render(root)))?;
        if text.len() > MAX_OUTPUT {
            return Err(RenderError::Limit(format!("the rendered text is longer than {MAX_OUTPUT} bytes")));
        }
        Ok(text)
    }

    /// The value of a template that is a single expression; the text of any other.
    pub(crate) fn value(&self, scope: &Scope<'_>) -> Result<Jinja, RenderError> {
        let Some(expression) = &self.expression else { return self.text(scope).map(Jinja::from) };
        self.run(scope, |root| {
            let value = expression.eval(root)?;
            if value.kind() == ValueKind::Undefined {
                // The template's own error names what is undefined.
                let root = self.root(scope, None);
                return self.env.get_template(TEMPLATE)?.render(root).map(Jinja::from);
            }
            Ok(value)
        })
    }

    fn root(&self, scope: &Scope<'_>, keys: Option<&Arc<Keys>>) -> Jinja {
        let mut vars = Vec::with_capacity(self.names.len() + 1);
        for name in self.names.iter().chain(&self.candidates) {
            if let Some(value) = (scope.lookup)(name) {
                vars.push((name.clone(), value));
            } else if let Some(keys) = keys {
                match name.as_str() {
                    "st2kv" => vars.push((name.clone(), keys.root())),
                    "system" if scope.legacy_system => vars.push((name.clone(), keys.system())),
                    _ => {}
                }
            }
        }
        if let Some(keys) = keys {
            vars.push((KEYS_VARIABLE.to_owned(), keys.root()));
        }
        Jinja::from_object(Root(vars))
    }

    fn run<T>(
        &self,
        scope: &Scope<'_>,
        execute: impl Fn(Jinja) -> Result<T, minijinja::Error>,
    ) -> Result<T, RenderError> {
        let keys = self.asks_keys.then(|| Keys::new(self.key_paths.clone(), scope.user_keys, scope.keys));
        let root = self.root(scope, keys.as_ref());
        let mut pass = 0;
        loop {
            let result = execute(root.clone());
            pass += 1;
            match keys.as_ref().map_or(Next::Final, |keys| keys.settle(scope.keys, pass)) {
                Next::Final => return result.map_err(|error| self.explain(&error, &root)),
                Next::Again => {}
                Next::Unknown(requests) => return Err(RenderError::NeedsKeys(requests)),
            }
        }
    }

    fn explain(&self, error: &minijinja::Error, root: &Jinja) -> RenderError {
        if error.kind() == ErrorKind::OutOfFuel {
            return RenderError::Limit("the template takes too much work to render".to_owned());
        }
        RenderError::Template(errors::message(error, |expression| {
            BASE.compile_expression(expression).and_then(|expression| expression.eval(root.clone())).ok()
        }))
    }
}

/// The inside of a text that is exactly one `{{ … }}`.
fn single_expression(text: &str) -> Option<&str> {
    let inner = text.trim().strip_prefix("{{")?.strip_suffix("}}")?;
    let plain = !inner.contains("{{") && !inner.contains("}}") && !inner.contains("{%") && !inner.contains("{#");
    plain.then(|| inner.trim_matches('-').trim())
}

/// Compiled templates by text: two generations, the older dropped when the younger is full, so what is in use stays.
#[derive(Default)]
struct Cache {
    young: HashMap<Arc<str>, Result<Arc<Compiled>, RenderError>, Hasher>,
    old: HashMap<Arc<str>, Result<Arc<Compiled>, RenderError>, Hasher>,
    /// Bytes of texts in `young`.
    bytes: usize,
}

type Hasher = BuildHasherDefault<std::collections::hash_map::DefaultHasher>;

const GENERATION: usize = 2048;
const GENERATION_BYTES: usize = 4 << 20;

static TEXTS: LazyLock<RwLock<Cache>> = LazyLock::new(RwLock::default);
static EXPRESSIONS: LazyLock<RwLock<Cache>> = LazyLock::new(RwLock::default);

/// The compiled form of `text`; `typed` keeps the type of a single expression.
pub(crate) fn compile(text: &str, typed: bool) -> Result<Arc<Compiled>, RenderError> {
    let cache = if typed { &EXPRESSIONS } else { &TEXTS };
    let aged = {
        let cache = cache.read();
        if let Some(found) = cache.young.get(text) {
            return found.clone();
        }
        cache.old.get(text).cloned()
    };
    let compiled = aged.unwrap_or_else(|| Compiled::new(text, typed).map(Arc::new));
    let mut cache = cache.write();
    if cache.young.len() >= GENERATION || cache.bytes + text.len() > GENERATION_BYTES {
        cache.old = std::mem::take(&mut cache.young);
        cache.bytes = 0;
    }
    cache.bytes += text.len();
    cache.young.insert(text.into(), compiled.clone());
    compiled
}
