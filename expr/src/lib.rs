//! Expressions: Jinja as StackStorm's users meet it, and both languages of Orquesta's workflows.
//!
//! * [`render`] renders strings inside any JSON value, [`render_text`] one text.
//! * [`params`] renders and casts the parameters of an action (spec/runners.md, spec/rules.md).
//! * [`workflow`] evaluates YAQL and Jinja in workflows (spec/orquesta.md §24 to §27, docs/expressions.md).
//! * [`criteria`] decides whether a rule matches a trigger instance.
//! * [`jsonpath`] finds values as `jsonpath-rw` does, [`pyregex`] matches as Python's `re` does.
//! * Look-ups in the datastore go through [`KeySource`]: rendering does no I/O. A missing key that the source can't
//!   decide on ends the rendering with [`RenderError::NeedsKeys`]; the caller fetches them and renders again.
//!
//! Templates are compiled once and cached by text; evaluation is bounded in time and memory.

pub mod criteria;
mod filters;
pub mod jinja;
pub mod jsonpath;
pub mod params;
pub mod pyregex;
pub mod workflow;
mod yaql;

pub use jinja::{
    Context, KeyAnswer, KeyRequest, KeySource, NoKeys, RenderError, is_template, render, render_lenient, render_text,
};
