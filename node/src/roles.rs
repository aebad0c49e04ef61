//! The roles of a node: each one a task that ends when it is told to, in an order that loses nothing.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use auth::backend::{Helper, Ldap};
use auth::sso::Provider;
use auth::{AuthBackend, Directory, FlatFile};
use domain::Services;
use domain::action_token::ActionTokens;
use gateway::{Access, AuthMode, AuthOptions, Gateway, GatewayOptions, Limits, Mount, Rate, SameSite, Socket};
use model::Duty;
use runners::process::GroupLimits;
use runners::sensors::follow_wanted;
use runners::{PythonOptions, Registry, RunnerOptions, RunnerPool, SensorContainer, SensorOptions};
use scheduler::{
    BackupScheduler, DeadLetterOffice, GarbageCollector, PostRun, RulesEngine, Scheduler, SchedulerSettings,
    TimersEngine,
};
use tokio::net::UnixListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::cluster::port::GroupPort;
use crate::config::{Backend, Config, Mode, Role, Span};
use crate::data_dir::DataDir;
use crate::health::NodeReady;
use crate::listen::Addresses;
use crate::membership::Membership;
use crate::run::hostname;
use crate::telemetry::Telemetry;
use crate::workflows::{ActionChain, Orquesta, Workflows};

/// The only sensor of this node ended, with this exit code.
#[derive(Debug, thiserror::Error)]
#[error("the sensor ended with exit code {0}")]
pub struct SensorEnded(pub i32);

/// What roles are made from.
pub struct Wiring<'a> {
    pub config: &'a Config,
    pub services: &'a Arc<Services>,
    pub membership: &'a Arc<Membership>,
    pub data: &'a DataDir,
    pub workflows: &'a Arc<Workflows>,
    pub telemetry: Telemetry,
}

/// Roles that stop together. They stop in stages: who accepts work first, who finishes it last.
#[derive(Debug)]
struct Stage {
    cancel: CancellationToken,
    tasks: JoinSet<(&'static str, Result<()>)>,
}

impl Stage {
    fn new() -> Self {
        Self { cancel: CancellationToken::new(), tasks: JoinSet::new() }
    }

    fn spawn(&mut self, name: &'static str, role: impl Future<Output = Result<()>> + Send + 'static) {
        self.tasks.spawn(async move { (name, role.await) });
    }

    /// A role that fails only by ending before it is told to.
    fn run<F: Future<Output = ()> + Send + 'static>(
        &mut self,
        name: &'static str,
        role: impl FnOnce(CancellationToken) -> F,
    ) {
        let role = role(self.cancel.clone());
        self.spawn(name, async move {
            role.await;
            Ok(())
        });
    }

    async fn stop(&mut self, deadline: Duration) {
        self.cancel.cancel();
        let ended = tokio::time::timeout(deadline, async {
            while let Some(joined) = self.tasks.join_next().await {
                report(joined);
            }
        });
        if ended.await.is_err() {
            tracing::warn!(?deadline, "roles didn't stop in time: they are aborted");
            self.tasks.shutdown().await;
        }
    }
}

