//! Hosts as the parameter `hosts` names them (spec/runners.md §8).

/// The port where neither the item, nor the parameter `port`, nor the ssh configuration names one.
pub const SSH_PORT: u16 = 22;

/// One item of `hosts`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Name or address, without brackets.
    pub host: String,
    /// Only if the item names one.
    pub port: Option<u16>,
}

/// The items of a list separated by commas; blanks around them are cut off, empty ones are left out.
pub fn parse_hosts(list: &str) -> Result<Vec<Target>, String> {
    list.split(',').map(str::trim).filter(|item| !item.is_empty()).map(parse_host).collect()
}

/// `host`, `host:port`, an IPv6 address bare or in brackets, `[v6]:port`.
pub fn parse_host(item: &str) -> Result<Target, String> {
    let invalid = || format!("Invalid host \"{item}\"");
    if let Some(rest) = item.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or_else(invalid)?;
        let port = match rest {
            "" => None,
            rest => Some(rest.strip_prefix(':').and_then(|port| port.parse().ok()).ok_or_else(invalid)?),
        };
        return target(host, port).ok_or_else(invalid);
    }
    // Two colons or more: an IPv6 address without brackets, that leaves no place for a port.
    match item.split_once(':') {
        Some((host, port)) if !port.contains(':') => target(host, Some(port.parse().map_err(|_| invalid())?)),
        _ => target(item, None),
    }
    .ok_or_else(invalid)
}

fn target(host: &str, port: Option<u16>) -> Option<Target> {
    let is_plain = !host.is_empty() && !host.starts_with('-') && !host.contains(char::is_whitespace);
    (is_plain && port != Some(0)).then(|| Target { host: host.to_owned(), port })
}

/// The keys of the results: the host's name; with its port where one name occurs with several, which StackStorm
/// lets collide.
pub fn result_keys(targets: &[Target], ports: &[u16]) -> Vec<String> {
    let several = |host: &str, port: u16| {
        targets.iter().zip(ports).any(|(other, other_port)| other.host == host && *other_port != port)
    };
    targets
        .iter()
        .zip(ports)
        .map(
            |(target, port)| {
                if several(&target.host, *port) { format!("{}:{port}", target.host) } else { target.host.clone() }
            },
        )
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(item: &str) -> (String, Option<u16>) {
        let target = parse_host(item).unwrap();
        (target.host, target.port)
    }

    #[test]
    fn every_form_of_a_host() {
        assert_eq!(one("a.example"), ("a.example".to_owned(), None));
        assert_eq!(one("a.example:5555"), ("a.example".to_owned(), Some(5555)));
        assert_eq!(one("10.0.0.1:23"), ("10.0.0.1".to_owned(), Some(23)));
        assert_eq!(one("fe80::1"), ("fe80::1".to_owned(), None));
        assert_eq!(one("[::1]"), ("::1".to_owned(), None));
        assert_eq!(one("[::1]:2222"), ("::1".to_owned(), Some(2222)));
        for wrong in ["a:b", "a:", "[::1", "[::1]x", "a:99999", "a:0", "-oProxy", ":22", "a b"] {
            assert!(parse_host(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn lists_leave_out_what_is_empty() {
        let hosts = parse_hosts(" a , ,b:1,, ").unwrap();
        assert_eq!(hosts.iter().map(|target| target.host.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert!(parse_hosts(" , ").unwrap().is_empty());
    }

    #[test]
    fn names_with_several_ports_are_told_apart() {
        let hosts = parse_hosts("a:1,a:2,b:1,c,c").unwrap();
        let keys = result_keys(&hosts, &[1, 2, 1, 22, 22]);
        assert_eq!(keys, ["a:1", "a:2", "b", "c", "c"]);
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_host_or_refused(text in "\\PC{0,30}") {
            if let Ok(hosts) = parse_hosts(&text) {
                for host in hosts {
                    proptest::prop_assert!(!host.host.is_empty());
                    proptest::prop_assert_ne!(host.port, Some(0));
                }
            }
        }
    }
}
