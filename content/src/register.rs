//! Registration: the store comes to hold what the files of packs say (spec/packs.md §5).

use std::collections::HashMap;
use std::sync::Arc;

use bus::{Change, Event};
use domain::races::Races;
use domain::{DomainError, Services, rules, triggers};
use futures::future::join_all;
use model::{Config, ConfigSchema, Id, Object, Pack, Resource, Rule, RunnerType};
use serde_json::{Map, Value};
use store::{Cond, Query, StoreExt};

use crate::error::ContentError;
use crate::overrides::Overrides;
use crate::pack_dir::{self, PackDir};
use crate::read::{Metadata, PackFiles, read};
use crate::upsert::upsert;
use crate::{builtin, checks};

/// Files of one kind that are registered at a time.
const FILES_AT_A_TIME: usize = 32;

/// Kinds that packs bring, in the order of their registration.
const ORDER: [Kind; 7] =
    [Kind::Trigger, Kind::Sensor, Kind::Action, Kind::Rule, Kind::Alias, Kind::Policy, Kind::Config];

/// What can be registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    Runner,
    Action,
    Trigger,
    Sensor,
    Rule,
    RuleType,
    Alias,
    PolicyType,
    Policy,
    Config,
}

impl Kind {
    const ALL: [(Kind, &'static str, &'static str); 10] = [
        (Kind::Runner, "runner", "runners"),
        (Kind::Action, "action", "actions"),
        (Kind::Trigger, "trigger", "triggers"),
        (Kind::Sensor, "sensor", "sensors"),
        (Kind::Rule, "rule", "rules"),
        (Kind::RuleType, "rule_type", "rule_types"),
        (Kind::Alias, "alias", "aliases"),
        (Kind::PolicyType, "policy_type", "policy_types"),
        (Kind::Policy, "policy", "policies"),
        (Kind::Config, "config", "configs"),
    ];

    /// Singular or plural.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, one, many)| *one == text || *many == text).map(|(kind, ..)| *kind)
    }

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(kind, ..)| *kind == self).map_or("", |(_, one, _)| one)
    }
}

/// What to register.
#[derive(Debug, Clone)]
pub struct RegisterRequest {
    /// Names of packs; all that there are if none is given.
    pub packs: Option<Vec<String>>,
    /// Kinds; all if none is given.
    pub kinds: Option<Vec<Kind>>,
    /// The first bad file ends it; without, bad files are logged and the rest goes on.
    pub fail_on_failure: bool,
}

/// How many objects of each kind were processed, in the order of processing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts(Vec<(&'static str, u64)>);

impl Counts {
    fn add(&mut self, name: &'static str, by: usize) {
        let by = by as u64;
        match self.0.iter_mut().find(|(counted, _)| *counted == name) {
            Some((_, count)) => *count += by,
            None => self.0.push((name, by)),
        }
    }

    /// `{"runners": 14, "actions": 23}`.
    pub fn to_api(&self) -> Object {
        self.0.iter().map(|(name, count)| ((*name).to_owned(), Value::from(*count))).collect::<Map<_, _>>()
    }
}