fn report(joined: Result<(&'static str, Result<()>), tokio::task::JoinError>) -> Option<anyhow::Error> {
    match joined {
        Ok((_, Ok(()))) => None,
        Ok((name, Err(error))) => {
            tracing::error!(role = name, %error, "the role failed");
            Some(error.context(format!("role {name} failed")))
        }
        Err(error) => {
            tracing::error!(%error, "a role panicked");
            Some(anyhow!("a role panicked: {error}"))
        }
    }
}

/// The running roles.
#[derive(Debug)]
pub struct Roles {
    /// Duties: what one node at a time does for all.
    turns: Stage,
    /// The API: what brings in work.
    intake: Stage,
    /// Rules and scheduling.
    deciders: Stage,
    /// What runs actions.
    runners: Stage,
    /// What follows completions, and caches.
    after: Stage,
}

impl Roles {
    pub fn start(
        wiring: &mut Wiring<'_>,
        listeners: Vec<(Socket, Mount)>,
        local: Option<UnixListener>,
        addresses: &Addresses,
        tokens: ActionTokens,
        readiness: Arc<NodeReady>,
        sdk: PathBuf,
    ) -> Result<Self> {
        let exporter = wiring.telemetry.exporter.take();
        let wiring = &*wiring;
        let Wiring { config, services, membership, workflows, .. } = wiring;
        let mut roles = Self {
            turns: Stage::new(),
            intake: Stage::new(),
            deciders: Stage::new(),
            runners: Stage::new(),
            after: Stage::new(),
        };

        if let Some(exporter) = exporter {
            roles.after.run("traces", |cancel| exporter.run(cancel));
        }
        let followed = (*services).clone();
        roles
            .after
            .run("catalog", |cancel| async move { followed.catalog.follow(followed.bus.as_ref(), cancel).await });

        if config.node.has(Role::Runner) || config.node.has(Role::Sensors) {
            let workshop = content::Workshop {
                services: (*services).clone(),
                python: config.runners.python.clone(),
                environment: Vec::new(),
                progress: content::install::Progress::default(),
            };
            roles.after.run("content", |cancel| async move {
                content::install::distribution::follow(&workshop, cancel).await;
            });
        }
        if config.node.has(Role::Runner) {
            let pool = RunnerPool::new(
                (*services).clone(),
                runner_options(config, addresses, sdk.clone()),
                tokens.clone(),
                membership.session(),
                Registry::default()
                    .with("orquesta", Arc::new(Orquesta::new((*workflows).clone())))
                    .with("action-chain", Arc::new(ActionChain::new((*workflows).clone()))),
            );
            let cancel = roles.runners.cancel.clone();
            roles.runners.spawn("runners", async move { pool.run(cancel).await.map_err(Into::into) });
        }
        if config.node.has(Role::Scheduler) {
            let engine = (*workflows).clone();
            roles.after.run("workflows", |cancel| engine.run(cancel));
        }
        start_turns(wiring, &readiness, &mut roles);
        if config.node.has(Role::Sensors) {
            start_sensors(wiring, sensor_options(config, addresses, sdk), tokens.clone(), &mut roles);
        }
        if config.node.has(Role::Scheduler) {
            start_schedulers(wiring, &mut roles);
        }
        if config.cluster.is_on() || !config.store.is_embedded() || !config.bus.is_embedded() {
            let watched = readiness.clone();
            roles.after.run("health", |cancel| watched.watch(cancel));
        }
        let gateway = Gateway::build(gateway_options(wiring, addresses, tokens, readiness)?);
        if let Some(local) = local {
            // Actions that end while the node stops still reach it.
            let gateway = gateway.clone();
            roles.after.run("local API", |cancel| async move { gateway.serve_local(local, cancel).await });
        }
        roles.intake.run("gateway", |cancel| async move { gateway.serve(listeners, cancel).await });
        Ok(roles)
    }

    /// Until `stop` is requested, or a role ends by itself: that is an error, for the node is not whole without it.
    pub async fn until(&mut self, stop: CancellationToken) -> Result<()> {
        let (name, ended) = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            Some(ended) = self.turns.tasks.join_next() => ("turns", ended),
            Some(ended) = self.intake.tasks.join_next() => ("intake", ended),
            Some(ended) = self.deciders.tasks.join_next() => ("deciders", ended),
            Some(ended) = self.runners.tasks.join_next() => ("runners", ended),
            Some(ended) = self.after.tasks.join_next() => ("after", ended),
        };
        Err(report(ended).unwrap_or_else(|| anyhow!("a role of {name} ended by itself")))
    }

    /// What the node does by turns ends, for another node to go on with at once.
    pub async fn stop_turns(&mut self) {
        self.turns.stop(PROMPT).await;
    }

    /// In stages; running actions get `drain`.
    pub async fn stop(mut self, drain: Duration) {
        self.turns.stop(PROMPT).await;
        self.intake.stop(PROMPT).await;
        self.deciders.stop(PROMPT).await;
        self.runners.stop(drain + PROMPT).await;
        self.after.stop(PROMPT).await;
    }
}

/// What has nothing long to finish stops within this time.
const PROMPT: Duration = Duration::from_secs(15);

/// The duties: what one node at a time does for all.
fn start_turns(wiring: &Wiring<'_>, readiness: &NodeReady, roles: &mut Roles) {
    let Wiring { services, membership, config, .. } = *wiring;
    let settings = scheduler_settings(config);
    if config.node.has(Role::Timers) && config.timers.enable {
        let timers = TimersEngine::new(services.clone(), settings.timers, membership.duty(Duty::Timers));
        readiness.show_timers(timers.stats());
        roles.turns.run("timers", |cancel| timers.run(cancel));
    }
    if config.node.has(Role::Scheduler) {
        let live = membership.clone();
        let recovery = BackupScheduler::new(
            services.clone(),
            settings.recovery,
            membership.duty(Duty::BackupScheduler),
            membership.session(),
            Arc::new(move || live.live_sessions()),
        );
        roles.turns.run("backup scheduler", |cancel| recovery.run(cancel));
        let duty = membership.duty(Duty::GarbageCollector);
        let collector = GarbageCollector::new(services.clone(), settings.garbage, duty);
        roles.turns.run("garbage collector", |cancel| collector.run(cancel));
    }
}

