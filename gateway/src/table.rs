//! All endpoints (spec/api.md §6). Literal paths stand before those with parameters.

use http::Method;

use crate::api::{
    actions, aliases, apikeys, cluster, configs, executions, inquiries, keys, packs, policies, rbac, root,
    rule_enforcements, rules, runner_types, service_registry, simple, traces, trigger_instances, triggers, webhooks,
    workflows,
};
use crate::auth::{sso, tokens};
use crate::http::route::Route;
use crate::openapi;
use crate::routes;
use crate::stream::{events, output};

/// The rows: service, method, path, what the caller needs, handler.
pub fn routes() -> Vec<Route> {
    let mut all = routes! {
        Auth POST "/tokens" [Open] tokens::create;
        Auth POST "/tokens/validate" [Login] tokens::validate;
        Auth GET "/sso" [Open] sso::enabled;
        Auth GET "/sso/request" [Open] sso::request;
        Auth GET "/sso/callback" [Open] sso::callback;
        Auth POST "/sso/callback" [Open] sso::callback;

        Stream GET "/stream" [Permission("stream_view")] events::follow;
        Stream GET "/executions/{id}/output" [Permission("stream_view")] output::follow;

        Api GET "/" [Login] root::version;
        Api GET "/user" [Login] root::user;
        Api GET "/openapi.json" [Open] openapi::get;
    };
    all.extend(content());
    all.extend(events_and_rules());
    all.extend(work());
    all.extend(routes! {
        Api GET "/rbac/permission_types" [Admin] rbac::permission_types;
        Api GET "/rbac/permission_types/{type}" [Admin] rbac::permission_types_of;
        Api GET "/rbac/roles" [Admin] rbac::roles;
        Api GET "/rbac/roles/{name}" [Admin] rbac::role;
        Api GET "/rbac/role_assignments" [Login] rbac::assignments;
        Api GET "/rbac/role_assignments/{id}" [Login] rbac::assignment;
        Api PUT "/rbac/definitions" [Admin] rbac::apply;

        Api GET "/service_registry/groups" [Admin] service_registry::groups;
        Api GET "/service_registry/groups/{id}/members" [Admin] service_registry::members;

        Api GET "/cluster/status" [Login] cluster::status;
        Api DELETE "/cluster/members/{name}" [Admin] cluster::remove;
        Api POST "/cluster/transfer" [Admin] cluster::transfer;
    });
    all
}

/// What the token of an action or a sensor is refused, whoever the user is: making credentials that outlast it, and
/// changing who may do what or who belongs to the cluster.
const FOR_PEOPLE: [(Method, &str); 6] = [
    (Method::POST, "/apikeys"),
    (Method::PUT, "/apikeys/{id}"),
    (Method::DELETE, "/apikeys/{id}"),
    (Method::PUT, "/rbac/definitions"),
    (Method::DELETE, "/cluster/members/{name}"),
    (Method::POST, "/cluster/transfer"),
];

/// Whether the row is for people and services with credentials of their own alone.
pub fn is_for_people(route: &Route) -> bool {
    FOR_PEOPLE.iter().any(|(method, pattern)| *method == route.method && *pattern == route.pattern)
}

