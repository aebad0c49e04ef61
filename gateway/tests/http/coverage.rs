//! Every path and method of StackStorm's own API description is a route here.

use std::collections::BTreeSet;

use gateway::http::route::Service;
use gateway::table::routes;

/// `{…}` segments have other names there.
fn normal(path: &str) -> String {
    let segment = |part: &str| if part.starts_with('{') { "{}".to_owned() } else { part.to_owned() };
    path.trim_end_matches('/').split('/').map(segment).collect::<Vec<_>>().join("/")
}

#[test]
fn every_described_operation_is_a_route() {
    let Some(golden) = super::recordings::golden() else { return };
    let text = std::fs::read_to_string(golden.join("../openapi.yaml")).unwrap();
    let described = model::yaml::load(&text).unwrap();
    let ours: BTreeSet<String> = routes()
        .iter()
        .map(|route| {
            let prefix = match route.service {
                Service::Api => "/api/v1",
                Service::Auth => "/auth/v1",
                Service::Stream => "/stream/v1",
            };
            format!("{} {}", route.method, normal(&format!("{prefix}{}", route.pattern)))
        })
        .collect();
    let mut missing = Vec::new();
    let mut known = 0;
    for (path, operations) in described["paths"].as_object().unwrap() {
        for method in operations.as_object().unwrap().keys().filter(|key| *key != "parameters") {
            let operation = format!("{} {}", method.to_uppercase(), normal(path));
            match ours.contains(&operation) {
                true => known += 1,
                false => missing.push(operation),
            }
        }
    }
    println!("{known} operations are routes");
    assert!(known > 90 && missing.is_empty(), "{known} known, missing: {missing:#?}");
}