/// Sensors are spread over the nodes with this role: each runs those that the group gave it.
fn start_sensors(wiring: &Wiring<'_>, options: SensorOptions, tokens: ActionTokens, roles: &mut Roles) {
    let Wiring { services, membership, .. } = *wiring;
    let releasing = membership.clone();
    let handle = tokio::runtime::Handle::current();
    let release = Arc::new(move |sensor: String, epoch: u64| {
        let membership = releasing.clone();
        // Its deadline is the proposal's.
        drop(handle.spawn(async move { membership.release_sensor(&sensor, epoch).await }));
    });
    let owned = membership.sensors();
    let container = SensorContainer::new(services.clone(), options, tokens, owned, release);
    let cancel = roles.turns.cancel.clone();
    roles.turns.spawn("sensors", async move {
        match container.run(cancel).await {
            None => Ok(()),
            Some(code) => Err(SensorEnded(code).into()),
        }
    });
    let (followed, wanting) = (services.clone(), membership.clone());
    let partition = wiring.config.sensors.partition();
    let only = wiring.config.sensors.only.clone();
    roles.turns.run("wanted sensors", |cancel| async move {
        let told = parking_lot::Mutex::new(String::new());
        let (partition, told, store) = (&partition, &told, followed.store.as_ref());
        let want = |mut refs: BTreeSet<String>| {
            let membership = wanting.clone();
            // Whether they are enabled or not.
            refs.extend(membership.dedicated_sensors());
            refs.extend(only.clone());
            async move {
                let pins = partition.pins(store, &refs, &membership.node_names()).await.inspect_err(|error| {
                    // Tried again and again; said once.
                    if *told.lock() != *error {
                        tracing::error!(error, "sensors stay as they are: their partition can't be read");
                        error.clone_into(&mut told.lock());
                    }
                })?;
                membership.want_sensors(refs, pins).await.map_err(|error| error.to_string())
            }
        };
        follow_wanted(followed.store.as_ref(), followed.bus.as_ref(), want, cancel).await;
    });
}

fn sensor_options(config: &Config, addresses: &Addresses, sdk: PathBuf) -> SensorOptions {
    SensorOptions {
        python: PythonOptions { interpreter: config.runners.python.clone(), sdk_path: sdk, ..PythonOptions::default() },
        node: config.node.name.clone().unwrap_or_else(hostname),
        api_url: addresses.api_url(),
        api_socket: addresses.socket.clone(),
        token_ttl: config.auth.service_token_ttl.0,
        only: config.sensors.only.clone(),
        ..SensorOptions::default()
    }
}

/// The roles of `scheduler` that every node with the role has. Each is a task of its own that ends with its stage.
fn start_schedulers(wiring: &Wiring<'_>, roles: &mut Roles) {
    let Wiring { services, config, .. } = *wiring;
    let settings = scheduler_settings(config);
    let rules = RulesEngine::new(services.clone(), settings.rules);
    roles.deciders.run("rules engine", |cancel| rules.run(cancel));
    let scheduler = Scheduler::new(services.clone(), settings.schedule);
    roles.deciders.run("scheduler", |cancel| scheduler.run(cancel));
    let office = DeadLetterOffice::new(services.clone());
    roles.deciders.run("dead letters", |cancel| office.run(cancel));
    let postrun = PostRun::new(services.clone(), settings.postrun);
    roles.after.run("postrun", |cancel| postrun.run(cancel));
}

fn scheduler_settings(config: &Config) -> SchedulerSettings {
    let mut settings = SchedulerSettings::default();
    settings.timers.catch_up_window = config.timers.catch_up_window.0;
    let ttl = |span: Option<Span>| span.map(|span| span.0);
    let collector = &config.garbage_collector;
    settings.garbage.collection_interval = collector.interval.0;
    settings.garbage.executions_ttl = ttl(collector.action_executions_ttl);
    settings.garbage.execution_output_ttl = ttl(collector.action_executions_output_ttl);
    settings.garbage.trigger_instances_ttl = ttl(collector.trigger_instances_ttl);
    settings.garbage.rule_enforcements_ttl = ttl(collector.rule_enforcements_ttl);
    settings.garbage.tokens_ttl = ttl(collector.tokens_ttl);
    settings.garbage.purge_inquiries = collector.purge_inquiries;
    settings
}

