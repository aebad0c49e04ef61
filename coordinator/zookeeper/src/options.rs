//! How to reach ZooKeeper.

use std::fmt;
use std::time::Duration;

use coordinator::CoordinatorError;

/// See [`ZooKeeperOptions::new`].
#[derive(Clone)]
pub struct ZooKeeperOptions {
    /// `host:port,host:port`
    pub servers: String,
    /// The znode below which everything lies, with a leading slash; made if it isn't there. Clusters may share an
    /// ensemble.
    pub root: String,
    /// With credentials, znodes are made so that only they can be used with (scheme `digest`).
    pub credentials: Option<(String, String)>,
    pub session_timeout: Duration,
    /// Every call is over after this long.
    pub timeout: Duration,
}

impl ZooKeeperOptions {
    pub fn new(servers: impl Into<String>, root: impl Into<String>) -> Self {
        Self {
            servers: servers.into(),
            root: root.into(),
            credentials: None,
            session_timeout: Duration::from_secs(6),
            timeout: Duration::from_secs(3),
        }
    }

    /// From `zookeeper://user:password@host:port,host:port/root`; credentials and root are optional. `name` is the last
    /// part of the root.
    ///
    /// # Errors
    /// [`CoordinatorError::Misuse`] if it isn't one; the text doesn't repeat it.
    pub fn from_url(url: &str, name: &str) -> Result<Self, CoordinatorError> {
        let misuse = || CoordinatorError::Misuse("the URL of ZooKeeper isn't zookeeper://host:port,…/root".to_owned());
        let rest = url.strip_prefix("zookeeper://").ok_or_else(misuse)?;
        let (rest, root) = rest.split_once('/').unwrap_or((rest, ""));
        let (credentials, servers) = match rest.rsplit_once('@') {
            Some((user, servers)) => (Some(user.split_once(':').ok_or_else(misuse)?), servers),
            None => (None, rest),
        };
        let root = format!("/{root}").trim_end_matches('/').to_owned();
        let mut options = Self::new(servers, format!("{root}/{name}"));
        options.credentials = credentials.map(|(user, password)| (user.to_owned(), password.to_owned()));
        options.check()?;
        Ok(options)
    }

    pub(crate) fn check(&self) -> Result<(), CoordinatorError> {
        let parts: Vec<&str> = self.root.split('/').collect();
        let well_formed = parts.len() >= 2 && parts[0].is_empty() && parts[1..].iter().all(|part| is_name(part));
        match !self.servers.is_empty() && !self.servers.contains('/') && well_formed {
            true => Ok(()),
            false => Err(CoordinatorError::Misuse("ZooKeeper's servers or root are malformed".to_owned())),
        }
    }
}

fn is_name(part: &str) -> bool {
    !matches!(part, "" | "." | ".." | "zookeeper") && part.chars().all(|c| !c.is_control())
}

impl fmt::Debug for ZooKeeperOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ZooKeeperOptions")
            .field("servers", &self.servers)
            .field("root", &self.root)
            .field("credentials", &self.credentials.is_some())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let options = ZooKeeperOptions::from_url("zookeeper://u:sesame@a:1,b:2/x/y/", "squall").unwrap();
        assert_eq!((options.servers.as_str(), options.root.as_str()), ("a:1,b:2", "/x/y/squall"));
        assert_eq!(options.credentials, Some(("u".to_owned(), "sesame".to_owned())));
        assert!(!format!("{options:?}").contains("sesame"));
        assert_eq!(ZooKeeperOptions::from_url("zookeeper://a:1", "squall").unwrap().root, "/squall");
        for wrong in ["redis://a", "zookeeper://", "zookeeper://u@a:1", "zookeeper://a/b//c", "zookeeper://a/.."] {
            assert!(ZooKeeperOptions::from_url(wrong, "squall").is_err(), "{wrong}");
        }
    }
}
