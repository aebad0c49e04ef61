//! Recorded expressions (data/orquesta/expressions of the shared folder), arbitrary texts, and bounds.
#![allow(clippy::expect_used)] // helpers of tests

mod recorded;

use std::path::Path;

use expr::workflow::{EvalError, NoTasks, Scope, evaluate, validate, variables};
use expr::{NoKeys, workflow};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// Recorded results that we knowingly don't reach: docs/expressions.md says why.
const DIFFERENT: usize = 6;

#[test]
fn recorded_expressions_give_what_the_reference_gives() {
    let Some(shared) = std::env::var_os("SQUALL_SHARED") else {
        eprintln!("skipped: SQUALL_SHARED isn't set, which names the folder with the recorded expressions");
        return;
    };
    let (passed, failures) = recorded::run(&Path::new(&shared).join("data/orquesta/expressions"));
    assert!(failures.len() <= DIFFERENT, "{passed} passed, these failed:\n{}", failures.join("\n"));
}

fn run(text: &str, ctx: &Value) -> Result<Value, EvalError> {
    let ctx = ctx.as_object().cloned().unwrap_or_else(Map::new);
    let scope = Scope { ctx: &ctx, task: None, item: None, tasks: &NoTasks, keys: &NoKeys };
    evaluate(&json!(text), &scope)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_an_answer_or_an_error(text in ".{0,60}") {
        for wrapped in [text.clone(), format!("<% {text} %>"), format!("{{{{ {text} }}}}")] {
            let _ = run(&wrapped, &json!({"a": 1}));
            let _ = validate(&json!(wrapped));
            let _ = variables(&json!(wrapped));
            let _ = workflow::is_expression(&wrapped);
        }
    }

    #[test]
    fn any_row_of_tokens_is_an_answer_or_an_error(
        words in prop::collection::vec(prop::sample::select(vec![
            "1", "2.5", "'x'", "a", "$", "$x", "(", ")", "[", "]", "{", "}", ",", "=>", "->", ".", "?.", "+", "-",
            "*", "/", "mod", "not", "and", "or", "in", "=", "<", "=~", "ctx(l)", "len(", ".select(", ".where(",
            "range(5)", "let(", "switch(", "null", "true", ".orderBy(", "dict(", ".repeat(", "regex(",
        ]), 0..16)
    ) {
        let _ = run(&format!("<% {} %>", words.join(" ")), &json!({"l": [3, 1, {"a": null}]}));
    }
}

/// Runs in the stack that threads of a runtime have.
fn bounded(text: &str) {
    let text = text.to_owned();
    let started = std::time::Instant::now();
    let thread = std::thread::Builder::new().stack_size(2 << 20);
    let result = thread.spawn(move || run(&text, &json!({}))).map(std::thread::JoinHandle::join);
    assert!(matches!(&result, Ok(Ok(Err(EvalError::Failed { message, .. }))) if message.len() < 200_000), "{result:?}");
    assert!(started.elapsed() < std::time::Duration::from_secs(30));
}

#[test]
fn results_that_hold_expressions_are_bounded() {
    let text = "<% ctx(x) %> <% str(ctx(x)) %> <% ctx(x) + '' %>";
    assert!(matches!(run(text, &json!({ "x": text })), Err(EvalError::Failed { .. })));
    let text = "{{ ctx('x') }} {{ ctx().x }}";
    assert!(matches!(run(text, &json!({ "x": text })), Err(EvalError::Failed { .. })));
}

#[test]
fn evaluation_is_bounded() {
    bounded("<% def(f, f($)) -> f(1) %>");
    bounded("<% range(1000000000) %>");
    bounded("<% range(100000).select(range(100000)).flatten() %>");
    bounded("<% sequence().select($ * 2) %>");
    bounded("<% sequence().toList().len() %>");
    bounded("<% generate(0, true, $ + 1) %>");
    bounded("<% 'x' * 1000000000000 %>");
    bounded("<% range(30).aggregate($1 + $1, 'xxxxxxxx') + 1 %>");
    bounded("<% range(100000).aggregate([$1]) %>");
    bounded("<% pow(10, 1000) %>");
    bounded(&format!("<% {}1{} %>", "(".repeat(10_000), ")".repeat(10_000)));
    bounded(&format!("<% {}1 %>", "-".repeat(10_000)));
    bounded(&format!("<% 1{} %>", " + 1".repeat(10_000)));
    bounded(&format!("<% a{} %>", ".b".repeat(10_000)));
}
