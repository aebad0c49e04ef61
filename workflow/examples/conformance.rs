//! Runs recorded behaviour of the reference engine: `conformance DIR`, with DIR/workflows/*.json. Ends with the line
//! `N passed, N failed`; `--internal` also shows what differs inside of the engine, `--only TEXT` limits the details.

#![expect(clippy::print_stdout, reason = "it is what the program is for")]

use std::collections::HashMap;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use expr::{KeyAnswer, KeyRequest};
use model::Scope;
use serde_json::Value;
use workflow::orquesta::conformance::run_folder;
use workflow::orquesta::expression::Expressions;
use workflow::orquesta::language::Language;

/// The datastore of a case: `system.x`, or a key of the user; a mapping holds the plain text of a secret.
fn expressions(kv: &Value) -> Box<dyn Expressions> {
    let mut keys = HashMap::new();
    for (name, value) in kv.as_object().into_iter().flatten() {
        let (scope, name) = match name.strip_prefix("system.") {
            Some(name) => (Scope::System, name),
            None => (Scope::User, name.strip_prefix("user.").unwrap_or(name)),
        };
        let (value, secret) = match value {
            Value::Object(secret) => (secret.values().next().and_then(Value::as_str).unwrap_or_default(), true),
            value => (value.as_str().unwrap_or_default(), false),
        };
        let answer = KeyAnswer::Value { value: value.to_owned(), secret };
        keys.insert(KeyRequest { scope, name: name.to_owned() }, answer);
    }
    Box::new(Language::new(keys, Arc::new(|text| Ok(text.to_owned()))))
}

fn main() -> std::io::Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(folder) = arguments.first() else {
        println!("usage: conformance DIR [--internal] [--only TEXT]");
        return Ok(ExitCode::FAILURE);
    };
    let internal = arguments.iter().any(|argument| argument == "--internal");
    let only = arguments.iter().skip_while(|argument| *argument != "--only").nth(1).cloned().unwrap_or_default();
    let outcomes = run_folder(&Path::new(folder).join("workflows"), &expressions, &Language::default())?;
    let failed = outcomes.iter().filter(|(_, outcome)| !outcome.differences.is_empty()).count();
    let inside = outcomes.iter().filter(|(_, outcome)| !outcome.internal.is_empty()).count();
    for (name, outcome) in outcomes.iter().filter(|(name, _)| name.contains(&only)) {
        let shown = outcome.internal.iter().filter(|_| internal);
        for difference in outcome.differences.iter().chain(shown) {
            println!("{name}: {difference}");
        }
    }
    println!("{inside} differ inside");
    println!("{} passed, {failed} failed", outcomes.len() - failed);
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
