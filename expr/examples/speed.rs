//! How long typical compiled expressions take: `cargo run -p expr --example speed --release`.

use std::hint::black_box;
use std::time::Instant;

use expr::NoKeys;
use expr::workflow::{NoTasks, Scope, evaluate};
use serde_json::json;

const ROUNDS: u32 = 20_000;

fn main() {
    let ctx = json!({
        "name": "web1", "count": 5, "flag": true,
        "host": {"name": "web1", "addr": {"v4": "10.0.0.1"}},
        "vms": (0..20).map(|n| json!({"name": format!("vm{n}"), "cpu": n})).collect::<Vec<_>>(),
    });
    let ctx = ctx.as_object().cloned().unwrap_or_default();
    let scope = Scope { ctx: &ctx, task: None, item: None, tasks: &NoTasks, keys: &NoKeys };
    for text in [
        "<% ctx().name %>",
        "<% ctx(count) > 3 and ctx(flag) %>",
        "<% ctx().host.addr.v4 %>",
        "host <% ctx().name %> has <% ctx(count) %>",
        "<% ctx(vms).where($.cpu > 10).select($.name) %>",
        "{{ ctx().name }}",
        "{{ ctx('count') > 3 }}",
        "plain text",
    ] {
        let value = json!(text);
        let started = Instant::now();
        for _ in 0..ROUNDS {
            let _ = black_box(evaluate(black_box(&value), &scope));
        }
        println!("{:>9.2} µs  {text}", started.elapsed().as_secs_f64() * 1e6 / f64::from(ROUNDS));
    }
}
