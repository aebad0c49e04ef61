//! The decider: what somebody with certain roles may do. Pure; there are no refusals that a grant can't lift.

use std::collections::{BTreeMap, BTreeSet};

use model::{PermissionGrant, Role};

use super::permissions::{is_global, is_observing, is_pack_content, kind_of, sufficient};
use super::{ADMIN, OBSERVER, SYSTEM_ADMIN};

/// What system roles give, each more than the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
enum Level {
    #[default]
    Nothing,
    Observer,
    Everything,
}

/// The united grants of a user's roles.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Grants {
    roles: BTreeSet<String>,
    level: Level,
    global: BTreeSet<String>,
    /// uid → permissions.
    on: BTreeMap<String, BTreeSet<String>>,
}

/// A resource, as permissions see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub uid: String,
    /// `pack:<ref>`, for what lies in a pack.
    pub pack: Option<String>,
}

impl Target {
    /// A resource that doesn't lie in a pack.
    pub fn plain(uid: impl Into<String>) -> Self {
        Self { uid: uid.into(), pack: None }
    }

    /// A resource of a pack, there or not: `action`, `rule`, ….
    pub fn in_pack(kind: &str, pack: &str, name: &str) -> Self {
        Self { uid: format!("{kind}:{pack}:{name}"), pack: Some(format!("pack:{pack}")) }
    }

    pub fn pack(reference: &str) -> Self {
        Self::plain(format!("pack:{reference}"))
    }

    /// An action by its ref; the name may have dots, the pack has none.
    pub fn action(reference: &str) -> Self {
        let (pack, name) = reference.split_once('.').unwrap_or(("", reference));
        Self::in_pack("action", pack, name)
    }

    /// A webhook by its URL as given; a slash at its end doesn't count.
    pub fn webhook(url: &str) -> Self {
        Self::plain(format!("webhook:{}", url.trim_end_matches('/')))
    }
}

impl Grants {
    /// Everything: RBAC is off, or an operator on the node's host.
    pub fn everything() -> Self {
        Self { level: Level::Everything, ..Self::default() }
    }

