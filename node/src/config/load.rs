//! Reading the layers, and errors that help.

use std::path::{Path, PathBuf};

use figment::Figment;
use figment::error::Kind;
use figment::providers::{Env, Format, Serialized, Toml};

use super::check::check;
use super::{Config, Listen};

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
    let mut given = Figment::new();
    if let Some(path) = file {
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError(format!("can't read {}: {error}", path.display())))?;
        // Parsed here first: this parser's errors show the line.
        toml::from_str::<toml::Table>(&text).map_err(|error| unreadable(path, &text, &error))?;
        given = given.merge(Toml::file_exact(path));
    }
    let environment = Env::prefixed("SQUALL_")
        .filter(|key| !OTHER_VARIABLES.iter().any(|other| key.as_str().to_ascii_lowercase().starts_with(other)))
        .split("__");
    let given = given.merge(environment);
    let mut base = base.clone();
    if given.contains("listen") {
        // Whoever names one address wants no others: there would be no way to say so.
        base.listen = Listen::none();
    }
    let layers = Figment::from(Serialized::defaults(base)).merge(given);
    let config: Config = layers.extract().map_err(|error| explain(&error))?;
    check(&config)?;
    Ok(config)
}

/// With the line's number instead of the line: it may hold a password.
fn unreadable(path: &Path, text: &str, error: &toml::de::Error) -> ConfigError {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    ConfigError(format!("{}, line {line}: {}", path.display(), error.message()))
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
        // Figment shows the value, which may be a secret.
        Kind::InvalidType(_, expected) if may_be_secret(&error.path) => {
            format!("key `{}`{source}: must be {expected}", error.path.join("."))
        }
        Kind::InvalidValue(_, expected) if may_be_secret(&error.path) => {
            format!("key `{}`{source}: must be {expected}", error.path.join("."))
        }
        kind => format!("key `{}`{source}: {kind}", error.path.join(".")),
    }
}

fn may_be_secret(path: &[String]) -> bool {
    path.iter().any(|part| ["url", "urls", "password", "join_token"].contains(&part.as_str()))
}

/// The known key that is spelled most alike, if any comes near.
fn nearest<'a>(given: &str, known: &[&'a str]) -> Option<&'a str> {
    let scored = known.iter().map(|candidate| (strsim::jaro_winkler(given, candidate), *candidate));
    let best = scored.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (best.0 > 0.7).then_some(best.1)
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
    fn one_address_is_the_only_one() {
        let config = load_text("[listen]\ncombined = '127.0.0.1:80'\n").unwrap();
        assert!(config.listen.combined.is_some() && config.listen.auth.is_none() && config.listen.api.is_none());
        assert_eq!(load_text("").unwrap().listen, Listen::default());
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

    const CLUSTER: &str = "[store]\nurl = 'mongodb://u:geheim@h/'\n[bus]\nurls = ['amqp://u:geheim@h']\n[workflow]\n\
        url = 'postgres://u:geheim@h/w'\n[cluster]\nlisten = '10.0.0.1:7946'\npeers = ['10.0.0.2:7946']\n\
        bootstrap_expect = 3\nca_file = '/ca'\ncert_file = '/cert'\nkey_file = '/key'\n";

    #[test]
    fn broken_files_are_not_repeated() {
        let error = load_text("[store]\npassword = 'geheim\n").unwrap_err().0;
        assert!(error.contains("line 2") && !error.contains("geheim"), "{error}");
    }

    #[test]
    fn a_cluster_node_is_accepted_and_its_secrets_are_not_shown() {
        let config = load_text(CLUSTER).unwrap();
        let shown = format!("{config:?}\n{}", toml::to_string(&config).unwrap());
        assert!(!shown.contains("geheim") && shown.contains("mongodb://u:****"), "{shown}");
        assert_eq!(config.store.server_url().unwrap().reveal(), "mongodb://u:geheim@h/");
    }

    #[test]
    fn keys_that_do_not_fit_each_other_are_named() {
        let changed = |from: &str, to: &str| CLUSTER.replace(from, to);
        for (text, key) in [
            ("[cluster]\npeers = ['h:1']\n".to_owned(), "cluster.peers"),
            ("[cluster]\nbootstrap_expect = 3\n".to_owned(), "cluster.bootstrap_expect"),
            ("[node]\nroles = []\n".to_owned(), "node.roles"),
            ("[node]\nroles = ['api']\n".to_owned(), "node.roles"),
            ("[node]\nroles = ['apis']\n".to_owned(), "node.roles"),
            ("[store]\nurl = 'mysql://u:geheim@h'\n".to_owned(), "store.url"),
            ("[coordinator]\nbackend = 'redis'\n".to_owned(), "coordinator.url"),
            ("[coordinator]\nurl = 'redis://h'\n".to_owned(), "coordinator.url"),
            ("[bus]\ntls = { cert_file = '/x' }\n".to_owned(), "bus.tls.key_file"),
            ("[bus]\nurls = 'amqp://u:geheim@h'\n".to_owned(), "bus.urls"),
            ("[store]\npassword = ['geheim']\n".to_owned(), "store.password"),
            (changed("mongodb://u:geheim@h/", "sqlite"), "store.url"),
            (changed("'amqp://u:geheim@h'", ""), "bus.urls"),
            (changed("postgres://u:geheim@h/w", "sqlite"), "workflow.url"),
            (changed("'10.0.0.2:7946'", ""), "cluster.peers"),
            (changed("'10.0.0.2:7946'", "'10.0.0.2'"), "cluster.peers"),
            (changed("cert_file = '/cert'\nkey_file = '/key'\n", ""), "cluster.cert_file"),
            (changed("key_file = '/key'\n", ""), "cluster.key_file"),
            (changed("ca_file = '/ca'\n", ""), "cluster.ca_file"),
            (changed("10.0.0.1:7946", "0.0.0.0:7946"), "cluster.advertise"),
            (changed("bootstrap_expect = 3", "bootstrap_expect = 9"), "cluster.bootstrap_expect"),
        ] {
            let error = load_text(&text).unwrap_err().0;
            assert!(error.contains(&format!("`{key}")) && !error.contains("geheim"), "{text}: {error}");
        }
    }

    #[test]
    fn defaults_pass_their_own_checks() {
        assert_eq!(load(&Config::default(), None), Ok(Config::default()));
    }
}
