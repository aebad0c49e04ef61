//! The resources of the API and how the command line shows them (`spec/cli.md` §7, §8): one entry gives a family of
//! commands.

use crate::args::Arg;

/// What every resource can be told to do; the rest is in `commands`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    List,
    Get,
    Create,
    Update,
    Delete,
    Enable,
    Disable,
    /// Says that this can't be cloned: StackStorm's client has the command, too.
    Clone,
}

use Verb::{Create, Delete, Disable, Enable, Get, List, Update};

/// An option of `list` that narrows the list down.
#[derive(Debug, Clone, Copy)]
pub struct Filter {
    pub arg: Arg,
    /// The query parameter.
    pub query: &'static str,
    /// What a flag stands for.
    pub value: &'static str,
}

/// A family of commands.
#[derive(Debug)]
pub struct Resource {
    /// The command's word.
    pub name: &'static str,
    /// As it begins a sentence.
    pub title: &'static str,
    /// One and several in remarks about long lists.
    pub nouns: [&'static str; 2],
    pub about: &'static str,
    pub path: &'static str,
    /// What `get` takes.
    pub id: &'static str,
    /// Columns of a list.
    pub columns: &'static [&'static str],
    /// The first attributes of a single one.
    pub order: &'static [&'static str],
    /// `get` shows these and no others.
    pub exact: bool,
    /// `list` asks for its columns only.
    pub include: bool,
    /// `list` has `-n`, 50 unless given.
    pub last: bool,
    /// The server's newest comes last on the screen.
    pub reversed: bool,
    /// `list` puts a slash behind the path, as error texts show.
    pub slash: bool,
    pub filters: &'static [Filter],
    /// Further options of `list`, that code in `verbs` knows.
    pub more: &'static [Arg],
    pub verbs: &'static [Verb],
    /// The options of `list` of which only one may be given.
    pub exclusive: &'static [&'static str],
}

const BASE: Resource = Resource {
    name: "",
    title: "",
    nouns: ["", ""],
    about: "",
    path: "",
    id: "ref-or-id",
    columns: &[],
    order: &[],
    exact: false,
    include: true,
    last: false,
    reversed: false,
    slash: false,
    filters: &[],
    more: &[],
    verbs: &[List, Get],
    exclusive: &[],
};

const fn filter(names: &'static [&'static str], query: &'static str, help: &'static str) -> Filter {
    Filter { arg: Arg::one(names, help), query, value: "" }
}

const fn switch(
    names: &'static [&'static str],
    query: &'static str,
    value: &'static str,
    help: &'static str,
) -> Filter {
    Filter { arg: Arg::flag(names, help), query, value }
}

const PACK: Filter = filter(&["-p", "--pack"], "pack", "Only those of this pack.");
const SINCE: Filter =
    filter(&["-tg", "--timestamp-gt"], "timestamp_gt", "Only those after this time, e.g. 2000-01-01T12:00:00.000Z.");
const UNTIL: Filter =
    filter(&["-tl", "--timestamp-lt"], "timestamp_lt", "Only those before this time, e.g. 2000-01-01T12:00:00.000Z.");

const SORT: Arg = Arg::one(&["-s", "--sort"], "Order by start: asc or desc.");

const CONTENT: &[Verb] = &[List, Get, Create, Update, Delete, Verb::Clone];
const SWITCHED: &[Verb] = &[List, Get, Create, Update, Delete, Verb::Clone, Enable, Disable];
const ACTIONS: &[Verb] = &[List, Get, Create, Update, Delete, Enable, Disable];

