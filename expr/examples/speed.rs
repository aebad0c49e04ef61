//! How long typical compiled expressions take: `cargo run -p expr --example speed --release`.

use std::hint::black_box;
use std::time::Instant;

use expr::NoKeys;
use expr::workflow::{CurrentTask, NoTasks, Scope, evaluate};
use serde_json::json;

const ROUNDS: u32 = 20_000;

fn main() {
    let ctx = json!({
        "name": "web1", "count": 5, "flag": true,
        "host": {"name": "web1", "addr": {"v4": "10.0.0.1"}},
        "vms": (0..20).map(|n| json!({"name": format!("vm{n}"), "cpu": n})).collect::<Vec<_>>(),
    });
    let ctx = ctx.as_object().cloned().unwrap_or_default();
    let result = json!({"stdout": "fine", "code": 0});
    let scope = Scope {
        ctx: &ctx,
        task: Some(CurrentTask { id: "t1", route: 0, result: Some(&result) }),
        item: Some(&result),
        tasks: &NoTasks,
        keys: &NoKeys,
    };
    for text in [
        "<% ctx().name %>",
        "<% ctx(count) > 3 and ctx(flag) %>",
        "<% ctx().host.addr.v4 %>",
        "host <% ctx().name %> has <% ctx(count) %>",
        "<% ctx(vms).where($.cpu > 10).select($.name) %>",
        "<% result().stdout %>",
        "<% ctx(vms).len() %>",
        "<% succeeded() and result().code = 0 %>",
        "<% ctx(vms).select($.name).join(',') %>",
        "<% dict(a => ctx(name), b => ctx(count)) %>",
        "<% switch(ctx(count) > 3 => 'many', true => 'few') %>",
        "<% regex('^web').matches(ctx(name)) %>",
        "<% item() %>",
        "{{ ctx().name }}",
        "{{ ctx('host').addr.v4 }}",
        "{{ ctx().name | upper }}",
        "{{ ctx().vms | length }}",
        "{{ ctx().vms | map(attribute='name') | join(',') }}",
        "{{ result().stdout }}",
        "{% if ctx().flag %}yes{% else %}no{% endif %}",
        "host {{ ctx().name }} has {{ ctx().count }}",
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
