//! All permissions (spec/auth-rbac.md §5): of which kind of resource, which are global, which imply which.

/// A kind of resource and the permissions it has.
#[derive(Debug, PartialEq, Eq)]
pub struct Kind {
    /// As uids begin.
    pub name: &'static str,
    pub permissions: &'static [&'static str],
    /// Grantable on this kind's uid besides its own.
    pub content: &'static [&'static str],
}

const fn kind(name: &'static str, permissions: &'static [&'static str]) -> Kind {
    Kind { name, permissions, content: &[] }
}

/// What a grant on a pack gives for all that the pack holds.
const PACK_CONTENT: &[&str] = &[
    "sensor_type_view",
    "sensor_type_modify",
    "sensor_type_all",
    "action_view",
    "action_create",
    "action_modify",
    "action_delete",
    "action_execute",
    "action_all",
    "action_alias_view",
    "action_alias_create",
    "action_alias_modify",
    "action_alias_delete",
    "action_alias_all",
    "rule_view",
    "rule_create",
    "rule_modify",
    "rule_delete",
    "rule_all",
];

pub const KINDS: &[Kind] = &[
    kind("runner_type", &["runner_type_list", "runner_type_view", "runner_type_modify", "runner_type_all"]),
    Kind {
        name: "pack",
        permissions: &[
            "pack_list",
            "pack_view",
            "pack_create",
            "pack_modify",
            "pack_delete",
            "pack_install",
            "pack_uninstall",
            "pack_register",
            "pack_config",
            "pack_search",
            "pack_views_index_health",
            "pack_all",
        ],
        content: PACK_CONTENT,
    },
    kind("sensor_type", &["sensor_type_list", "sensor_type_view", "sensor_type_modify", "sensor_type_all"]),
    kind(
        "action",
        &[
            "action_list",
            "action_view",
            "action_create",
            "action_modify",
            "action_delete",
            "action_execute",
            "action_all",
        ],
    ),
    kind(
        "action_alias",
        &[
            "action_alias_list",
            "action_alias_view",
            "action_alias_create",
            "action_alias_modify",
            "action_alias_match",
            "action_alias_help",
            "action_alias_delete",
            "action_alias_all",
        ],
    ),
    kind("rule", &["rule_list", "rule_view", "rule_create", "rule_modify", "rule_delete", "rule_all"]),
    kind("rule_enforcement", &["rule_enforcement_list", "rule_enforcement_view"]),
    kind(
        "execution",
        &[
            "execution_list",
            "execution_view",
            "execution_rerun",
            "execution_stop",
            "execution_all",
            "execution_views_filters_list",
        ],
    ),
    kind(
        "key_value_pair",
        &[
            "key_value_pair_list",
            "key_value_pair_view",
            "key_value_pair_set",
            "key_value_pair_delete",
            "key_value_pair_all",
        ],
    ),
    kind(
        "webhook",
        &["webhook_list", "webhook_view", "webhook_create", "webhook_send", "webhook_delete", "webhook_all"],
    ),
    kind("timer", &["timer_list", "timer_view", "timer_all"]),
    kind(
        "api_key",
        &["api_key_list", "api_key_view", "api_key_create", "api_key_modify", "api_key_delete", "api_key_all"],
    ),
    kind("trace", &["trace_list", "trace_view", "trace_all"]),
    kind("trigger", &["trigger_list", "trigger_view", "trigger_all"]),
    kind("policy_type", &["policy_type_list", "policy_type_view", "policy_type_all"]),
    kind("policy", &["policy_list", "policy_view", "policy_create", "policy_modify", "policy_delete", "policy_all"]),
    kind("inquiry", &["inquiry_list", "inquiry_view", "inquiry_respond", "inquiry_all"]),
    kind("stream", &["stream_view"]),
];

/// Global besides every `…_list`.
const GLOBAL: &[&str] = &[
    "pack_install",
    "pack_uninstall",
    "pack_create",
    "pack_register",
    "pack_config",
    "pack_search",
    "pack_views_index_health",
    "action_alias_match",
    "action_alias_help",
    "api_key_create",
    "policy_create",
    "stream_view",
    "inquiry_respond",
    "inquiry_view",
];

/// The kind of resource that a permission is of.
pub fn kind_of(permission: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.permissions.contains(&permission))
}

pub fn find_kind(name: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.name == name)
}

/// Whether it is granted without a resource, and only so.
pub fn is_global(permission: &str) -> bool {
    permission.ends_with("_list") || GLOBAL.contains(&permission)
}

