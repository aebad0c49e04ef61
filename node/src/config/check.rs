//! What types can't say: limits, and keys that must fit each other. Each error names its key.

use super::access;
use super::cluster::Role;
use super::servers::CoordinatorBackend;
use super::{Config, ConfigError, Span};

pub(super) type Outcome = Result<(), ConfigError>;

pub(super) fn fail(text: impl Into<String>) -> Outcome {
    Err(ConfigError(text.into()))
}

pub fn check(config: &Config) -> Outcome {
    check_times(config)?;
    check_servers(config)?;
    check_cluster(config)?;
    access::check(&config.auth, &config.rbac)?;
    if config.runners.max_concurrent == 0 {
        return fail("key `runners.max_concurrent`: must be at least 1");
    }
    config.sensors.check()?;
    let bounds = &config.runners;
    if bounds.action_memory == Some(0) || bounds.action_processes == Some(0) {
        return fail("keys `runners.action_memory` and `runners.action_processes`: must be more than 0");
    }
    if bounds.action_cpus.is_some_and(|cpus| cpus.is_nan() || cpus < 0.01) {
        return fail("key `runners.action_cpus`: must be at least 0.01");
    }
    if !["strict", "lax", "none", "unset"].contains(&config.api.auth_cookie_same_site.as_str()) {
        return fail("key `api.auth_cookie_same_site`: must be strict, lax, none or unset");
    }
    if config.api.auth_cookie_same_site == "none" && !config.api.auth_cookie_secure {
        return fail("key `api.auth_cookie_same_site`: none needs `api.auth_cookie_secure`");
    }
    Ok(())
}

fn check_times(config: &Config) -> Outcome {
    if config.raft.election_min >= config.raft.election_max {
        return fail("key `raft.election_min`: must be below `raft.election_max`");
    }
    if config.raft.heartbeat.0 * 2 > config.raft.election_min.0 {
        return fail("key `raft.heartbeat`: must be at most half of `raft.election_min`");
    }
    if config.raft.lease <= config.raft.heartbeat {
        return fail("key `raft.lease`: must be longer than `raft.heartbeat`");
    }
    if config.raft.session_ttl < config.raft.lease {
        return fail("key `raft.session_ttl`: must not be shorter than `raft.lease`");
    }
    let minimum = Span::days(1);
    let gc = &config.garbage_collector;
    for (name, ttl) in [
        ("action_executions_ttl", gc.action_executions_ttl),
        ("action_executions_output_ttl", gc.action_executions_output_ttl),
        ("trigger_instances_ttl", gc.trigger_instances_ttl),
        ("rule_enforcements_ttl", gc.rule_enforcements_ttl),
        ("tokens_ttl", gc.tokens_ttl),
    ] {
        if ttl.is_some_and(|ttl| ttl < minimum) {
            return fail(format!("key `garbage_collector.{name}`: must be at least 1d"));
        }
    }
    Ok(())
}

/// A scheme that no adapter serves; without the URL itself, which may hold a password.
fn scheme(key: &str, given: &str, known: &[&str]) -> Outcome {
    if known.contains(&given) {
        return Ok(());
    }
    let known: Vec<String> = known.iter().map(|scheme| format!("{scheme}://…")).collect();
    fail(format!("key `{key}`: a URL must begin with {}", known.join(", ")))
}

fn check_servers(config: &Config) -> Outcome {
    let Config { store, bus, workflow, coordinator, .. } = config;
    for (section, tls) in
        [("store", &store.tls), ("bus", &bus.tls), ("workflow", &workflow.tls), ("coordinator", &coordinator.tls)]
    {
        tls.check(section)?;
    }
    if !store.is_embedded() && store.url_file.is_none() {
        scheme("store.url", store.url.scheme(), &["mongodb", "mongodb+srv"])?;
    }
    for url in &bus.urls {
        scheme("bus.urls", url.scheme(), &["amqp", "amqps"])?;
    }
    if !bus.urls.is_empty() && bus.urls_file.is_some() {
        return fail("keys `bus.urls` and `bus.urls_file`: give one of them");
    }
    if !workflow.is_embedded() && workflow.url_file.is_none() {
        scheme("workflow.url", workflow.url.scheme(), &["postgres", "postgresql"])?;
    }
    if workflow.pool_size == 0 {
        return fail("key `workflow.pool_size`: must be at least 1");
    }
    let schemes: &[&str] = match coordinator.backend {
        CoordinatorBackend::Raft if coordinator.url.is_some() || coordinator.url_file.is_some() => {
            return fail("key `coordinator.url`: the backend raft needs none");
        }
        CoordinatorBackend::Raft => return Ok(()),
        CoordinatorBackend::Redis => &["redis", "rediss"],
        CoordinatorBackend::ZooKeeper => &["zookeeper"],
    };
    match (&coordinator.url, &coordinator.url_file) {
        (None, None) => fail("key `coordinator.url`: this backend needs a URL"),
        (Some(_), Some(_)) => fail("keys `coordinator.url` and `coordinator.url_file`: give one of them"),
        (Some(url), None) => scheme("coordinator.url", url.scheme(), schemes),
        (None, Some(_)) => Ok(()),
    }
}

