//! What a route is for, takes and answers: all that its row in the table doesn't say.

use crate::api::{
    actions, aliases, apikeys, configs, executions, keys, packs, policies, rule_enforcements, rules, runner_types,
    simple, traces, trigger_instances, triggers,
};
use crate::auth::tokens;
use crate::http::list::ListSpec;
use crate::http::route::Route;
use crate::http::shape::Shape;

/// Type of a parameter of the query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Text,
    Integer,
    Flag,
    List,
}

#[derive(Debug, Clone, Copy)]
pub enum Body {
    None,
    Shape(&'static Shape),
    /// An object that is checked by a resource's own schema.
    Object,
    Any,
    Text,
}

/// What a success holds.
#[derive(Debug, Clone, Copy)]
pub enum Answer {
    /// A component.
    One(&'static str),
    Many(&'static str),
    Object,
    Array,
    Json,
    /// Of any type: files, output.
    Text,
    Events,
    Nothing,
}

/// A route's description.
#[derive(Debug, Clone, Copy)]
pub struct Doc {
    pub summary: &'static str,
    pub query: &'static [(&'static str, Kind)],
    pub list: Option<&'static ListSpec>,
    pub body: Body,
    pub status: u16,
    pub answer: Answer,
}

const fn shows(summary: &'static str, answer: Answer) -> Doc {
    Doc { summary, query: &[], list: None, body: Body::None, status: 200, answer }
}

const fn one(summary: &'static str, name: &'static str) -> Doc {
    shows(summary, Answer::One(name))
}

const fn lists(summary: &'static str, list: &'static ListSpec, name: &'static str) -> Doc {
    Doc { list: Some(list), ..shows(summary, Answer::Many(name)) }
}

const fn gone(summary: &'static str) -> Doc {
    Doc { status: 204, ..shows(summary, Answer::Nothing) }
}

impl Doc {
    const fn body(mut self, body: Body) -> Self {
        self.body = body;
        self
    }

    const fn shape(self, shape: &'static Shape) -> Self {
        self.body(Body::Shape(shape))
    }

    const fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    const fn query(mut self, query: &'static [(&'static str, Kind)]) -> Self {
        self.query = query;
        self
    }
}

const SECRETS: &[(&str, Kind)] = &[("show_secrets", Kind::Flag)];
const PAGE: &[(&str, Kind)] = &[("limit", Kind::Integer), ("offset", Kind::Integer)];
const KEY: &[(&str, Kind)] = &[("scope", Kind::Text), ("user", Kind::Text), ("decrypt", Kind::Flag)];
const KEYS: &[(&str, Kind)] = &[
    ("scope", Kind::Text),
    ("user", Kind::Text),
    ("decrypt", Kind::Flag),
    ("prefix", Kind::Text),
    ("name", Kind::Text),
    ("limit", Kind::Integer),
    ("offset", Kind::Integer),
];
const EXECUTION: &[(&str, Kind)] = &[
    ("include_attributes", Kind::List),
    ("exclude_attributes", Kind::List),
    ("show_secrets", Kind::Flag),
    ("max_result_size", Kind::Integer),
];
const RESULT: &[(&str, Kind)] = &[("download", Kind::Flag), ("compress", Kind::Flag), ("pretty_format", Kind::Flag)];
const TRACES: &[(&str, Kind)] = &[
    ("trace_tag", Kind::Text),
    ("execution", Kind::Text),
    ("rule", Kind::Text),
    ("trigger_instance", Kind::Text),
    ("sort_asc", Kind::Text),
    ("sort_desc", Kind::Text),
];
const CALLBACK: &[(&str, Kind)] = &[("state", Kind::Text), ("code", Kind::Text), ("error", Kind::Text)];
const STREAM: &[(&str, Kind)] = &[
    ("events", Kind::List),
    ("action_refs", Kind::List),
    ("execution_ids", Kind::List),
    ("end_event", Kind::Text),
    ("end_execution_id", Kind::Text),
    ("ids", Kind::Flag),
    ("last_event_id", Kind::Text),
];