    /// The union of what these roles grant.
    pub fn of<'a>(roles: impl IntoIterator<Item = &'a Role>) -> Self {
        let mut grants = Self::default();
        for role in roles {
            grants.roles.insert(role.name.clone());
            // Only the system's own roles have these meanings, whatever others are called.
            if role.system {
                let level = match role.name.as_str() {
                    SYSTEM_ADMIN | ADMIN => Level::Everything,
                    OBSERVER => Level::Observer,
                    _ => Level::Nothing,
                };
                grants.level = grants.level.max(level);
            }
            role.grants.iter().for_each(|grant| grants.add(grant));
        }
        grants
    }

    fn add(&mut self, grant: &PermissionGrant) {
        let names = grant.permission_types.iter().cloned();
        match &grant.resource_uid {
            None => self.global.extend(names),
            // A key of a URL with a slash at its end is the one without.
            Some(uid) if uid.starts_with("webhook:") => {
                self.on.entry(uid.trim_end_matches('/').to_owned()).or_default().extend(names);
            }
            Some(uid) => self.on.entry(uid.clone()).or_default().extend(names),
        }
    }

    /// Names, sorted.
    pub fn roles(&self) -> impl Iterator<Item = &str> {
        self.roles.iter().map(String::as_str)
    }

    pub fn has_role(&self, name: &str) -> bool {
        self.roles.contains(name)
    }

    pub fn is_admin(&self) -> bool {
        self.level == Level::Everything
    }

    /// Whether a system role lets it pass, whatever the resource is.
    pub fn may_anywhere(&self, permission: &str) -> bool {
        match self.level {
            Level::Everything => true,
            Level::Observer => is_observing(permission),
            Level::Nothing => false,
        }
    }

    /// A global permission.
    pub fn may(&self, permission: &str) -> bool {
        // Enforcements are listed with rules' permission; those of inquiries imply each other.
        let names: &[&str] = match permission {
            "rule_enforcement_list" => &["rule_list"],
            "inquiry_view" | "inquiry_respond" => &["inquiry_view", "inquiry_respond", "inquiry_all"],
            "inquiry_all" => &["inquiry_all"],
            _ => &[permission],
        };
        self.may_anywhere(permission)
            || ((is_global(permission) || permission == "inquiry_all")
                && names.iter().any(|name| self.global.contains(*name)))
    }

    /// A permission on one resource. For executions and inquiries the resource is the action, for enforcements the
    /// rule.
    pub fn may_on(&self, permission: &str, target: &Target) -> bool {
        if self.may_anywhere(permission) {
            return true;
        }
        let Some(kind) = kind_of(permission) else { return false };
        if kind.name == "inquiry" && self.may(permission) {
            return true;
        }
        let sufficient = sufficient(permission);
        let holds = |uid: &str| self.on.get(uid).is_some_and(|held| sufficient.iter().any(|name| held.contains(name)));
        let inherits = is_pack_content(kind.name) || matches!(kind.name, "execution" | "rule_enforcement" | "inquiry");
        holds(&target.uid) || (inherits && target.pack.as_deref().is_some_and(holds))
    }

    /// The system keys (names after `st2kv.system:`) that grants name.
    pub fn system_keys(&self) -> impl Iterator<Item = &str> {
        self.on
            .iter()
            .filter(|(_, held)| !held.is_empty())
            .filter_map(|(uid, _)| uid.strip_prefix("key_value_pair:st2kv.system:"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Id;

    pub fn role(name: &str, system: bool, grants: &[(Option<&str>, &[&str])]) -> Role {
        Role {
            id: Id::of_content(name.as_bytes()),
            name: name.to_owned(),
            description: String::new(),
            system,
            grants: grants
                .iter()
                .map(|(uid, names)| PermissionGrant {
                    resource_uid: uid.map(str::to_owned),
                    permission_types: names.iter().map(|name| (*name).to_owned()).collect(),
                })
                .collect(),
        }
    }

    #[test]
    fn nobody_may_anything() {
        let grants = Grants::default();
        assert!(!grants.may("action_list") && !grants.may_on("action_view", &Target::action("a.b")));
    }

    #[test]
    fn system_roles_are_the_systems() {
        assert!(Grants::of([&role("admin", true, &[])]).is_admin());
        assert!(!Grants::of([&role("admin", false, &[])]).is_admin());
        let observer = Grants::of([&role("observer", true, &[])]);
        assert!(observer.may("action_list") && observer.may_on("execution_view", &Target::action("a.b")));
        assert!(!observer.may_on("execution_stop", &Target::action("a.b")) && !observer.is_admin());
    }

    #[test]
    fn packs_give_to_what_they_hold() {
        let role = role(
            "ops",
            false,
            &[
                (Some("pack:acme"), &["action_execute", "rule_all", "pack_view"]),
                (Some("action:other:one"), &["action_all"]),
                (None, &["action_list", "rule_list", "inquiry_respond"]),
            ],
        );
        let grants = Grants::of([&role]);
        let acme = Target::action("acme.deploy.now");
        assert!(grants.may_on("action_execute", &acme) && grants.may_on("action_view", &acme));
        // To run is not to see what was run.
        assert!(!grants.may_on("execution_view", &acme) && grants.may_on("execution_stop", &acme));
        assert!(!grants.may_on("action_modify", &acme));
        assert!(grants.may_on("rule_create", &Target::in_pack("rule", "acme", "new")));
        assert!(grants.may_on("rule_enforcement_view", &Target::in_pack("rule", "acme", "new")));
        assert!(grants.may_on("action_delete", &Target::action("other.one")));
        assert!(!grants.may_on("action_execute", &Target::action("other.two")));
        assert!(
            grants.may_on("pack_view", &Target::pack("acme")) && !grants.may_on("pack_view", &Target::pack("other"))
        );
        assert!(grants.may("rule_enforcement_list") && !grants.may("pack_list"));
        assert!(grants.may_on("inquiry_view", &Target::action("other.two")));
        // A grant on a pack gives nothing on the pack's policies, which it can't name.
        assert!(!grants.may_on("policy_modify", &Target::in_pack("policy", "acme", "p")));
    }

    #[test]
    fn all_implies_no_list() {
        let role =
            role("r", false, &[(Some("action:a:b"), &["action_all"]), (Some("runner_type:x"), &["runner_type_all"])]);
        let grants = Grants::of([&role]);
        assert!(!grants.may("action_list"));
        assert!(!grants.may_on("runner_type_view", &Target::plain("runner_type:x")));
    }

    #[test]
    fn keys_and_webhooks() {
        let role = role(
            "r",
            false,
            &[
                (Some("key_value_pair:st2kv.system:a"), &["key_value_pair_set"]),
                (Some("webhook:deploy/"), &["webhook_send"]),
            ],
        );
        let grants = Grants::of([&role]);
        let key = Target::plain("key_value_pair:st2kv.system:a");
        assert!(grants.may_on("key_value_pair_view", &key) && grants.may_on("key_value_pair_set", &key));
        assert!(!grants.may_on("key_value_pair_delete", &key));
        assert_eq!(grants.system_keys().collect::<Vec<_>>(), ["a"]);
        assert!(grants.may_on("webhook_send", &Target::webhook("deploy")));
        assert!(!grants.may_on("webhook_send", &Target::webhook("deploy/more")));
    }
}