/// All of them, in the order of the kinds.
pub fn globals() -> Vec<&'static str> {
    KINDS.iter().flat_map(|kind| kind.permissions).copied().filter(|permission| is_global(permission)).collect()
}

/// What the observer may: to look, nothing else.
pub fn is_observing(permission: &str) -> bool {
    permission != "pack_views_index_health"
        && ["_view", "_list", "_search"].iter().any(|suffix| permission.ends_with(suffix))
}

/// Kinds that lie in packs: a grant on the pack counts for them.
pub fn is_pack_content(kind: &str) -> bool {
    matches!(kind, "action" | "action_alias" | "rule" | "sensor_type" | "policy")
}

/// The permissions of which one suffices, on the resource (or, for a pack's content, on its pack).
///
/// The resource of executions is the action, that of enforcements the rule (spec/auth-rbac.md §8).
pub fn sufficient(permission: &str) -> Vec<String> {
    let exactly = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    match permission {
        "execution_view" => return exactly(&["action_view", "action_all"]),
        "execution_rerun" | "execution_stop" => return exactly(&["action_execute", "action_all"]),
        "execution_all" => return exactly(&["action_all"]),
        "rule_enforcement_view" => return sufficient("rule_view"),
        "inquiry_view" | "inquiry_respond" | "inquiry_all" => return exactly(&["action_execute", "action_all"]),
        "key_value_pair_view" => return exactly(find_kind("key_value_pair").map_or(&[], |kind| kind.permissions)),
        _ => {}
    }
    let Some(kind) = kind_of(permission) else { return Vec::new() };
    let all = format!("{}_all", kind.name);
    if matches!(kind.name, "runner_type" | "pack") {
        return exactly(&[permission]);
    }
    if is_pack_content(kind.name) && permission == format!("{}_view", kind.name) {
        let verbs = ["view", "create", "modify", "delete", "execute", "all"];
        return verbs
            .iter()
            .map(|verb| format!("{}_{verb}", kind.name))
            .filter(|name| kind.permissions.contains(&name.as_str()))
            .collect();
    }
    vec![permission.to_owned(), all]
}

/// One line for people: `GET /rbac/permission_types`.
pub fn describe(permission: &str) -> String {
    let Some(kind) = kind_of(permission) else { return String::new() };
    let verb = permission.strip_prefix(kind.name).unwrap_or(permission).trim_start_matches('_').replace('_', " ");
    let name = kind.name.replace('_', " ");
    match verb.as_str() {
        "list" => format!("See the list of every {name}."),
        "all" => format!("Everything that can be done with one {name}."),
        verb if is_global(permission) => format!("{}: {verb}.", capital(&name)),
        verb => format!("{} one {name}.", capital(verb)),
    }
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_ascii_uppercase().to_string() + chars.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_fit_each_other() {
        for kind in KINDS {
            for permission in kind.permissions {
                assert_eq!(kind_of(permission), Some(kind), "{permission}");
                assert!(permission.starts_with(kind.name));
                assert!(!describe(permission).is_empty());
                assert!(is_global(permission) || !sufficient(permission).is_empty(), "{permission}");
            }
            for permission in kind.content {
                assert!(kind_of(permission).is_some_and(|kind| is_pack_content(kind.name)), "{permission}");
                assert!(!is_global(permission), "{permission}");
            }
        }
        assert!(GLOBAL.iter().all(|name| kind_of(name).is_some()));
        assert!(globals().contains(&"execution_views_filters_list") && !is_global("inquiry_all"));
    }

    #[test]
    fn what_an_observer_may() {
        for permission in ["action_view", "execution_views_filters_list", "pack_search", "stream_view", "inquiry_view"]
        {
            assert!(is_observing(permission), "{permission}");
        }
        for permission in ["pack_views_index_health", "action_alias_match", "action_alias_help", "inquiry_respond"] {
            assert!(!is_observing(permission), "{permission}");
        }
    }

    #[test]
    fn implications() {
        assert_eq!(sufficient("runner_type_view"), ["runner_type_view"]);
        assert_eq!(sufficient("pack_view"), ["pack_view"]);
        assert_eq!(
            sufficient("action_view"),
            ["action_view", "action_create", "action_modify", "action_delete", "action_execute", "action_all"]
        );
        assert_eq!(sufficient("sensor_type_view"), ["sensor_type_view", "sensor_type_modify", "sensor_type_all"]);
        assert_eq!(sufficient("execution_view"), ["action_view", "action_all"]);
        assert_eq!(sufficient("webhook_send"), ["webhook_send", "webhook_all"]);
        assert!(sufficient("nonsense").is_empty());
    }
}
