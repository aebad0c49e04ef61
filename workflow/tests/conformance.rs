//! Recorded workflows and expressions: a few in `tests/cases`, and those of the reference engine where the shared data
//! lie (`SQUALL_SHARED`).

#[path = "support/recorded.rs"]
mod recorded;

use std::path::Path;

/// Runs a folder of cases; how many there were.
fn all_pass(folder: &Path) -> usize {
    let outcomes = recorded::workflows(&folder.join("workflows")).unwrap_or_else(|error| panic!("{error}"));
    let mut wrong: Vec<String> = Vec::new();
    for (name, outcome) in &outcomes {
        wrong.extend(outcome.differences.iter().map(|difference| format!("{name}: {difference}")));
    }
    let (right, failed) = recorded::expressions::run(&folder.join("expressions"));
    let count = outcomes.len() + right + failed.len();
    wrong.extend(failed);
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
    count
}

#[test]
fn own_cases() {
    assert!(all_pass(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases")) > 20);
}

#[test]
fn cases_of_the_reference() {
    let Some(shared) = std::env::var_os("SQUALL_SHARED") else {
        eprintln!("SKIPPED: SQUALL_SHARED isn't set, so the reference's recordings aren't there");
        return;
    };
    assert!(all_pass(&Path::new(&shared).join("data/orquesta")) > 1_900);
}
