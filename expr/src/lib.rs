//! Jinja as StackStorm's users meet it: Jinja2's semantics, StackStorm's filters and functions, type preservation.
//!
//! * [`render`] renders strings inside any JSON value; a template that is one single expression keeps its type
//!   where the caller asks for it.
//! * [`params`] renders and casts the parameters of an action (spec/runners.md, spec/rules.md).
//! * Look-ups in the datastore go through [`KeySource`]: rendering does no I/O. A missing key that the source can't
//!   decide on ends the rendering with [`RenderError::NeedsKeys`]; the caller fetches them and renders again.
//!
//! Templates are compiled once and cached by text; evaluation is bounded in time and memory.

pub mod jinja;
pub mod params;

pub use jinja::{Context, KeyAnswer, KeyRequest, KeySource, NoKeys, RenderError, render, render_text};
