use super::*;

/// Takes expressions as they are.
struct Blind;

impl Analyzer for Blind {
    fn faults(&self, _: &str) -> Vec<ExpressionFault> {
        Vec::new()
    }

    fn variables(&self, _: &str) -> Vec<Variable> {
        Vec::new()
    }
}

fn look(text: &str) -> Inspection {
    inspect(&Document::load(text).unwrap(), &[], &Blind)
}

#[test]
fn faults_of_form_name_their_place() {
    let found = look("version: 2.0\ntasks: {a: {action: x.y, foo: 1, join: some}}\n");
    let shown: Vec<(&str, Option<&str>)> =
        found.syntax.iter().map(|fault| (fault.message.as_str(), fault.spec_path.as_deref())).collect();
    assert_eq!(
        shown,
        [
            ("Additional properties are not allowed ('foo' was unexpected)", Some("tasks.a")),
            ("'some' is not valid under any of the given schemas", Some("tasks.a.join")),
            ("2.0 is not one of ['1.0', 1.0]", Some("version")),
        ]
    );
}

#[test]
fn joins_behind_different_splits_are_unreachable() {
    let found = look(
        "tasks:\n  a: {next: [{do: x}]}\n  b: {next: [{do: x}]}\n  c: {next: [{do: j}]}\n  x: {next: [{do: j}]}\n  j: {join: all}\n",
    );
    assert_eq!(found.semantics.len(), 1);
    assert_eq!(found.semantics[0].spec_path.as_deref(), Some("tasks.j"));
    assert!(
        look("tasks:\n  a: {next: [{do: 'b, c'}]}\n  b: {next: [{do: j}]}\n  c: {next: [{do: j}]}\n  j: {join: all}\n")
            .is_clean()
    );
}

#[test]
fn targets_and_names_are_checked() {
    let found = look("tasks:\n  a: {next: [{do: gone}]}\n  noop: {action: x.y}\n  w: {with: <% ctx(x) %>}\n");
    assert_eq!(found.semantics.len(), 3);
    assert_eq!(found.flat()[0]["type"], "semantic");
}