/// The description of a route; a plain one of those that aren't listed.
pub fn doc(route: &Route) -> Doc {
    let method = route.method.as_str();
    content(method, route.pattern)
        .or_else(|| events(method, route.pattern))
        .or_else(|| work(method, route.pattern))
        .or_else(|| access(method, route.pattern))
        .unwrap_or_else(|| plain(method))
}

const fn plain(method: &str) -> Doc {
    match method.as_bytes() {
        b"GET" => shows("Shows it.", Answer::Json),
        b"DELETE" => gone("Deletes it."),
        _ => shows("Does it.", Answer::Json).body(Body::Any),
    }
}

fn content(method: &str, pattern: &str) -> Option<Doc> {
    Some(match (method, pattern) {
        ("GET", "/actions") => lists("Actions.", &actions::SPEC, "Action").query(&[("tags", Kind::Text)]),
        ("POST", "/actions") => one("Makes an action.", "Action").status(201).body(Body::Object),
        ("GET", "/actions/{ref}") => one("An action, by ref or id.", "Action"),
        ("PUT", "/actions/{ref}") => one("Replaces an action.", "Action").body(Body::Object),
        ("DELETE", "/actions/{ref}") => gone("Deletes an action.").shape(&actions::change::DELETE),
        ("POST", "/actions/{ref}/clone") => one("Copies an action.", "Action").status(201).shape(&actions::clone::BODY),
        ("GET", "/actions/views/overview") => {
            lists("Actions with the parameters of their runners.", &actions::SPEC, "Action")
        }
        ("GET", "/actions/views/overview/{ref}") => one("An action with the parameters of its runner.", "Action"),
        ("GET", "/actions/views/parameters/{ref}") => {
            shows("The parameters of an action and its runner.", Answer::Object)
        }
        ("GET", "/actions/views/entry_point/{ref}") => shows("The script of an action.", Answer::Text),
        ("GET", "/packs") => lists("Packs.", &packs::SPEC, "Pack"),
        ("GET", "/packs/{ref}") => one("A pack.", "Pack"),
        ("GET", "/packs/views/files/{ref}") => shows("The files of a pack.", Answer::Array),
        ("GET", "/packs/views/file/{ref}/{path...}") => shows("A file of a pack.", Answer::Text),
        ("POST", "/packs/register") => {
            shows("Registers what packs hold.", Answer::Object).shape(&packs::register::BODY)
        }
        ("POST", "/packs/install") => {
            shows("Installs packs.", Answer::Object).status(202).shape(&packs::install::INSTALL)
        }
        ("POST", "/packs/uninstall") => {
            shows("Removes packs.", Answer::Object).status(202).shape(&packs::install::UNINSTALL)
        }
        ("GET", "/packs/index") => shows("What the indexes of packs know.", Answer::Object),
        ("POST", "/packs/index/search") => shows("Packs of the indexes.", Answer::Json).shape(&packs::index::SEARCH),
        ("GET", "/packs/index/health") => shows("Whether the indexes of packs answer.", Answer::Object),
        ("GET", "/packs/{ref}/nodes") => shows("Which nodes have the pack in force.", Answer::Object),
        ("GET", "/runnertypes") => lists("Runners.", &runner_types::SPEC, "RunnerType"),
        ("GET", "/runnertypes/{name}") => one("A runner.", "RunnerType"),
        ("PUT", "/runnertypes/{name}") => one("Switches a runner on or off.", "RunnerType").shape(&runner_types::BODY),
        ("GET", "/sensortypes") => lists("Sensors.", &simple::SENSORS, "SensorType"),
        ("GET", "/sensortypes/{ref}") => one("A sensor.", "SensorType"),
        ("GET", "/sensortypes/{ref}/state") => shows("How a sensor is: state, node, last error.", Answer::Object),
        ("GET", "/sensor_states") => shows("How all sensors are.", Answer::Array),
        ("PUT", "/sensortypes/{ref}") => one("Switches a sensor on or off.", "SensorType").shape(&simple::SENSOR_BODY),
        ("GET", "/configs") => lists("Configurations of packs.", &configs::CONFIGS, "Config"),
        ("GET", "/configs/{pack}") => one("A pack's configuration.", "Config").query(SECRETS),
        ("PUT", "/configs/{pack}") => {
            one("Replaces a pack's configuration.", "Config").query(SECRETS).body(Body::Object)
        }
        ("GET", "/config_schemas") => lists("Schemas of configurations.", &configs::SCHEMAS, "ConfigSchema"),
        ("GET", "/config_schemas/{pack}") => one("The schema of a pack's configuration.", "ConfigSchema"),
        ("GET", "/policytypes") => shows("Kinds of policies.", Answer::Array).query(PAGE),
        ("GET", "/policytypes/{ref}") => shows("A kind of policies.", Answer::Object),
        ("GET", "/policies") => lists("Policies.", &policies::SPEC, "Policy"),
        ("POST", "/policies") => one("Makes a policy.", "Policy").status(201).body(Body::Object),
        ("GET", "/policies/{ref}") => one("A policy.", "Policy"),
        ("PUT", "/policies/{ref}") => one("Replaces a policy.", "Policy").body(Body::Object),
        ("DELETE", "/policies/{ref}") => gone("Deletes a policy."),
        _ => return None,
    })
}