/// Registers packs.
pub async fn register(services: &Services, request: &RegisterRequest) -> Result<Counts, ContentError> {
    let dirs = services.settings.pack_dirs.clone();
    let names = request.packs.clone();
    let located = tokio::task::spawn_blocking(move || -> Result<Vec<PackDir>, ContentError> {
        match names {
            Some(names) => names.iter().map(|name| pack_dir::find(&dirs, name)).collect(),
            None => Ok(pack_dir::all(&dirs)),
        }
    });
    let packs =
        located.await.map_err(|error| ContentError::Invalid(format!("looking for packs failed: {error}")))??;

    let wanted = |kind: Kind| request.kinds.as_ref().is_none_or(|kinds| kinds.contains(&kind));
    let mut counts = Counts::default();
    counts.add("runners", register_runner_types(services).await?);
    if wanted(Kind::Rule) || wanted(Kind::RuleType) {
        counts.add("rule_types", builtin::RULE_TYPES.len());
    }
    if wanted(Kind::Policy) || wanted(Kind::PolicyType) {
        counts.add("policy_types", builtin::policy_types().len());
    }
    let mut runners = HashMap::new();
    for runner in services.store.search::<RunnerType>(&Query::all()).await? {
        runners.insert(runner.name.clone(), runner.doc);
    }
    let mut read_packs = Vec::new();
    for dir in packs {
        read_packs.push(read(dir, services.settings.base_path.clone()).await?);
    }
    let mut runs = Vec::new();
    for files in &read_packs {
        let run = Run { services, files, runners: &runners, strict: request.fail_on_failure, dry: false };
        if run.pack_row().await? {
            runs.push(run);
        }
    }
    // Kind by kind through all packs: a rule may name a trigger type of a pack whose name comes later.
    for kind in ORDER.into_iter().filter(|kind| wanted(*kind)) {
        for run in &runs {
            let (counted, done) = run.kind(kind).await?;
            counts.add(counted, done);
        }
    }
    if wanted(Kind::Sensor) {
        for run in &runs {
            run.announce().await?;
        }
    }
    Ok(counts)
}

/// Looks at everything in a pack's directory as registration does, and changes nothing; the pack as it would be.
pub async fn check(services: &Services, dir: PackDir) -> Result<Pack, ContentError> {
    let types = builtin::runner_types(services.now());
    let runners: HashMap<String, RunnerType> = types.into_iter().map(|one| (one.name.clone(), one)).collect();
    let files = read(dir, services.settings.base_path.clone()).await?;
    let run = Run { services, files: &files, runners: &runners, strict: true, dry: true };
    run.pack_row().await?;
    for kind in ORDER {
        run.kind(kind).await?;
    }
    let manifest = files.manifest.as_ref().map_err(|error| ContentError::Invalid(error.clone()))?;
    checks::pack(manifest, &files.dir, files.files.clone(), services.now())
}

/// The 14 runner types; how many there are.
pub async fn register_runner_types(services: &Services) -> Result<usize, ContentError> {
    let types = builtin::runner_types(services.now());
    let count = types.len();
    for runner in types {
        let query = Query::eq("name", runner.name.as_str());
        upsert(services, &query, runner).await?;
    }
    Ok(count)
}

/// Built-in trigger types with their shadow triggers.
pub async fn register_trigger_types(services: &Services) -> Result<(), ContentError> {
    for trigger_type in builtin::trigger_types(services.now()) {
        triggers::register_type(services, trigger_type).await?;
    }
    Ok(())
}

/// Registration of one pack.
struct Run<'a> {
    services: &'a Services,
    files: &'a PackFiles,
    runners: &'a HashMap<String, RunnerType>,
    strict: bool,
    /// Only look whether it would be good.
    dry: bool,
}

