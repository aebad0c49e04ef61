//! What people write after `st2 pack install` (spec/packs.md §6.1).

/// Where a pack is to come from, and which version of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    pub place: Place,
    /// A version, tag, branch or commit.
    pub version: Option<String>,
}

/// Where a pack lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The index knows.
    Index(String),
    /// An address that git understands.
    Git(String),
    /// A directory of this machine: a repository, or only files.
    Directory(String),
}

impl Source {
    /// `name`, `name=1.2.3`, `owner/repo`, an address, `file:///dir`, `/dir`; `=version` may follow all of them.
    pub fn parse(text: &str) -> Self {
        let text = text.trim();
        // What follows the last `=` is a version unless it goes on as an address does.
        let (place, version) = match text.rsplit_once('=') {
            Some((place, version)) if !version.contains(['/', '@', ':', '?', '&']) => (place, Some(version)),
            _ => (text, None),
        };
        let version = version.filter(|version| !version.is_empty()).map(str::to_owned);
        Self { place: Place::parse(place), version }
    }

    /// For people: without passwords.
    pub fn shown(&self) -> String {
        match &self.place {
            Place::Index(name) => name.clone(),
            Place::Git(url) => without_password(url),
            Place::Directory(path) => path.clone(),
        }
    }

    /// The name that the pack probably has: as dependencies are compared with what is installed.
    pub fn likely_names(&self) -> Vec<String> {
        let text = match &self.place {
            Place::Index(name) => return vec![name.clone()],
            Place::Git(text) | Place::Directory(text) => text,
        };
        let last = text.trim_end_matches('/').rsplit(['/', ':']).next().unwrap_or_default();
        let last = last.strip_suffix(".git").unwrap_or(last);
        let mut names = vec![last.to_owned()];
        names.extend(last.strip_prefix("stackstorm-").map(str::to_owned));
        names
    }
}

impl Place {
    fn parse(text: &str) -> Self {
        if let Some(path) = text.strip_prefix("file://") {
            return Self::Directory(path.to_owned());
        }
        if text.starts_with('/') {
            return Self::Directory(text.to_owned());
        }
        let is_word =
            |part: &str| !part.is_empty() && part.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'));
        match text.split_once('/') {
            Some((owner, repo)) if is_word(owner) && is_word(repo) => Self::Git(format!("https://github.com/{text}")),
            Some(_) => Self::Git(text.to_owned()),
            None if text.contains('@') || text.contains(':') => Self::Git(text.to_owned()),
            None => Self::Index(text.to_owned()),
        }
    }
}

/// An address with `***` in place of user and password.
pub fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    match authority.rsplit_once('@') {
        Some((user, host)) if user.contains(':') => format!("{scheme}://***@{host}{path}"),
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_sources() {
        let git = |url: &str| Place::Git(url.to_owned());
        for (text, place, version) in [
            ("csv", Place::Index("csv".to_owned()), None),
            ("csv=1.2.0", Place::Index("csv".to_owned()), Some("1.2.0")),
            ("acme/stackstorm-tools", git("https://github.com/acme/stackstorm-tools"), None),
            ("acme/tools=main", git("https://github.com/acme/tools"), Some("main")),
            ("https://host/a/b.git=v1.0.0", git("https://host/a/b.git"), Some("v1.0.0")),
            ("https://host/b?token=a/b", git("https://host/b?token=a/b"), None),
            ("https://host/b?token=a/b=v2", git("https://host/b?token=a/b"), Some("v2")),
            ("git@host:o/r.git=abc123", git("git@host:o/r.git"), Some("abc123")),
            ("ssh://git@host/o/r", git("ssh://git@host/o/r"), None),
            ("file:///srv/pack", Place::Directory("/srv/pack".to_owned()), None),
            ("/srv/pack=dev", Place::Directory("/srv/pack".to_owned()), Some("dev")),
        ] {
            let source = Source::parse(text);
            assert_eq!((&source.place, source.version.as_deref()), (&place, version), "{text}");
        }
    }

    #[test]
    fn likely_names_and_passwords() {
        assert_eq!(Source::parse("acme/stackstorm-tools").likely_names(), ["stackstorm-tools", "tools"]);
        assert_eq!(Source::parse("git@h:o/csv.git").likely_names(), ["csv"]);
        assert_eq!(without_password("https://u:secret@h/p@q"), "https://***@h/p@q");
        assert_eq!(without_password("ssh://git@h/p"), "ssh://git@h/p");
    }
}