fn events(method: &str, pattern: &str) -> Option<Doc> {
    Some(match (method, pattern) {
        ("GET", "/rules") => lists("Rules.", &rules::SPEC, "Rule").query(SECRETS),
        ("POST", "/rules") => one("Makes a rule.", "Rule").status(201).body(Body::Object),
        ("GET", "/rules/{ref}") => one("A rule, by ref or id.", "Rule").query(SECRETS),
        ("PUT", "/rules/{id}") => one("Replaces a rule, by id.", "Rule").body(Body::Object),
        ("DELETE", "/rules/{ref}") => gone("Deletes a rule."),
        ("GET", "/rules/views") => lists("Rules with descriptions of their parts.", &rules::SPEC, "Rule"),
        ("GET", "/rules/views/{ref}") => one("A rule with descriptions of its parts.", "Rule"),
        ("GET", "/ruletypes") => shows("Kinds of rules.", Answer::Array),
        ("GET", "/ruletypes/{id}") => shows("A kind of rules.", Answer::Object),
        ("GET", "/ruleenforcements") => lists("What rules did.", &rule_enforcements::SPEC, "RuleEnforcement"),
        ("GET", "/ruleenforcements/views") => {
            lists("What rules did, with what came of it.", &rule_enforcements::SPEC, "RuleEnforcement")
        }
        ("GET", "/ruleenforcements/{id}" | "/ruleenforcements/views/{id}") => {
            one("What a rule did once.", "RuleEnforcement")
        }
        ("GET", "/triggertypes") => lists("Kinds of triggers.", &triggers::TYPES, "TriggerType"),
        ("POST", "/triggertypes") => one("Makes a kind of triggers.", "TriggerType").status(201).body(Body::Object),
        ("GET", "/triggertypes/{ref}") => one("A kind of triggers.", "TriggerType"),
        ("PUT", "/triggertypes/{ref}") => one("Replaces a kind of triggers.", "TriggerType").body(Body::Object),
        ("DELETE", "/triggertypes/{ref}") => gone("Deletes a kind of triggers."),
        ("GET", "/triggers") => shows("Triggers, all of them.", Answer::Many("Resource")),
        ("POST", "/triggers") => one("Makes a trigger.", "Resource").status(201).shape(&triggers::BODY),
        ("GET", "/triggers/{id}") => one("A trigger.", "Resource"),
        ("PUT", "/triggers/{id}") => one("Replaces a trigger.", "Resource").shape(&triggers::BODY),
        ("DELETE", "/triggers/{id}") => gone("Deletes a trigger."),
        ("GET", "/traces") => lists("What followed from events and requests.", &traces::SPEC, "Trace").query(TRACES),
        ("GET", "/traces/{id}") => one("What followed from an event or a request.", "Trace"),
        ("GET", "/triggerinstances") => lists("Events.", &trigger_instances::SPEC, "TriggerInstance"),
        ("GET", "/triggerinstances/{id}") => one("An event.", "TriggerInstance"),
        ("POST", "/triggerinstances/{id}/re_emit") => shows("Sends an event again.", Answer::Object).body(Body::Object),
        ("GET", "/timers") => shows("Timers.", Answer::Many("Resource")).query(&[("timer_type", Kind::Text)]),
        ("GET", "/timers/{ref}") => one("A timer.", "Resource"),
        ("GET", "/webhooks") => shows("Webhooks.", Answer::Many("Resource")),
        ("GET", "/webhooks/{url}") => one("A webhook.", "Resource"),
        ("POST", "/webhooks/{hook...}") => shows("Fires a webhook.", Answer::Json).status(202).body(Body::Any),
        _ => return None,
    })
}