impl Run<'_> {
    fn pack_name(&self) -> &str {
        &self.files.dir.name
    }

    /// The pack's own row; false if it is bad and the other packs go on.
    async fn pack_row(&self) -> Result<bool, ContentError> {
        let Err(error) = self.manifest().await else { return Ok(true) };
        let text = format!("Failed to register pack \"{}\": {error}", self.pack_name());
        if self.strict || !matches!(error, ContentError::Invalid(_)) {
            return Err(replace_text(error, text));
        }
        tracing::warn!(pack = self.pack_name(), error = text, "pack not registered");
        Ok(false)
    }

    /// Registers the files of a kind: what they are counted as, and how many were good.
    async fn kind(&self, kind: Kind) -> Result<(&'static str, usize), ContentError> {
        let (counted, files) = match kind {
            Kind::Trigger => ("triggers", &self.files.triggers),
            Kind::Sensor => ("sensors", &self.files.sensors),
            Kind::Action => ("actions", &self.files.actions),
            Kind::Rule => ("rules", &self.files.rules),
            Kind::Alias => ("aliases", &self.files.aliases),
            Kind::Policy => ("policies", &self.files.policies),
            _ => return self.configuration().await,
        };
        let overrides = self.files.overrides.clone()?;
        let mut done = 0;
        // Files of one kind don't depend on each other, so that their writes can share commits.
        for some in files.chunks(FILES_AT_A_TIME) {
            for registered in join_all(some.iter().map(|file| self.file(kind, file, &overrides))).await {
                done += usize::from(registered?);
            }
        }
        Ok((counted, done))
    }

    async fn configuration(&self) -> Result<(&'static str, usize), ContentError> {
        let overrides = self.files.overrides.clone()?;
        let done = match &self.files.config {
            Some(config) => usize::from(self.file(Kind::Config, config, &overrides).await?),
            None => 0,
        };
        // StackStorm counts the schema where there is no configuration.
        Ok(("configs", done.max(usize::from(self.files.config_schema.is_some()))))
    }

    /// Its files were read anew: whoever runs a sensor of it looks whether the code is still the same.
    async fn announce(&self) -> Result<(), ContentError> {
        if let Some(pack) = self.services.catalog.pack(self.pack_name()).await? {
            self.services.bus.announce(Arc::new(Event::Content {
                change: Change::Update,
                collection: Pack::COLLECTION.name.to_owned(),
                id: pack.id,
                reference: pack.reference.clone(),
            }));
        }
        Ok(())
    }

    /// The pack's row and configuration schema.
    async fn manifest(&self) -> Result<(), ContentError> {
        self.files.overrides.clone()?;
        let manifest = self.files.manifest.as_ref().map_err(|error| ContentError::Invalid(error.clone()))?;
        let pack = checks::pack(manifest, &self.files.dir, self.files.files.clone(), self.services.now())?;
        let query = Query::eq("ref", pack.reference.as_str());
        if !self.dry {
            upsert(self.services, &query, pack).await?;
        }
        let Some((file, schema)) = &self.files.config_schema else { return Ok(()) };
        let schema = match schema {
            Ok(schema) => schema,
            Err(error) if error == "the file is empty" => {
                return Err(ContentError::Invalid(format!("Config schema \"{file}\" is empty and invalid.")));
            }
            Err(error) => return Err(ContentError::Invalid(format!("{file}: {error}"))),
        };
        let attributes =
            checks::config_schema(schema).map_err(|error| ContentError::Invalid(format!("{file}: {error}")))?;
        let schema = ConfigSchema { id: Id::fresh(self.services.now()), pack: self.pack_name().to_owned(), attributes };
        if self.dry {
            return Ok(());
        }
        upsert(self.services, &Query::eq("pack", self.pack_name()), schema).await
    }

    /// True if it was registered; false if it is bad and the rest goes on.
    async fn file(&self, kind: Kind, file: &Metadata, overrides: &Overrides) -> Result<bool, ContentError> {
        let (path, content) = file;
        let outcome = match content {
            Ok(content) => self.resource(kind, path, content, overrides).await,
            Err(error) => Err(ContentError::Invalid(error.clone())),
        };
        let Err(error) = outcome else { return Ok(true) };
        let text = format!("Failed to register {} \"{path}\" from pack \"{}\": {error}", kind.name(), self.pack_name());
        let bad_file = matches!(error, ContentError::Invalid(_) | ContentError::Domain(DomainError::Conflict { .. }));
        if self.strict || !bad_file {
            return Err(replace_text(error, text));
        }
        tracing::warn!(pack = self.pack_name(), file = path, error = text, "file not registered");
        Ok(false)
    }

    async fn resource(
        &self,
        kind: Kind,
        path: &str,
        content: &Object,
        overrides: &Overrides,
    ) -> Result<(), ContentError> {
        let mut content = content.clone();
        if kind != Kind::Config {
            self.complete(&mut content, path, kind)?;
            let name = content.get("name").or_else(|| content.get("class_name")).and_then(Value::as_str);
            let plural = match kind {
                Kind::Action => "actions",
                Kind::Rule => "rules",
                Kind::Sensor => "sensors",
                Kind::Alias => "aliases",
                _ => "",
            };
            if let Some(enabled) = overrides.enabled(plural, name.unwrap_or_default())? {
                content.insert("enabled".to_owned(), enabled.into());
            }
        }
        let (services, pack, now) = (self.services, self.pack_name(), self.services.now());
        match kind {
            Kind::Trigger => {
                let trigger_type = checks::trigger_type(&content, pack, now)?;
                if self.dry {
                    return Ok(());
                }
                triggers::register_type(services, trigger_type).await?;
            }
            Kind::Sensor => {
                let (sensor, types) = checks::sensor(&content, pack, &self.files.dir.path, now)?;
                if self.dry {
                    return Ok(());
                }
                for trigger_type in types {
                    triggers::register_type(services, trigger_type).await?;
                }
                upsert(services, &by_name(pack, &sensor.name), sensor).await?;
            }
            Kind::Action => {
                let action = checks::action(&content, pack, &|name| self.runners.get(name).cloned(), now)?;
                if !self.dry {
                    upsert(services, &by_name(pack, &action.name), action).await?;
                }
            }
            Kind::Rule => self.rule(&content).await?,
            Kind::Alias => {
                let alias = checks::alias(&content, now)?;
                if !self.dry {
                    upsert(services, &by_name(pack, &alias.name), alias).await?;
                }
            }
            Kind::Policy => {
                let policy = checks::policy(&content, pack, now)?;
                if !self.dry {
                    upsert(services, &by_name(pack, &policy.name), policy).await?;
                }
            }
            Kind::Config => self.config(&content, path).await?,
            Kind::Runner | Kind::RuleType | Kind::PolicyType => {}
        }
        Ok(())
    }

    /// Fields that follow from where the file lies.
    fn complete(&self, content: &mut Object, path: &str, kind: Kind) -> Result<(), ContentError> {
        let pack = self.pack_name();
        if let Some(stated) = content.get("pack").filter(|stated| stated.as_str() != Some(pack)) {
            let stated = stated.as_str().map_or_else(|| stated.to_string(), str::to_owned);
            let text = format!("Model is in pack \"{pack}\" but field \"pack\" is different: {stated}");
            return Err(ContentError::Invalid(text));
        }
        if kind != Kind::Sensor {
            content.insert("pack".to_owned(), pack.into());
        }
        content.insert("metadata_file".to_owned(), path.into());
        Ok(())
    }

    async fn rule(&self, content: &Object) -> Result<(), ContentError> {
        let services = self.services;
        let input = checks::rule(content, self.pack_name())?;
        if self.dry {
            return Ok(());
        }
        let mut races = Races::default();
        loop {
            let query = by_name(&input.pack, &input.name);
            let done = match services.store.first::<Rule>(&query).await? {
                Some(old) => rules::replace(services, old.id, input.clone()).await,
                None => rules::create(services, input.clone()).await,
            };
            match done {
                Ok(_) => return Ok(()),
                // Another registration was first.
                Err(error @ DomainError::Conflict { .. }) if services.store.first::<Rule>(&query).await?.is_some() => {
                    races.lost(error)?;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn config(&self, content: &Object, path: &str) -> Result<(), ContentError> {
        let schema = match &self.files.config_schema {
            Some((_, Ok(schema))) => schema.clone(),
            _ => Object::new(),
        };
        let values = checks::config_values(&schema, content, self.pack_name(), path)?;
        if self.dry {
            return Ok(());
        }
        let config = Config { id: Id::fresh(self.services.now()), pack: self.pack_name().to_owned(), values };
        upsert(self.services, &Query::eq("pack", self.pack_name()), config.clone()).await?;
        crate::configure::synced(self.services, &config).await;
        Ok(())
    }
}

fn by_name(pack: &str, name: &str) -> Query {
    Query::eq("pack", pack).and(Cond::Eq("name", name.into()))
}

/// The same error with the place in its text.
fn replace_text(error: ContentError, text: String) -> ContentError {
    match error {
        ContentError::Invalid(_) => ContentError::Invalid(text),
        ContentError::NotFound(_) => ContentError::NotFound(text),
        ContentError::Domain(DomainError::Conflict { .. }) => ContentError::Invalid(text),
        other => other,
    }
}
