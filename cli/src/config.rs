//! Where the services are and who we are: flags, `~/.st2/config`, the environment, defaults, in this order
//! (`spec/cli.md` §2: the file beats the environment, as it does in StackStorm).

use std::path::{Path, PathBuf};

use crate::args::Matches;
use crate::error::{Error, Result};
use crate::ini::Ini;
use crate::output::Zone;

/// How server certificates are checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verify {
    /// Not at all: what StackStorm does unless told otherwise.
    Off,
    System,
    Bundle(PathBuf),
}

/// Everything the command line knows before it talks to a server.
#[derive(Debug, Clone)]
pub struct Settings {
    pub api_url: String,
    pub auth_url: String,
    pub stream_url: String,
    pub verify: Verify,
    /// For a proxy in front of the API.
    pub basic_auth: Option<(String, String)>,
    pub username: Option<String>,
    pub password: Option<String>,
    pub api_key: Option<String>,
    pub cache_token: bool,
    pub zone: Zone,
    pub debug: bool,
    /// The file's settings, for `--print-config` and `login`.
    pub file: Ini,
    pub file_path: PathBuf,
}

/// The sections and options of the file with their defaults, as `--print-config` lists them.
const OPTIONS: &[(&str, &[(&str, &str)])] = &[
    (
        "general",
        &[
            ("base_url", "None"),
            ("api_version", "None"),
            ("cacert", "None"),
            ("silence_ssl_warnings", "False"),
            ("silence_schema_output", "True"),
        ],
    ),
    ("cli", &[("debug", "False"), ("cache_token", "True"), ("timezone", "UTC")]),
    ("credentials", &[("username", "None"), ("password", "None"), ("api_key", "None"), ("basic_auth", "None")]),
    ("api", &[("url", "None")]),
    ("auth", &[("url", "None")]),
    ("stream", &[("url", "None")]),
];

/// `~/.st2`.
pub fn directory() -> PathBuf {
    PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/".into())).join(".st2")
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

impl Settings {
    /// Gathers the settings; `global` are the options before the command.
    pub fn load(global: &Matches) -> Result<Settings> {
        let skip = global.has("skip-config") || variable("ST2_CLI_SKIP_CONFIG").is_some_and(|value| is_true(&value));
        let named = global.one("config-file").map(str::to_owned).or_else(|| variable("ST2_CONFIG_FILE"));
        let file_path = named.clone().map_or_else(|| directory().join("config"), PathBuf::from);
        let file = if skip { Ini::default() } else { read(&file_path, named.is_some())? };
        let pick = |flag: &str, setting: (&str, &str), env: &str| {
            let flag = global.one(flag).map(str::to_owned);
            flag.or_else(|| file.get(setting.0, setting.1).map(str::to_owned)).or_else(|| variable(env))
        };
        let base =
            pick("url", ("general", "base_url"), "ST2_BASE_URL").unwrap_or_else(|| "http://127.0.0.1".to_owned());
        let base = base.trim_end_matches('/');
        let version =
            pick("api-version", ("general", "api_version"), "ST2_API_VERSION").unwrap_or_else(|| "v1".to_owned());
        let trim = |url: String| url.trim_end_matches('/').to_owned();
        let api = pick("api-url", ("api", "url"), "ST2_API_URL");
        let auth = pick("auth-url", ("auth", "url"), "ST2_AUTH_URL");
        let stream = pick("stream-url", ("stream", "url"), "ST2_STREAM_URL");
        let verify = verify(pick("cacert", ("general", "cacert"), "ST2_CACERT"))?;
        let basic_auth = pick("basic-auth", ("credentials", "basic_auth"), "ST2_BASIC_AUTH");
        let zone = file.get("cli", "timezone").unwrap_or("UTC");
        Ok(Settings {
            api_url: api.map_or_else(|| format!("{base}:9101/{version}"), trim),
            auth_url: auth.map_or_else(|| format!("{base}:9100"), trim),
            stream_url: stream.map_or_else(|| format!("{base}:9102/{version}"), trim),
            verify,
            basic_auth: basic_auth.map(|pair| split_basic(&pair)).transpose()?,
            username: file.get("credentials", "username").map(str::to_owned),
            password: file.get("credentials", "password").map(str::to_owned),
            api_key: file.get("credentials", "api_key").map(str::to_owned),
            cache_token: file.get("cli", "cache_token").is_none_or(is_true),
            zone: zone.parse().map_err(|_| Error::failed(format!("unknown time zone in cli.timezone: {zone}")))?,
            debug: global.has("debug") || file.get("cli", "debug").is_some_and(is_true),
            file,
            file_path,
        })
    }

    /// The text of `--print-config`.
    pub fn print(&self) -> String {
        let mut out = String::new();
        for (section, options) in OPTIONS {
            out.push_str(&format!("[{section}]\n"));
            for (option, default) in *options {
                let value = match (self.file.get(section, option), *default) {
                    (None, default) => default.to_owned(),
                    (Some(value), "True" | "False") => if is_true(value) { "True" } else { "False" }.to_owned(),
                    (Some(value), _) => value.to_owned(),
                };
                out.push_str(&format!("{option} = {value}\n"));
            }
        }
        out
    }
}

fn read(path: &Path, named: bool) -> Result<Ini> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ini::parse(&text).map_err(|error| Error::failed(format!("{}: {error}", path.display()))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !named => Ok(Ini::default()),
        Err(error) => Err(Error::failed(format!("cannot read config file \"{}\": {error}", path.display()))),
    }
}

fn is_true(text: &str) -> bool {
    ["1", "true", "yes", "on", "t", "y"].contains(&text.to_lowercase().as_str())
}

fn verify(cacert: Option<String>) -> Result<Verify> {
    match cacert {
        None => Ok(Verify::Off),
        Some(text) if is_true(&text) => Ok(Verify::System),
        Some(text) if ["", "0", "false", "f", "no", "n"].contains(&text.to_lowercase().as_str()) => Ok(Verify::Off),
        Some(text) if Path::new(&text).is_file() => Ok(Verify::Bundle(PathBuf::from(text))),
        Some(text) => Err(Error::failed(format!("CA cert file \"{text}\" does not exist."))),
    }
}

fn split_basic(pair: &str) -> Result<(String, String)> {
    let parts = pair.split_once(':').map(|(user, password)| (user.to_owned(), password.to_owned()));
    parts.ok_or_else(|| Error::failed("basic_auth config options needs to be in the username:password notation"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_off_system_or_a_file() {
        assert_eq!(verify(None).unwrap(), Verify::Off);
        assert_eq!(verify(Some("yes".to_owned())).unwrap(), Verify::System);
        assert_eq!(verify(Some("no".to_owned())).unwrap(), Verify::Off);
        let error = verify(Some("/nope.pem".to_owned())).unwrap_err().to_string();
        assert_eq!(error, "CA cert file \"/nope.pem\" does not exist.");
        assert!(split_basic("x").is_err());
    }
}
