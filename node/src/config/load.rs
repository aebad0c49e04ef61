//! Reading the layers, and errors that help.

use std::path::{Path, PathBuf};

use figment::Figment;
use figment::error::Kind;
use figment::providers::{Env, Format, Serialized, Toml};

use super::Config;

/// Environment variables that begin with `SQUALL_` and are not configuration.
const OTHER_VARIABLES: [&str; 3] = ["admin_password", "shared", "test"];

/// The configuration can't be used; the text names the key and its source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError(pub String);

impl std::fmt::Display for ConfigError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

/// `base` (the defaults of the command at hand), overridden by the file and by `SQUALL_<SECTION>__<KEY>`.
pub fn load(base: &Config, file: Option<&Path>) -> Result<Config, ConfigError> {
    let mut layers = Figment::from(Serialized::defaults(base));
    if let Some(path) = file {
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError(format!("can't read {}: {error}", path.display())))?;
        // Parsed here first: this parser's errors show the line.
        toml::from_str::<toml::Table>(&text).map_err(|error| ConfigError(format!("{}: {error}", path.display())))?;
        layers = layers.merge(Toml::file_exact(path));
    }
    let environment = Env::prefixed("SQUALL_")
        .filter(|key| !OTHER_VARIABLES.iter().any(|other| key.as_str().to_ascii_lowercase().starts_with(other)))
        .split("__");
    let config: Config = layers.merge(environment).extract().map_err(|error| explain(&error))?;
    check(&config)?;
    Ok(config)
}

fn explain(errors: &figment::Error) -> ConfigError {
    let texts: Vec<String> = errors.clone().into_iter().map(|error| explain_one(&error)).collect();
    ConfigError(texts.join("\n"))
}

fn explain_one(error: &figment::Error) -> String {
    let source = error.metadata.as_ref().map_or_else(String::new, |metadata| {
        let place = metadata.source.as_ref().map_or_else(
            || metadata.name.to_string(),
            |source| {
                source.file_path().map_or_else(|| source.to_string(), |path| PathBuf::from(path).display().to_string())
            },
        );
        format!(" (in {place})")
    });
    match &error.kind {
        Kind::UnknownField(field, known) => {
            let mut path = error.path.clone();
            if path.last() != Some(field) {
                path.push(field.clone());
            }
            path.pop();
            let prefix: String = path.iter().map(|part| format!("{part}.")).collect();
            let hint = nearest(field, known).map_or_else(
                || format!("known keys: {}", known.join(", ")),
                |near| format!("did you mean `{prefix}{near}`?"),
            );
            format!("unknown key `{prefix}{field}`{source}: {hint}")
        }
        kind => format!("key `{}`{source}: {kind}", error.path.join(".")),
    }
}

/// The known key that is spelled most alike, if any comes near.
fn nearest<'a>(given: &str, known: &[&'a str]) -> Option<&'a str> {
    let scored = known.iter().map(|candidate| (strsim::jaro_winkler(given, candidate), *candidate));
    let best = scored.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (best.0 > 0.7).then_some(best.1)
}

/// What types can't say.
fn check(config: &Config) -> Result<(), ConfigError> {
    let fail = |text: &str| Err(ConfigError(text.to_owned()));
    if config.runners.max_concurrent == 0 {
        return fail("key `runners.max_concurrent`: must be at least 1");
    }
    if config.raft.election_min >= config.raft.election_max {
        return fail("key `raft.election_min`: must be below `raft.election_max`");
    }
    if config.raft.heartbeat.0 * 2 > config.raft.election_min.0 {
        return fail("key `raft.heartbeat`: must be at most half of `raft.election_min`");
    }
    if config.raft.lease <= config.raft.heartbeat {
        return fail("key `raft.lease`: must be longer than `raft.heartbeat`");
    }
    let minimum = super::Span::days(1);
    let gc = &config.garbage_collector;
    for (name, ttl) in [
        ("action_executions_ttl", gc.action_executions_ttl),
        ("action_executions_output_ttl", gc.action_executions_output_ttl),
        ("trigger_instances_ttl", gc.trigger_instances_ttl),
        ("rule_enforcements_ttl", gc.rule_enforcements_ttl),
        ("tokens_ttl", gc.tokens_ttl),
    ] {
        if ttl.is_some_and(|ttl| ttl < minimum) {
            return Err(ConfigError(format!("key `garbage_collector.{name}`: must be at least 1d")));
        }
    }
    if !["strict", "lax", "none", "unset"].contains(&config.api.auth_cookie_same_site.as_str()) {
        return fail("key `api.auth_cookie_same_site`: must be strict, lax, none or unset");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load_text(text: &str) -> Result<Config, ConfigError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("squall.toml");
        std::fs::write(&path, text).unwrap();
        load(&Config::default(), Some(&path))
    }

    #[test]
    fn the_file_overrides_defaults() {
        let config = load_text("[node]\ndata_dir = '/srv/squall'\n[timers]\ncatch_up_window = '5m'\n").unwrap();
        assert_eq!(config.node.data_dir, PathBuf::from("/srv/squall"));
        assert_eq!(config.timers.catch_up_window, super::super::Span::secs(300));
        assert_eq!(config.runners, Config::default().runners);
    }

    #[test]
    fn unknown_keys_name_the_nearest() {
        let error = load_text("[node]\ndata_dri = '/srv'\n").unwrap_err().0;
        assert!(error.contains("unknown key `node.data_dri`"), "{error}");
        assert!(error.contains("did you mean `node.data_dir`?"), "{error}");
        let error = load_text("[nodes]\nx = 1\n").unwrap_err().0;
        assert!(error.contains("did you mean `node`?"), "{error}");
    }

    #[test]
    fn wrong_values_name_the_key() {
        let error = load_text("[timers]\ncatch_up_window = 'soon'\n").unwrap_err().0;
        assert!(error.contains("timers.catch_up_window") && error.contains("'soon' is not a duration"), "{error}");
        let error = load_text("[runners]\nmax_concurrent = 0\n").unwrap_err().0;
        assert!(error.contains("runners.max_concurrent"), "{error}");
        assert!(load_text("[node\n").unwrap_err().0.contains("squall.toml"));
    }

    #[test]
    fn defaults_pass_their_own_checks() {
        assert_eq!(load(&Config::default(), None), Ok(Config::default()));
    }
}
