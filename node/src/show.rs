//! What `squall dev` says on standard output.

use std::io::Write;
use std::sync::Arc;

use bus::{Event, Received, Topic};
use domain::Services;
use model::{Execution, ResultValue, Rule};
use store::{Query, StoreExt};
use tokio::task::JoinHandle;

use crate::data_dir::{ADMIN, Admin};
use crate::listen::Addresses;

/// The example rule that `--demo` enables.
const DEMO_RULE: &str = "examples.sample_rule_with_timer";

/// Standard output may be closed; nothing depends on it.
fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Where the node listens and what to type first.
pub fn greeting(addresses: &Addresses, admin: &Admin) {
    say("Squall is ready.");
    if let Some(combined) = addresses.combined {
        say(&format!("  everything   http://{combined}  (/auth, /api, /stream)"));
    }
    for (name, address) in [("auth", addresses.auth), ("api", addresses.api), ("stream", addresses.stream)] {
        if let Some(address) = address {
            say(&format!("  {name:<12} http://{address}"));
        }
    }
    match admin {
        Admin::Generated { password, file } => {
            say(&format!("  user         {ADMIN}, password {password}  (kept in {})", file.display()));
        }
        Admin::Given => say(&format!("  user         {ADMIN}, password as in SQUALL_ADMIN_PASSWORD")),
        Admin::Existing => {}
    }
    say("");
    say("In another terminal:");
    if let (None, Some(combined)) = (addresses.api, addresses.combined) {
        say(&format!("  export ST2_BASE_URL=http://{combined} ST2_API_URL=http://{combined}/api/v1 \\"));
        say(&format!("         ST2_AUTH_URL=http://{combined}/auth/v1 ST2_STREAM_URL=http://{combined}/stream/v1"));
    }
    say(&format!("  st2 login {ADMIN}"));
    say("  st2 run core.local cmd='echo hello'");
    say("");
}

/// Prints a line for each execution that ends.
pub fn executions(services: Arc<Services>) -> JoinHandle<()> {
    let mut events = services.bus.subscribe(&[Topic::Execution]);
    tokio::spawn(async move {
        while let Some(received) = events.next().await {
            let Received::Event(event) = received else { continue };
            if let Event::Execution(_, execution) = event.as_ref()
                && execution.status.is_completed()
            {
                say(&line(execution));
            }
        }
    })
}

fn line(execution: &Execution) -> String {
    let cause = execution.cause.as_ref().map_or_else(String::new, |cause| format!(" by rule {}", cause.rule_ref));
    let output = match &execution.result {
        Some(ResultValue::Inline(result)) => result.get("stdout").and_then(|text| text.as_str()).unwrap_or_default(),
        _ => "",
    };
    let output: String = output.chars().take(60).collect();
    let took = execution.elapsed_seconds().unwrap_or_default() * 1e3;
    let at = execution.end_timestamp.unwrap_or_default().datetime().format("%H:%M:%S%.3f");
    format!("{at} {} {} in {took:.1} ms{cause}  {output}", execution.action, execution.status)
}

/// Enables the example timer rule; without it there is simply nothing to watch.
pub async fn enable_demo_rule(services: &Services) {
    let found = services.store.first::<Rule>(&Query::eq("ref", DEMO_RULE)).await;
    let Ok(Some(mut rule)) = found else {
        tracing::warn!(rule = DEMO_RULE, "the demo's rule isn't registered");
        return;
    };
    if rule.enabled {
        return;
    }
    rule.doc.enabled = true;
    match services.store.update(rule).await {
        Ok(_) => services.catalog.forget::<Rule>(),
        Err(error) => tracing::warn!(rule = DEMO_RULE, %error, "the demo's rule can't be enabled"),
    }
}
