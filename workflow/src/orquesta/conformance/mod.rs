//! Runs recorded behaviour of the reference engine: a folder with `workflows/*.json`, each a definition with what was
//! asked of it and what came of it. The kinds of cases are described beside the recordings.

mod autopilot;
mod case;
mod compare;
mod trace;

use std::path::Path;

use serde_json::Value;

pub use case::Case;

use super::inspect::{Analyzer, inspect};
use super::spec::Document;
use crate::orquesta::expression::Expressions;

/// Makes what evaluates the expressions of a case, whose datastore is given.
pub type Evaluators<'a> = dyn Fn(&Value) -> Box<dyn Expressions> + 'a;

/// How a case went.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What differs from what was recorded; none: it passed.
    pub differences: Vec<String>,
    /// What differs in the engine's inner state, which no user sees.
    pub internal: Vec<String>,
}

/// Runs all cases of a folder, in order of their names.
///
/// # Errors
///
/// If the folder or a file in it can't be read.
pub fn run_folder(
    folder: &Path,
    evaluators: &Evaluators<'_>,
    analyzer: &dyn Analyzer,
) -> std::io::Result<Vec<(String, Outcome)>> {
    let mut files: Vec<_> =
        std::fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    let mut outcomes = Vec::new();
    for file in files {
        let case: Case = serde_json::from_slice(&std::fs::read(&file)?)
            .map_err(|error| std::io::Error::other(format!("{}: {error}", file.display())))?;
        outcomes.push((case.name.clone(), run(&case, evaluators, analyzer)));
    }
    Ok(outcomes)
}

/// Runs one case.
pub fn run(case: &Case, evaluators: &Evaluators<'_>, analyzer: &dyn Analyzer) -> Outcome {
    let mut outcome = Outcome::default();
    let document = match Document::load(&case.definition) {
        Ok(document) => document,
        Err(error) => {
            if case.expected.load_error.is_none() {
                outcome.differences.push(format!("it can't be loaded: {error}"));
            }
            return outcome;
        }
    };
    if let Some(error) = &case.expected.load_error {
        outcome.differences.push(format!("it was loaded; recorded: {error}"));
        return outcome;
    }
    if case.kind != "trace" {
        let given: Vec<&str> =
            case.app_ctx.iter().map(String::as_str).chain(case.context.keys().map(String::as_str)).collect();
        let found = inspect(&document, &given, analyzer);
        compare::inspection(&found, case.expected.inspection_errors.as_ref(), &mut outcome);
        if case.kind == "inspect" || (!found.is_clean() && !case.run_despite_inspection) {
            return outcome;
        }
    }
    let expressions = evaluators(&Value::Object(case.kv.clone()));
    if case.kind == "trace" {
        trace::run(case, &document, &*expressions, &mut outcome);
    } else {
        autopilot::run(case, &document, &*expressions, &mut outcome);
    }
    outcome
}
