//! Whether uv makes virtualenvs, instead of pip.
//!
//! uv reads nothing of pip's settings. Where pip is told to take packages from elsewhere than the public index, uv would
//! take them from there all the same, and a stranger's package of the same name with it: so then pip it is, unless uv
//! has settings of its own.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

/// Settings that say where packages come from, and which.
const WHERE: [&str; 6] = ["index-url", "extra-index-url", "find-links", "no-index", "constraint", "proxy"];
/// Variables by which uv is told the same.
const UV: [&str; 6] =
    ["UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_CONFIG_FILE"];

/// Why uv doesn't; none if it does.
pub async fn why_not(environment: &[(String, String)]) -> Option<String> {
    if !works().await {
        return Some("uv isn't there".to_owned());
    }
    let variable = |name: &str| {
        let given = environment.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone());
        given.or_else(|| std::env::var(name).ok()).filter(|value| !value.is_empty())
    };
    let home = variable("HOME").map(PathBuf::from).unwrap_or_default();
    let settings = variable("XDG_CONFIG_HOME").map_or_else(|| home.join(".config"), PathBuf::from);
    if UV.iter().any(|name| variable(name).is_some())
        || [PathBuf::from("/etc/uv/uv.toml"), settings.join("uv/uv.toml")].iter().any(|file| file.is_file())
    {
        return None;
    }
    let name = |key: &str| format!("PIP_{}", key.replace('-', "_").to_uppercase());
    if let Some(key) = WHERE.iter().find(|key| variable(&name(key)).is_some()) {
        return Some(format!("{} is pip's alone", name(key)));
    }
    let mut files = vec![PathBuf::from("/etc/pip.conf"), settings.join("pip/pip.conf"), home.join(".pip/pip.conf")];
    files.extend(variable("PIP_CONFIG_FILE").map(PathBuf::from));
    files
        .iter()
        .find_map(|file| named_in(file))
        .map(|(key, file)| format!("{key} of {} is pip's alone", file.display()))
}

fn named_in(file: &Path) -> Option<(&'static str, &Path)> {
    let text = std::fs::read_to_string(file).ok()?;
    let keys = || text.lines().filter_map(|line| line.split_once(['=', ':'])).map(|(key, _)| key.trim());
    let found = WHERE.iter().find(|key| keys().any(|named| named.replace('_', "-") == **key))?;
    Some((found, file))
}

async fn works() -> bool {
    let run = tokio::process::Command::new("uv")
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .status();
    matches!(tokio::time::timeout(Duration::from_secs(10), run).await, Ok(Ok(status)) if status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_pip_that_say_where_packages_come_from() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pip.conf");
        for (text, expected) in [
            ("[global]\nindex-url = https://ours.example/simple\n", Some("index-url")),
            ("[install]\n extra_index_url: https://ours.example/simple\n", Some("extra-index-url")),
            ("[global]\ntimeout = 60\n# index-url = x\n", None),
        ] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(named_in(&file).map(|(key, _)| key), expected, "{text}");
        }
        assert_eq!(named_in(&dir.path().join("none")), None);
    }
}
