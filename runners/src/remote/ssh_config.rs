//! What a host's ssh configuration says: the few keywords that count here (spec/runners.md §8).

use std::path::{Path, PathBuf};

use super::options::expand_home;

/// Defaults for one host; the first value that is found for a keyword counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostConfig {
    pub host_name: Option<String>,
    pub user: Option<String>,
    pub port: Option<u16>,
    pub identity_file: Option<PathBuf>,
    /// The first hop.
    pub proxy_jump: Option<String>,
    /// Not supported: such a host is refused, as connecting directly would not be what was meant.
    pub proxy_command: Option<String>,
}

/// Reads the file; one that isn't there says nothing.
pub async fn read(file: &Path) -> Result<String, String> {
    match tokio::fs::read_to_string(file).await {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        read => read.map_err(|error| format!("ssh configuration {}: {error}", file.display())),
    }
}

/// The part of the configuration `text` that concerns `host`. `Match` blocks other than `all` are left out.
pub fn lookup(text: &str, host: &str) -> HostConfig {
    let mut config = HostConfig::default();
    let mut applies = true;
    for line in text.lines() {
        let Some((keyword, value)) = split(line) else { continue };
        match keyword.as_str() {
            "host" => applies = matches_patterns(host, value),
            "match" => applies = value.eq_ignore_ascii_case("all"),
            _ if applies => config.take(&keyword, value, host),
            _ => {}
        }
    }
    config
}

impl HostConfig {
    fn take(&mut self, keyword: &str, value: &str, host: &str) {
        let is_none = value.eq_ignore_ascii_case("none");
        match keyword {
            "hostname" => put(&mut self.host_name, || Some(value.replace("%h", host))),
            "user" => put(&mut self.user, || Some(value.to_owned())),
            "port" => put(&mut self.port, || value.parse().ok()),
            "identityfile" if !is_none => put(&mut self.identity_file, || Some(expand_home(value))),
            "proxyjump" if !is_none => put(&mut self.proxy_jump, || value.split(',').next().map(str::to_owned)),
            "proxycommand" if !is_none => put(&mut self.proxy_command, || Some(value.to_owned())),
            _ => {}
        }
    }
}

fn put<T>(slot: &mut Option<T>, value: impl FnOnce() -> Option<T>) {
    if slot.is_none() {
        *slot = value();
    }
}

/// Keyword in lower case and value without quotes; `=` may stand between them.
fn split(line: &str) -> Option<(String, &str)> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let end = line.find(|c: char| c.is_whitespace() || c == '=')?;
    let value = line[end..].trim_start().trim_start_matches('=').trim();
    Some((line[..end].to_ascii_lowercase(), value.trim_matches('"')))
}

/// One of the patterns fits, and none that begins with `!` does.
fn matches_patterns(host: &str, patterns: &str) -> bool {
    let mut found = false;
    for pattern in patterns.split_whitespace() {
        match pattern.strip_prefix('!') {
            Some(pattern) if fits(host.as_bytes(), pattern.as_bytes()) => return false,
            Some(_) => {}
            None => found |= fits(host.as_bytes(), pattern.as_bytes()),
        }
    }
    found
}

/// `*` stands for any text, `?` for one character. Goes back to the last `*` only, so it takes no more than
/// |host| x |pattern| steps.
fn fits(host: &[u8], pattern: &[u8]) -> bool {
    let (mut h, mut p) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while h < host.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, h));
                p += 1;
            }
            Some(c) if *c == b'?' || c.eq_ignore_ascii_case(&host[h]) => {
                h += 1;
                p += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    h = from + 1;
                    p = at + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
# everybody
Host web-* !web-9
    HostName %h.internal
    User deploy
    Port=2222
    IdentityFile "/keys/web key"
Host web-1
    User never
Match host web-1
    Port 1
Host *
    User fallback
    ProxyJump gate:22,second
"#;

    #[test]
    fn the_first_value_counts() {
        let web = lookup(TEXT, "web-1");
        assert_eq!(web.host_name.as_deref(), Some("web-1.internal"));
        assert_eq!(web.user.as_deref(), Some("deploy"));
        assert_eq!(web.port, Some(2222));
        assert_eq!(web.identity_file, Some(PathBuf::from("/keys/web key")));
        assert_eq!(web.proxy_jump.as_deref(), Some("gate:22"));
        let other = lookup(TEXT, "web-9");
        assert_eq!((other.user.as_deref(), other.port), (Some("fallback"), None));
        assert_eq!(lookup("", "h"), HostConfig::default());
    }

    #[test]
    fn patterns() {
        for (pattern, yes, no) in
            [("*", "a", "\u{0}"), ("a?c", "abc", "ac"), ("*.x", "b.x", "b.xy"), ("a*b*c", "aXbYc", "aXc")]
        {
            assert!(fits(yes.as_bytes(), pattern.as_bytes()), "{pattern} {yes}");
            assert!(pattern == "*" || !fits(no.as_bytes(), pattern.as_bytes()), "{pattern} {no}");
        }
    }
}