/// What packs bring.
fn content() -> Vec<Route> {
    routes! {
        Api GET "/actions" [Permission("action_list")] actions::list;
        Api GET "/actions/views/overview" [Permission("action_list")] actions::overviews;
        Api GET "/actions/views/overview/{ref}" [Permission("action_view")] actions::overview;
        Api GET "/actions/views/parameters/{ref}" [Permission("action_view")] actions::parameters;
        Api GET "/actions/views/entry_point/{ref}" [Permission("action_view")] actions::entry_point;
        Api GET "/actions/{ref}" [Permission("action_view")] actions::get;
        Api POST "/actions" [Checked("action_create")] actions::change::create;
        Api PUT "/actions/{ref}" [Permission("action_modify")] actions::change::update;
        Api DELETE "/actions/{ref}" [Permission("action_delete")] actions::change::delete;
        Api POST "/actions/{ref}/clone" [Checked("action_create")] actions::clone::clone;

        Api GET "/packs" [Permission("pack_list")] packs::list;
        Api GET "/packs/index" [Permission("pack_search")] packs::index::all;
        Api POST "/packs/index/search" [Permission("pack_search")] packs::index::search;
        Api GET "/packs/index/health" [Permission("pack_views_index_health")] packs::index::health;
        Api GET "/packs/{ref}/nodes" [Permission("pack_view")] packs::nodes::nodes;
        Api GET "/packs/views/files/{ref}" [Permission("pack_view")] packs::files::all;
        Api GET "/packs/views/file/{ref}/{path...}" [Permission("pack_view")] packs::files::one;
        Api POST "/packs/register" [Permission("pack_register")] packs::register::register;
        Api POST "/packs/install" [Permission("pack_install")] packs::install::install;
        Api POST "/packs/uninstall" [Permission("pack_uninstall")] packs::install::uninstall;
        Api GET "/packs/{ref}" [Permission("pack_view")] packs::get;

        Api GET "/runnertypes" [Permission("runner_type_list")] runner_types::list;
        Api GET "/runnertypes/{name}" [Permission("runner_type_view")] runner_types::get;
        Api PUT "/runnertypes/{name}" [Permission("runner_type_modify")] runner_types::update;

        Api GET "/actionalias" [Permission("action_alias_list")] aliases::list;
        Api POST "/actionalias" [Checked("action_alias_create")] aliases::create;
        Api POST "/actionalias/match" [Permission("action_alias_match")] aliases::execute::find;
        Api GET "/actionalias/help" [Permission("action_alias_help")] aliases::execute::help;
        Api GET "/actionalias/{ref}" [Permission("action_alias_view")] aliases::get;
        Api PUT "/actionalias/{id}" [Permission("action_alias_modify")] aliases::update;
        Api DELETE "/actionalias/{ref}" [Permission("action_alias_delete")] aliases::delete;
        Api GET "/sensortypes" [Permission("sensor_type_list")] simple::sensors;
        Api GET "/sensortypes/{ref}" [Permission("sensor_type_view")] simple::sensor;
        Api GET "/sensortypes/{ref}/state" [Permission("sensor_type_view")] simple::sensor_state;
        Api GET "/sensor_states" [Permission("sensor_type_list")] simple::sensor_states;
        Api PUT "/sensortypes/{ref}" [Permission("sensor_type_modify")] simple::update_sensor;
        Api GET "/timers" [Permission("timer_list")] simple::timers;
        Api GET "/timers/{ref}" [Permission("timer_view")] simple::timer;
        Api GET "/configs" [Permission("pack_list")] configs::list;
        Api GET "/configs/{pack}" [Permission("pack_view")] configs::get;
        Api PUT "/configs/{pack}" [Permission("pack_config")] configs::replace;
        Api GET "/config_schemas" [Permission("pack_list")] configs::schemas;
        Api GET "/config_schemas/{pack}" [Permission("pack_view")] configs::schema;

        Api GET "/policytypes" [Permission("policy_type_list")] policies::list_types;
        Api GET "/policytypes/{ref}" [Permission("policy_type_view")] policies::get_type;
        Api GET "/policies" [Permission("policy_list")] policies::list;
        Api GET "/policies/{ref}" [Permission("policy_view")] policies::get;
        Api POST "/policies" [Permission("policy_create")] policies::create;
        Api PUT "/policies/{ref}" [Permission("policy_modify")] policies::update;
        Api DELETE "/policies/{ref}" [Permission("policy_delete")] policies::delete;
    }
}

/// From events to rules.
fn events_and_rules() -> Vec<Route> {
    routes! {
        Api GET "/rules" [Permission("rule_list")] rules::list;
        Api POST "/rules" [Checked("rule_create")] rules::create;
        Api GET "/rules/views" [Permission("rule_list")] rules::views;
        Api GET "/rules/views/{ref}" [Permission("rule_view")] rules::view_one;
        Api GET "/rules/{ref}" [Permission("rule_view")] rules::get;
        Api PUT "/rules/{id}" [Permission("rule_modify")] rules::update;
        Api DELETE "/rules/{ref}" [Permission("rule_delete")] rules::delete;
        Api GET "/ruletypes" [Login] rules::types;
        Api GET "/ruletypes/{id}" [Login] rules::one_type;

        Api GET "/ruleenforcements" [Permission("rule_enforcement_list")] rule_enforcements::list;
        Api GET "/ruleenforcements/views" [Permission("rule_enforcement_list")] rule_enforcements::views;
        Api GET "/ruleenforcements/views/{id}" [Permission("rule_enforcement_view")] rule_enforcements::view_one;
        Api GET "/ruleenforcements/{id}" [Permission("rule_enforcement_view")] rule_enforcements::get;

        Api GET "/triggertypes" [Login] triggers::list_types;
        Api POST "/triggertypes" [Admin] triggers::create_type;
        Api GET "/triggertypes/{ref}" [Login] triggers::get_type;
        Api PUT "/triggertypes/{ref}" [Admin] triggers::update_type;
        Api DELETE "/triggertypes/{ref}" [Admin] triggers::delete_type;
        Api GET "/triggers" [Login] triggers::list;
        Api POST "/triggers" [Admin] triggers::create;
        Api GET "/triggers/{id}" [Login] triggers::get;
        Api PUT "/triggers/{id}" [Admin] triggers::update;
        Api DELETE "/triggers/{id}" [Admin] triggers::delete;

        Api GET "/triggerinstances" [Login] trigger_instances::list;
        Api GET "/triggerinstances/{id}" [Login] trigger_instances::get;
        Api POST "/triggerinstances/{id}/re_emit" [Admin] trigger_instances::re_emit;

        Api GET "/webhooks" [Permission("webhook_list")] webhooks::list;
        Api GET "/webhooks/{url}" [Permission("webhook_view")] webhooks::get;
        Api POST "/webhooks/{hook...}" [Permission("webhook_send")] webhooks::post;
    }
}