fn check_cluster(config: &Config) -> Outcome {
    let Config { cluster, node, sensors, .. } = config;
    if node.roles.is_empty() {
        return fail("key `node.roles`: a node must have a role");
    }
    if sensors.only.is_some() && !node.has(Role::Sensors) {
        return fail("key `sensors.only`: the node needs the role sensors");
    }
    let name_is_good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c);
    if cluster.name.is_empty() || cluster.name.len() > 40 || !cluster.name.chars().all(name_is_good) {
        return fail("key `cluster.name`: 1 to 40 of a-z, 0-9, - and _");
    }
    if !cluster.is_on() {
        if !cluster.peers.is_empty() {
            return fail("key `cluster.peers`: a node with peers needs `cluster.listen`");
        }
        if cluster.bootstrap_expect > 1 {
            return fail("key `cluster.bootstrap_expect`: more than one node needs `cluster.listen`");
        }
        if !node.roles.contains(&Role::Raft) {
            return fail("key `node.roles`: without `cluster.listen` the node is on its own and needs the role raft");
        }
        return Ok(());
    }
    check_shared(config)?;
    if cluster.bootstrap_expect == 0 || cluster.bootstrap_expect > cluster.max_voters {
        return fail("key `cluster.bootstrap_expect`: must be from 1 to `cluster.max_voters`");
    }
    let raft = node.roles.contains(&Role::Raft);
    if cluster.peers.is_empty() && (cluster.bootstrap_expect > 1 || !raft) {
        return fail("key `cluster.peers`: give the other nodes' addresses (host:port)");
    }
    if let Some(peer) = cluster.peers.iter().chain(&cluster.advertise).find(|peer| !is_host_port(peer)) {
        return fail(format!("key `cluster.peers` or `cluster.advertise`: '{peer}' is not host:port"));
    }
    if cluster.listen.is_some_and(|listen| listen.ip().is_unspecified()) && cluster.advertise.is_none() {
        return fail("key `cluster.advertise`: needed when `cluster.listen` is every address");
    }
    match (&cluster.cert_file, &cluster.key_file) {
        (Some(_), None) => return fail("key `cluster.key_file`: certificate and key go together"),
        (None, Some(_)) => return fail("key `cluster.cert_file`: certificate and key go together"),
        _ => {}
    }
    let has_token = cluster.join_token.is_some() || cluster.join_token_file.is_some();
    if cluster.cert_file.is_none() && !has_token {
        return fail("key `cluster.cert_file`: nodes speak mutual TLS: give certificate and key, or a join token");
    }
    if cluster.cert_file.is_some() && cluster.ca_file.is_none() {
        return fail("key `cluster.ca_file`: the authority of the nodes' certificates is needed");
    }
    Ok(())
}

/// What several nodes must have in common: files on one of them are not.
fn check_shared(config: &Config) -> Outcome {
    if config.store.is_embedded() {
        return fail(
            "key `store.url`: a cluster needs a MongoDB that all nodes share; the embedded store is one node's",
        );
    }
    if config.bus.is_embedded() {
        return fail("key `bus.urls`: a cluster needs a RabbitMQ that all nodes share; the embedded bus is one node's");
    }
    if config.workflow.is_embedded() {
        return fail(
            "key `workflow.url`: a cluster needs a PostgreSQL that all nodes share; the embedded state is one node's",
        );
    }
    Ok(())
}

fn is_host_port(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}
