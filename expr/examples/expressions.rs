//! Runs recorded expressions: `cargo run -p expr --example expressions -- DIR`, where DIR holds
//! `yaql.jsonl`, `jinja.jsonl` and `auto.jsonl`. Prints what fails and ends with `N passed, N failed`.

#[path = "../tests/recorded/mod.rs"]
mod recorded;

fn main() {
    let Some(dir) = std::env::args().nth(1) else {
        eprintln!("usage: expressions DIR");
        std::process::exit(2);
    };
    let (passed, failures) = recorded::run(std::path::Path::new(&dir));
    for failure in &failures {
        println!("{failure}");
    }
    println!("{passed} passed, {} failed", failures.len());
    std::process::exit(i32::from(!failures.is_empty()));
}