/// Executions, and what they use.
fn work() -> Vec<Route> {
    routes! {
        Api GET "/executions" [Permission("execution_list")] executions::read::list;
        Api POST "/executions" [Checked("action_execute")] executions::change::create;
        Api GET "/executions/views/filters" [Permission("execution_views_filters_list")] executions::read::filters;
        Api GET "/executions/{id}" [Permission("execution_view")] executions::read::get;
        Api PUT "/executions/{id}" [Permission("execution_stop")] executions::change::update;
        Api DELETE "/executions/{id}" [Permission("execution_stop")] executions::change::cancel;
        Api GET "/executions/{id}/output" [Permission("execution_view")] executions::result::output;
        Api GET "/executions/{id}/result" [Permission("execution_view")] executions::result::result;
        Api GET "/executions/{id}/attribute/{attribute}" [Permission("execution_view")] executions::read::attribute;
        Api GET "/executions/{id}/children" [Permission("execution_view")] executions::read::children;
        Api GET "/executions/{id}/workflow" [Permission("execution_view")] workflows::picture;
        Api POST "/executions/{id}/re_run" [Permission("execution_view")] executions::change::rerun;

        Api GET "/traces" [Permission("trace_list")] traces::list;
        Api GET "/traces/{id}" [Permission("trace_view")] traces::get;

        Api POST "/aliasexecution" [Checked("action_execute")] aliases::execute::execute;
        Api POST "/aliasexecution/match_and_execute" [Checked("action_execute")] aliases::execute::match_and_execute;

        Api POST "/workflows/inspect" [Login] workflows::inspect;

        Api GET "/inquiries" [Permission("inquiry_list")] inquiries::list;
        Api GET "/inquiries/{id}" [Permission("inquiry_view")] inquiries::get;
        Api PUT "/inquiries/{id}" [Permission("inquiry_respond")] inquiries::respond;

        Api GET "/keys" [Checked("key_value_pair_list")] keys::list;
        Api GET "/keys/{name}" [Checked("key_value_pair_view")] keys::get;
        Api PUT "/keys/{name}" [Checked("key_value_pair_set")] keys::set;
        Api DELETE "/keys/{name}" [Checked("key_value_pair_delete")] keys::delete;

        Api GET "/apikeys" [Permission("api_key_list")] apikeys::list;
        Api POST "/apikeys" [Permission("api_key_create")] apikeys::create;
        Api GET "/apikeys/{id}" [Permission("api_key_view")] apikeys::get;
        Api PUT "/apikeys/{id}" [Permission("api_key_modify")] apikeys::update;
        Api DELETE "/apikeys/{id}" [Permission("api_key_delete")] apikeys::delete;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use auth::rbac::permissions::{is_global, kind_of};

    use super::*;
    use crate::auth::guard::IN_PATHS;
    use crate::http::route::Need;

    /// What everybody gets who isn't even logged in.
    const OPEN: [&str; 6] = [
        "POST /tokens",
        "GET /sso",
        "GET /sso/request",
        "GET /sso/callback",
        "POST /sso/callback",
        "GET /openapi.json",
    ];

    /// What everybody gets who is logged in: what has no permission (spec/auth-rbac.md §9), and one's own.
    const LOGIN: [&str; 15] = [
        "POST /workflows/inspect",
        "POST /tokens/validate",
        "GET /",
        "GET /user",
        "GET /ruletypes",
        "GET /ruletypes/{id}",
        "GET /triggertypes",
        "GET /triggertypes/{ref}",
        "GET /triggers",
        "GET /triggers/{id}",
        "GET /triggerinstances",
        "GET /triggerinstances/{id}",
        "GET /rbac/role_assignments",
        "GET /rbac/role_assignments/{id}",
        "GET /cluster/status",
    ];

    #[test]
    fn every_route_is_guarded() {
        let mut unguarded = BTreeSet::new();
        for route in routes() {
            let shown = format!("{} {}", route.method, route.pattern);
            match route.need {
                Need::Open => assert!(OPEN.contains(&shown.as_str()), "{shown} is open to everybody"),
                Need::Login if LOGIN.contains(&shown.as_str()) => {}
                Need::Login => drop(unguarded.insert(shown)),
                Need::Admin => {}
                Need::Checked(permission) => assert!(kind_of(permission).is_some(), "{shown}: {permission}"),
                Need::Permission(permission) => {
                    let kind = kind_of(permission).unwrap_or_else(|| panic!("{shown}: there is no {permission}"));
                    let is_found = route.pattern.contains('{') && IN_PATHS.contains(&kind.name);
                    assert!(is_global(permission) || is_found, "{shown}: nothing names the resource of {permission}");
                }
            }
        }
        assert!(unguarded.is_empty(), "no permission: {unguarded:?}");
    }

    #[test]
    fn what_is_for_people_is_there() {
        assert_eq!(routes().iter().filter(|route| is_for_people(route)).count(), FOR_PEOPLE.len());
    }
}