fn work(method: &str, pattern: &str) -> Option<Doc> {
    use executions::change;
    Some(match (method, pattern) {
        ("GET", "/executions") => lists("Executions.", &executions::read::SPEC, "Execution").query(&[
            ("show_secrets", Kind::Flag),
            ("sort_asc", Kind::Text),
            ("sort_desc", Kind::Text),
        ]),
        ("POST", "/executions") => {
            one("Runs an action.", "Execution").status(201).shape(&change::REQUEST).query(SECRETS)
        }
        ("GET", "/executions/views/filters") => {
            shows("What lists can be filtered by.", Answer::Object).query(&[("types", Kind::List)])
        }
        ("GET", "/executions/{id}") => one("An execution; `last` is the newest.", "Execution").query(EXECUTION),
        ("PUT", "/executions/{id}") => {
            one("Pauses, resumes or cancels.", "Execution").shape(&change::CHANGE).query(SECRETS)
        }
        ("DELETE", "/executions/{id}") => one("Cancels.", "Execution").query(SECRETS),
        ("GET", "/executions/{id}/output") => {
            shows("What it printed so far.", Answer::Text).query(&[("output_type", Kind::Text)])
        }
        ("GET", "/executions/{id}/result") => shows("Its result, as it is.", Answer::Text).query(RESULT),
        ("GET", "/executions/{id}/attribute/{attribute}") => {
            shows("Its result, status or trigger instance, as it is.", Answer::Json)
        }
        ("GET", "/executions/{id}/children") => shows("What it ran.", Answer::Many("Execution"))
            .query(&[("depth", Kind::Integer), ("result_fmt", Kind::Text)]),
        ("GET", "/executions/{id}/workflow") => shows("A workflow's graph, and what ran when.", Answer::Object),
        ("POST", "/executions/{id}/re_run") => {
            one("Runs it again.", "Execution").status(201).shape(&change::RERUN).query(SECRETS)
        }
        ("GET", "/actionalias") => lists("Chat commands.", &aliases::SPEC, "ActionAlias"),
        ("POST", "/actionalias") => one("Makes a chat command.", "ActionAlias").status(201).body(Body::Object),
        ("GET", "/actionalias/{ref}") => one("A chat command.", "ActionAlias"),
        ("PUT", "/actionalias/{id}") => one("Replaces a chat command, by id.", "ActionAlias").body(Body::Object),
        ("DELETE", "/actionalias/{ref}") => gone("Deletes a chat command."),
        ("POST", "/actionalias/match") => {
            shows("Finds the alias that a command means.", Answer::Object).shape(&aliases::execute::COMMAND)
        }
        ("GET", "/actionalias/help") => shows("Commands, with descriptions.", Answer::Object).query(&[
            ("pack", Kind::Text),
            ("filter", Kind::Text),
            ("limit", Kind::Integer),
            ("offset", Kind::Integer),
        ]),
        ("POST", "/aliasexecution") => {
            shows("Runs a command of an alias.", Answer::Object).status(201).shape(&aliases::execute::EXECUTE)
        }
        ("POST", "/aliasexecution/match_and_execute") => {
            shows("Runs a command.", Answer::Object).status(201).shape(&aliases::execute::MATCH_AND_EXECUTE)
        }
        ("GET", "/keys") => shows("Keys of the datastore.", Answer::Many("KeyValuePair")).query(KEYS),
        ("GET", "/keys/{name}") => one("A key.", "KeyValuePair").query(KEY),
        ("PUT", "/keys/{name}") => one("Sets a key.", "KeyValuePair").shape(&keys::SET),
        ("DELETE", "/keys/{name}") => gone("Deletes a key.").query(KEY),
        ("POST", "/workflows/inspect") => shows("Looks for mistakes in a workflow.", Answer::Array).body(Body::Text),
        ("GET", "/inquiries") => shows("Questions that wait for an answer.", Answer::Array).query(PAGE),
        ("GET", "/inquiries/{id}") => shows("A question.", Answer::Object),
        ("PUT", "/inquiries/{id}") => shows("Answers a question.", Answer::Object).body(Body::Object),
        _ => return None,
    })
}

