//! Runs recorded behaviour of the reference engine: `conformance DIR`, with workflows in DIR/workflows/*.json and
//! expressions in DIR/expressions/*.jsonl. Ends with the line `N passed, N failed`. `--internal` also shows what
//! differs inside of the engine, `--only TEXT` limits the details to cases whose line has that text.

#![expect(clippy::print_stdout, reason = "it is what the program is for")]

#[path = "../tests/support/recorded.rs"]
mod recorded;

use std::path::Path;
use std::process::ExitCode;

fn main() -> std::io::Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(folder) = arguments.first().map(Path::new) else {
        println!("usage: conformance DIR [--internal] [--only TEXT]");
        return Ok(ExitCode::FAILURE);
    };
    let internal = arguments.iter().any(|argument| argument == "--internal");
    let only = arguments.iter().skip_while(|argument| *argument != "--only").nth(1).cloned().unwrap_or_default();
    let outcomes = recorded::workflows(&folder.join("workflows"))?;
    let mut failed = outcomes.iter().filter(|(_, outcome)| !outcome.differences.is_empty()).count();
    let inside = outcomes.iter().filter(|(_, outcome)| !outcome.internal.is_empty()).count();
    for (name, outcome) in outcomes.iter().filter(|(name, _)| name.contains(&only)) {
        let shown = outcome.internal.iter().filter(|_| internal);
        for difference in outcome.differences.iter().chain(shown) {
            println!("{name}: {difference}");
        }
    }
    let workflows = outcomes.len();
    println!("workflows: {} passed, {failed} failed; {inside} differ inside", workflows - failed);
    let (right, wrong) = recorded::expressions::run(&folder.join("expressions"));
    for line in wrong.iter().filter(|line| line.contains(&only)) {
        println!("{line}");
    }
    println!("expressions: {right} passed, {} failed", wrong.len());
    failed += wrong.len();
    println!("{} passed, {failed} failed", workflows + right + wrong.len() - failed);
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
