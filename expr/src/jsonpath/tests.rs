use serde_json::Value;

use super::JsonPath;

/// Paths and what `jsonpath-rw` 1.4 finds, generated with that library.
const CASES: &str = include_str!("../../testdata/jsonpath.json");

/// The library indexes objects below `..` and fails; we find what there is.
const KINDER: &[&str] = &["trigger..[0]"];

#[test]
fn found_as_in_python() {
    let data: Value = serde_json::from_str(CASES).unwrap();
    let document = &data["document"];
    let mut wrong = Vec::new();
    for case in data["cases"].as_array().unwrap() {
        let path = case["path"].as_str().unwrap();
        let found = JsonPath::parse(path).map(|path| {
            let all: Vec<Value> = path.find(document).into_iter().map(std::borrow::Cow::into_owned).collect();
            assert_eq!(path.first(document).as_deref(), all.first());
            Value::Array(all)
        });
        // The library fails on an index that doesn't fit; we find nothing.
        let nothing = case.get("error").is_some() && found.as_ref().is_ok_and(|found| found == &Value::Array(vec![]));
        let known = KINDER.contains(&path) || nothing;
        if !known && found.as_ref().ok() != case.get("found") {
            wrong.push(format!("{path}\n  ours {found:?}\n  python {case}"));
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}