fn access(method: &str, pattern: &str) -> Option<Doc> {
    Some(match (method, pattern) {
        ("GET", "/") => shows("The version.", Answer::Object),
        ("GET", "/user") => shows("Who the caller is.", Answer::Object),
        ("GET", "/openapi.json") => shows("This description.", Answer::Object),
        ("GET", "/apikeys") => lists("API keys.", &apikeys::SPEC, "ApiKey").query(SECRETS),
        ("POST", "/apikeys") => one("Makes an API key.", "ApiKey").status(201).shape(&apikeys::BODY),
        ("GET", "/apikeys/{id}") => one("An API key.", "ApiKey").query(SECRETS),
        ("PUT", "/apikeys/{id}") => one("Changes an API key.", "ApiKey").shape(&apikeys::BODY),
        ("DELETE", "/apikeys/{id}") => gone("Deletes an API key."),
        ("POST", "/tokens") => one("Logs in.", "Token").status(201).shape(&tokens::TOKEN_REQUEST),
        ("POST", "/tokens/validate") => shows("Whether a token is valid.", Answer::Object).shape(&tokens::VALIDATE),
        ("GET", "/sso") => shows("Whether there is single sign-on.", Answer::Object),
        ("GET", "/sso/request") => shows("Sends a browser to the identity provider.", Answer::Nothing).status(307),
        ("GET", "/sso/callback") => shows("Where browsers come back to.", Answer::Text).query(CALLBACK),
        ("POST", "/sso/callback") => shows("Where browsers come back to.", Answer::Text).body(Body::Text),
        ("GET", "/stream") => shows("Events, as they happen.", Answer::Events).query(STREAM),
        ("GET", "/executions/{id}/output") => shows("Output, as it comes.", Answer::Events),
        ("GET", "/rbac/permission_types") => shows("All permissions.", Answer::Object),
        ("GET", "/rbac/permission_types/{type}") => shows("Permissions on a kind of resources.", Answer::Object),
        ("GET", "/rbac/roles") => shows("Roles.", Answer::Array).query(&[("system", Kind::Flag)]),
        ("GET", "/rbac/roles/{name}") => shows("A role.", Answer::Object),
        ("GET", "/rbac/role_assignments") => shows("Who has which role.", Answer::Array).query(&[
            ("user", Kind::Text),
            ("role", Kind::Text),
            ("source", Kind::Text),
            ("remote", Kind::Flag),
        ]),
        ("GET", "/rbac/role_assignments/{id}") => shows("An assignment of a role.", Answer::Object),
        ("PUT", "/rbac/definitions") => shows("Makes roles as files define them.", Answer::Object).body(Body::Object),
        ("GET", "/service_registry/groups") => shows("Services.", Answer::Object),
        ("GET", "/service_registry/groups/{id}/members") => shows("Nodes that do a service.", Answer::Object),
        ("GET", "/cluster/status") => shows("The group of nodes.", Answer::Object),
        ("DELETE", "/cluster/members/{name}") => gone("Removes a node."),
        ("POST", "/cluster/transfer") => shows("Makes another node the leader.", Answer::Object).body(Body::Object),
        _ => return None,
    })
}