fn runner_options(config: &Config, addresses: &Addresses, sdk: PathBuf) -> RunnerOptions {
    RunnerOptions {
        hostname: config.node.name.clone().unwrap_or_else(hostname),
        api_url: addresses.api_url(),
        api_socket: addresses.socket.clone(),
        slots: config.runners.max_concurrent,
        drain_limit: config.node.stop_timeout.0,
        output_limit: config.runners.max_output_size,
        ssh: config.ssh_options(),
        groups: GroupLimits {
            memory: config.runners.action_memory,
            processes: config.runners.action_processes,
            cpus: config.runners.action_cpus,
        },
        token_ttl: config.auth.service_token_ttl.0,
        python: PythonOptions {
            interpreter: config.runners.python.clone(),
            sdk_path: sdk,
            memory_limit: config.runners.python_memory,
            cpu_limit: config.runners.python_cpu,
            open_files: config.runners.python_open_files,
            ..PythonOptions::default()
        },
        ..RunnerOptions::default()
    }
}

fn gateway_options(
    wiring: &Wiring<'_>,
    addresses: &Addresses,
    tokens: ActionTokens,
    readiness: Arc<NodeReady>,
) -> Result<GatewayOptions> {
    let Wiring { config, services, membership, .. } = wiring;
    let auth = auth_options(wiring)?;
    let api_url = config.auth.api_url.clone().or_else(|| {
        let own = addresses.api_url();
        own.strip_suffix("/v1").map(str::to_owned)
    });
    let metrics = config.telemetry.metrics.then(|| wiring.telemetry.metrics(readiness.clone()));
    Ok(GatewayOptions {
        metrics,
        services: (*services).clone(),
        auth,
        action_tokens: Some(tokens),
        allow_origin: config.api.allow_origin.clone(),
        api_url,
        readiness,
        cluster: Some(Arc::new(GroupPort((*membership).clone()))),
        limits: Limits {
            max_body_size: config.api.max_body_size,
            max_in_flight: config.api.max_in_flight.max(1),
            rate: (config.api.rate > 0.0)
                .then_some(Rate { per_second: config.api.rate, burst: config.api.burst.max(1.0) }),
            ..Limits::default()
        },
        tls: crate::listen::tls(config)?,
        access_log: config.api.access_log,
    })
}

/// Who checks passwords, and whether RBAC is on.
fn auth_options(wiring: &Wiring<'_>) -> Result<AuthOptions> {
    let Wiring { config, services, data, .. } = wiring;
    let given = &config.auth;
    let backend: Arc<dyn AuthBackend> = match given.backend {
        Backend::FlatFile => Arc::new(FlatFile::new(given.htpasswd_file.clone().unwrap_or_else(|| data.htpasswd()))),
        Backend::Ldap => Arc::new(Ldap::new(given.ldap.options()?).context("section [auth.ldap]")?),
        Backend::Pam => Arc::new(Helper::new(given.pam.options())),
    };
    let mut auth = AuthOptions::standalone(backend);
    if given.mode == Mode::Proxy {
        auth.mode = AuthMode::Proxy { trusted: given.trusted_proxies.clone() };
    }
    if let Some(options) = given.oidc.options()? {
        auth.sso = Some(Arc::new(Provider::new(options).context("section [auth.oidc]")?));
    }
    auth.enabled = given.enable;
    auth.token_ttl = given.token_ttl.0;
    auth.service_token_ttl = given.service_token_ttl.0;
    if config.rbac.enable {
        let directory = Arc::new(Directory::new(services.store.clone()));
        auth.access = Access::rbac(directory, config.rbac.permission_isolation);
        auth.sync_groups = config.rbac.sync_remote_groups;
    }
    auth.cookie_secure = config.api.auth_cookie_secure;
    auth.cookie_same_site = match config.api.auth_cookie_same_site.as_str() {
        "strict" => SameSite::Strict,
        "none" => SameSite::None,
        "unset" => SameSite::Unset,
        _ => SameSite::Lax,
    };
    Ok(auth)
}