/// Every resource with commands of its own.
pub const RESOURCES: &[Resource] = &[
    Resource {
        name: "action",
        title: "Action",
        nouns: ["action", "actions"],
        about: "What can be run.",
        path: "/actions",
        columns: &["ref", "pack", "description"],
        order: &[
            "id",
            "uid",
            "ref",
            "pack",
            "name",
            "description",
            "enabled",
            "entry_point",
            "runner_type",
            "parameters",
        ],
        filters: &[PACK],
        verbs: ACTIONS,
        ..BASE
    },
    Resource {
        name: "action-alias",
        title: "Action Alias",
        nouns: ["action alias", "action aliases"],
        about: "Chat commands that run actions.",
        path: "/actionalias",
        columns: &["ref", "pack", "description", "enabled"],
        order: &["id", "ref", "pack", "name", "description", "enabled", "action_ref", "formats"],
        filters: &[PACK],
        verbs: CONTENT,
        ..BASE
    },
    Resource {
        name: "apikey",
        title: "API Key",
        nouns: ["API key", "API keys"],
        about: "Keys that stand for a user.",
        path: "/apikeys",
        id: "key-or-id",
        columns: &["id", "user", "metadata"],
        order: &["id", "user", "metadata"],
        include: false,
        filters: &[
            filter(&["-u", "--user"], "user", "Only those of this user."),
            switch(&["--show-secrets"], "show_secrets", "True", "Show hashes in full."),
        ],
        verbs: &[List, Get, Delete, Verb::Clone, Enable, Disable],
        more: &[Arg::flag(&["-d", "--detail"], "Show every attribute.")],
        ..BASE
    },
    Resource {
        name: "execution",
        title: "Action Execution",
        nouns: ["action execution", "action executions"],
        about: "Runs of actions.",
        path: "/executions",
        id: "id",
        columns: &["id", "action.ref", "context.user", "status", "start_timestamp", "end_timestamp"],
        last: true,
        reversed: true,
        slash: true,
        filters: &[
            filter(&["--action"], "action", "Only runs of this action."),
            filter(&["--status"], "status", "Only those with this status."),
            filter(&["--user"], "user", "Only those of this user."),
            filter(&["--trigger_instance"], "trigger_instance", "Only those caused by this trigger instance."),
            SINCE,
            UNTIL,
        ],
        verbs: &[List],
        more: &[Arg::flag(&["-l", "--showall"], "Also runs within workflows."), SORT],
        ..BASE
    },
    Resource {
        name: "inquiry",
        title: "Inquiry",
        nouns: ["inquiry", "inquiries"],
        about: "Questions that workflows ask people.",
        path: "/inquiries",
        id: "id",
        columns: &["id", "roles", "users", "route", "ttl"],
        order: &["id", "roles", "users", "route", "ttl", "schema"],
        exact: true,
        include: false,
        last: true,
        reversed: true,
        slash: true,
        ..BASE
    },
    Resource {
        name: "key",
        title: "Key Value Pair",
        nouns: ["key value pair", "key value pairs"],
        about: "Values kept for sensors, actions and rules.",
        path: "/keys",
        id: "name",
        columns: &["name", "value", "secret", "encrypted", "scope", "user", "expire_timestamp"],
        order: &["name", "value", "secret", "encrypted", "scope", "expire_timestamp"],
        exact: true,
        include: false,
        last: true,
        slash: true,
        filters: &[
            filter(&["--prefix"], "prefix", "Only keys that begin with this."),
            filter(&["-u", "--user"], "user", "Only those of this user (administrators only)."),
        ],
        verbs: &[List, Verb::Clone],
        more: &[
            Arg::flag(&["-d", "--decrypt"], "Show secrets in clear."),
            Arg::one(&["-s", "--scope"], "system, user or all."),
        ],
        ..BASE
    },
    Resource {
        name: "pack",
        title: "Pack",
        nouns: ["pack", "packs"],
        about: "What is installed: actions, rules, sensors that belong together.",
        path: "/packs",
        id: "ref",
        columns: &["ref", "name", "description", "version", "author"],
        order: &["name", "version", "author", "email", "keywords", "description"],
        exact: true,
        ..BASE
    },
    Resource {
        name: "policy",
        title: "Policy",
        nouns: ["policy", "policies"],
        about: "Limits and retries of actions.",
        path: "/policies",
        columns: &["ref", "resource_ref", "policy_type", "enabled"],
        order: &["id", "ref", "pack", "name", "description", "enabled", "resource_ref", "policy_type", "parameters"],
        slash: true,
        filters: &[
            PACK,
            filter(&["-r", "--resource-ref"], "resource_ref", "Only those of this resource."),
            filter(&["-pt", "--policy-type"], "policy_type", "Only those of this type."),
        ],
        verbs: CONTENT,
        ..BASE
    },
    Resource {
        name: "policy-type",
        title: "Policy type",
        nouns: ["policy type", "policy types"],
        about: "Kinds of policies.",
        path: "/policytypes",
        columns: &["id", "resource_type", "name", "description"],
        order: &["id", "name", "description"],
        include: false,
        slash: true,
        filters: &[filter(&["-r", "--resource-type"], "resource_type", "Only those for this kind of resource.")],
        ..BASE
    },
    Resource {
        name: "rule",
        title: "Rule",
        nouns: ["rule", "rules"],
        about: "What to do when something happens.",
        path: "/rules",
        columns: &["ref", "pack", "description", "enabled"],
        order: &["id", "uid", "ref", "pack", "name", "description", "enabled"],
        last: true,
        slash: true,
        filters: &[
            PACK,
            filter(&["-c", "--action"], "action", "Only rules that run this action."),
            filter(&["-g", "--trigger"], "trigger", "Only rules for this trigger."),
            switch(&["--enabled"], "enabled", "True", "Only enabled ones."),
            switch(&["--disabled"], "enabled", "False", "Only disabled ones."),
        ],
        verbs: SWITCHED,
        exclusive: &["enabled", "disabled"],
        more: &[Arg::flag(&["--iftt"], "Show what is connected to what.")],
        ..BASE
    },
    Resource {
        name: "webhook",
        title: "Webhook",
        nouns: ["webhook", "webhooks"],
        about: "URLs that take events.",
        path: "/webhooks",
        id: "url",
        columns: &["url", "type", "description"],
        order: &["type", "description"],
        filters: &[PACK],
        ..BASE
    },
    Resource {
        name: "timer",
        title: "Timer",
        nouns: ["timer", "timers"],
        about: "Timers that rules wait for.",
        path: "/timers",
        id: "name-or-id",
        columns: &["id", "uid", "pack", "name", "type", "parameters"],
        order: &["type", "pack", "name", "description", "parameters"],
        include: false,
        slash: true,
        filters: &[filter(&["-ty", "--timer-type"], "timer_type", "Only timers of this type.")],
        ..BASE
    },
    Resource {
        name: "runner",
        title: "Runner",
        nouns: ["runner", "runners"],
        about: "What carries actions out.",
        path: "/runnertypes",
        id: "name-or-id",
        columns: &["id", "name", "description"],
        order: &["id", "name", "description"],
        verbs: &[List, Get, Enable, Disable],
        ..BASE
    },
    Resource {
        name: "sensor",
        title: "Sensor",
        nouns: ["sensor", "sensors"],
        about: "What watches the world for events.",
        path: "/sensortypes",
        columns: &["ref", "pack", "description", "enabled"],
        order: &["id", "uid", "ref", "pack", "name", "enabled", "entry_point", "artifact_uri", "trigger_types"],
        filters: &[PACK],
        verbs: &[List, Get, Enable, Disable],
        ..BASE
    },
    Resource {
        name: "trace",
        title: "Trace",
        nouns: ["trace", "traces"],
        about: "Executions, rules and trigger instances that belong together.",
        path: "/traces",
        id: "id",
        columns: &["id", "uid", "trace_tag", "start_timestamp"],
        include: false,
        last: true,
        slash: true,
        filters: &[
            filter(&["-c", "--trace-tag"], "trace_tag", "Only those with this tag."),
            filter(&["-e", "--execution"], "execution", "Only those with this execution."),
            filter(&["-r", "--rule"], "rule", "Only those with this rule."),
            filter(&["-g", "--trigger-instance"], "trigger_instance", "Only those with this trigger instance."),
        ],
        verbs: &[List],
        exclusive: &["trace-tag", "execution", "rule", "trigger-instance"],
        more: &[SORT],
        ..BASE
    },
    Resource {
        name: "trigger",
        title: "Trigger",
        nouns: ["trigger", "triggers"],
        about: "Kinds of events.",
        path: "/triggertypes",
        columns: &["ref", "pack", "description"],
        order: &["id", "ref", "pack", "name", "description", "parameters_schema", "payload_schema"],
        filters: &[PACK],
        verbs: CONTENT,
        ..BASE
    },
    Resource {
        name: "trigger-instance",
        title: "Trigger Instance",
        nouns: ["triggerinstance", "triggerinstances"],
        about: "Events that happened.",
        path: "/triggerinstances",
        id: "id",
        columns: &["id", "trigger", "occurrence_time", "status"],
        order: &["id", "trigger", "occurrence_time", "payload"],
        last: true,
        reversed: true,
        slash: true,
        filters: &[
            filter(&["--trigger"], "trigger", "Only those of this trigger."),
            SINCE,
            UNTIL,
            filter(&["--status"], "status", "Only those with this status."),
        ],
        ..BASE
    },
    Resource {
        name: "rule-enforcement",
        title: "Rule Enforcement",
        nouns: ["rule enforcement", "rule enforcements"],
        about: "What rules did about events.",
        path: "/ruleenforcements",
        id: "id",
        columns: &["id", "rule.ref", "trigger_instance_id", "execution_id", "enforced_at"],
        order: &["id", "rule.ref", "trigger_instance_id", "execution_id", "failure_reason", "enforced_at"],
        exact: true,
        include: false,
        last: true,
        slash: true,
        verbs: CONTENT,
        filters: &[
            filter(&["--trigger-instance"], "trigger_instance", "Only those for this trigger instance."),
            filter(&["--execution"], "execution", "Only the one that caused this execution."),
            filter(&["--rule"], "rule_ref", "Only those of this rule."),
            SINCE,
            UNTIL,
        ],
        ..BASE
    },
    Resource {
        name: "role",
        title: "Role",
        nouns: ["role", "roles"],
        about: "What users may do.",
        path: "/rbac/roles",
        id: "id",
        columns: &["id", "name", "system", "description"],
        order: &["id", "name", "system", "permission_grants", "description"],
        include: false,
        slash: true,
        filters: &[switch(&["-s", "--system"], "system", "True", "Only roles that come with the system.")],
        ..BASE
    },
    Resource {
        name: "role-assignment",
        title: "Role Assignment",
        nouns: ["role assignment", "role assignments"],
        about: "Who has which role.",
        path: "/rbac/role_assignments",
        id: "id",
        columns: &["id", "role", "user", "is_remote", "source", "description"],
        order: &["id", "role", "user", "is_remote", "description"],
        include: false,
        slash: true,
        filters: &[
            filter(&["-r", "--role"], "role", "Only those of this role."),
            filter(&["-u", "--user"], "user", "Only those of this user."),
            filter(&["-s", "--source"], "source", "Only those from this source."),
            switch(&["--remote"], "remote", "True", "Only those made from a group of a directory service."),
        ],
        ..BASE
    },
];

/// The resource of a command's word.
pub fn find(name: &str) -> Option<&'static Resource> {
    RESOURCES.iter().find(|resource| resource.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_complete_and_their_options_differ() {
        for resource in RESOURCES {
            assert!(!resource.title.is_empty() && !resource.columns.is_empty(), "{}", resource.name);
            let mut names: Vec<_> = resource.filters.iter().flat_map(|filter| filter.arg.names).collect();
            let count = names.len();
            names.sort();
            names.dedup();
            assert_eq!(names.len(), count, "{}", resource.name);
        }
        assert!(find("rule").is_some() && find("nope").is_none());
    }
}
