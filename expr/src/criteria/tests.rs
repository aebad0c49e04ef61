use std::collections::HashMap;
use std::time::Duration;

use serde_json::json;

use super::*;
use crate::jinja::{KeyAnswer, NoKeys};

/// Operator, pattern, payload value and result, as measured on StackStorm (spec/rules.md §10).
const OPERATORS: &str = include_str!("../../testdata/operators.json");

fn now() -> Timestamp {
    Timestamp::parse_lenient("2026-11-23T00:53:00Z").unwrap()
}

fn decide_with(criteria: Value, payload: Value, keys: &dyn KeySource) -> Result<Verdict, MatchError> {
    CompiledCriteria::load(criteria.as_object().unwrap()).matches(&payload, keys, now())
}

/// `match`, `no` or `error`.
fn decide(criteria: Value, payload: Value) -> &'static str {
    word(&decide_with(criteria, payload, &NoKeys).unwrap())
}

fn word(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict { matched: true, .. } => "match",
        Verdict { failures, .. } if failures.is_empty() => "no",
        _ => "error",
    }
}

#[test]
fn operators() {
    let cases: Vec<Value> = serde_json::from_str(OPERATORS).unwrap();
    assert_eq!(cases.len(), 160);
    for case in cases {
        let criteria = json!({"trigger.v": {"type": case["operator"], "pattern": case["pattern"]}});
        let result = decide(criteria, json!({"v": case["value"], "other": 1}));
        assert_eq!(result, case["result"], "{case}");
    }
}

#[test]
fn time_differences() {
    let ago = |seconds: i64, form: &str| {
        let at = Timestamp::from_micros(now().micros() - seconds * 1_000_000);
        json!(at.datetime().format(form).to_string())
    };
    let plain = "%Y-%m-%dT%H:%M:%S%.6f";
    for (operator, pattern, value, expected) in [
        ("td_lt", json!(60), ago(30, plain), "match"),
        ("td_lt", json!(60), ago(90, plain), "no"),
        ("td_lt", json!(60), ago(30, "%Y-%m-%dT%H:%M:%SZ"), "match"),
        ("td_lt", json!(60), ago(30, "%Y-%m-%dT%H:%M:%S+00:00"), "match"),
        ("td_lt", json!(60), ago(30, "%Y-%m-%dT%H:%M:%S+02:00"), "no"),
        ("td_lt", json!("60"), ago(30, plain), "match"),
        ("td_lt", json!("abc"), ago(30, plain), "error"),
        ("td_lt", json!(60), ago(-30, plain), "match"),
        ("td_gt", json!(60), ago(-300, plain), "no"),
        ("td_gt", json!(60), ago(90, plain), "match"),
        ("td_gt", json!(60), ago(30, plain), "no"),
        ("td_gt", json!(null), ago(90, plain), "no"),
        ("td_gt", json!(60), json!(null), "error"),
        ("td_gt", json!(60), json!("garbage"), "error"),
        ("td_gt", json!(60), json!(""), "error"),
        ("td_gt", json!(60), json!(1_400_000_000), "error"),
        ("td_gt", json!(60), json!("1400000000"), "error"),
        ("td_gt", json!(60), json!("2014"), "match"),
        ("td_gt", json!(60), json!("20140710"), "match"),
        ("td_gt", json!(60), json!("2014-W05-2"), "match"),
        ("td_gt", json!(60), json!("2014-07-30 05:04:24.578325"), "match"),
        ("td_gt", json!(60), json!("Jul 4 2014 10:00 PST"), "match"),
        ("td_gt", json!(60), json!("10:00"), "no"),
        ("td_lt", json!(60.5), ago(60, "%Y-%m-%dT%H:%M:%S"), "match"),
    ] {
        let criteria = json!({"trigger.v": {"type": operator, "pattern": pattern}});
        assert_eq!(decide(criteria, json!({"v": value, "x": 1})), expected, "{operator} {pattern} {value}");
    }
}

#[test]
fn dates_that_people_write() {
    for (text, expected) in [
        ("2014-07-30T05:04:24.578325", "2014-07-30T05:04:24.578325Z"),
        ("2014-07-30T05:04+0130", "2014-07-30T03:34:00.000000Z"),
        ("2014-07", "2014-07-01T00:00:00.000000Z"),
        ("2014", "2014-01-01T00:00:00.000000Z"),
        ("2014-W05-2", "2014-01-28T00:00:00.000000Z"),
        ("Jul 4 2014 10:00", "2014-07-04T10:00:00.000000Z"),
        ("4th July 2014, 3:05:07 pm", "2014-07-04T15:05:07.000000Z"),
        ("Fri, 04 Jul 2014 10:00:00 +0200", "2014-07-04T08:00:00.000000Z"),
        ("Fri, 04 Jul 2014 10:00:00 GMT", "2014-07-04T10:00:00.000000Z"),
        ("7/4/2014 10am", "2014-07-04T10:00:00.000000Z"),
        ("2014/07/04", "2014-07-04T00:00:00.000000Z"),
        ("10:00", "2026-11-23T10:00:00.000000Z"),
    ] {
        assert_eq!(dates::parse(text, now()).map(|at| at.to_string()).as_deref(), Some(expected), "{text}");
    }
    for text in ["", "garbage", "2014-13-01", "10:99", "a b c", "12345678901", "é", "T", "2014-07-30T", "+", "1:"] {
        assert_eq!(dates::parse(text, now()), None, "{text}");
    }
}

#[derive(Debug)]
struct Keys(HashMap<&'static str, &'static str>);

impl KeySource for Keys {
    fn get(&self, request: &KeyRequest) -> KeyAnswer {
        match self.0.get(request.name.as_str()) {
            Some(value) => KeyAnswer::Value { value: (*value).to_owned(), secret: false },
            None => KeyAnswer::Absent,
        }
    }

    fn decrypt(&self, _: &str) -> Result<String, String> {
        Err("no".to_owned())
    }
}

#[test]
fn filter_level_cases() {
    let one = |key: &str, operator: &str, pattern: Value| json!({key: {"type": operator, "pattern": pattern}});
    let ab = json!({"a": 1, "b": 2, "c": 12, "d": "12"});
    let keys = Keys([("num", "7"), ("foo", "bar")].into_iter().collect());
    for (criteria, payload, expected) in [
        (json!({}), json!({"x": 1}), "match"),
        (json!({}), json!({}), "match"),
        (one("trigger.x", "nexists", json!("")), json!({}), "no"),
        (json!({"trigger.top": {"pattern": "T"}}), json!({"top": "T"}), "no"),
        (one("trigger.top", "EQUALS", json!("T")), json!({"top": "T"}), "match"),
        (
            json!({"trigger.two#1": {"type": "gt", "pattern": 1}, "trigger.two#2": {"type": "lt", "pattern": 3}}),
            json!({"two": 2}),
            "match",
        ),
        (
            json!({"trigger.two#1": {"type": "gt", "pattern": 1}, "trigger.two#2": {"type": "lt", "pattern": 2}}),
            json!({"two": 2}),
            "no",
        ),
        (one("trigger.two", "icontains", json!("x")), json!({"two": 2}), "error"),
        (one("trigger.two", "eq", json!("2")), json!({"two": 2}), "no"),
        (one("trigger.top", "eq", json!("{{ trigger.top }}")), json!({"top": "T"}), "match"),
        (one("trigger.two", "eq", json!("{{ trigger.two }}")), json!({"two": 2}), "match"),
        (one("trigger.one", "lt", json!("{{trigger.two}}")), json!({"one": 1, "two": 2}), "match"),
        (one("trigger.a", "in", json!("{{ trigger.list }}")), json!({"a": "x", "list": ["x"]}), "match"),
        (one("trigger.c", "eq", json!("{{trigger.a}}{{trigger.b}}")), ab.clone(), "match"),
        (one("trigger.d", "eq", json!("{{trigger.a}}{{trigger.b}}")), ab, "no"),
        (one("trigger.c", "eq", json!("1{{trigger.a}}")), json!({"a": 1, "c": 11}), "match"),
        (
            one("trigger.t", "eq", json!("{{trigger.a}}-{{trigger.b}}")),
            json!({"a": "T", "b": "a", "t": "T-a"}),
            "match",
        ),
        (one("trigger.a", "eq", json!("{{ trigger.zzz }}")), json!({"a": 1}), "error"),
        (one("trigger.a", "eq", json!("{{ trigger.a }}")), json!({"a": null, "b": 1}), "no"),
        (one("trigger.a", "eq", json!("{{ trigger.a }}")), json!({"a": true}), "match"),
        (one("trigger.b", "eq", json!("{{ trigger.a | lower }}")), json!({"a": "ABC", "b": "abc"}), "match"),
        (one("trigger.a", "in", json!(["{{ trigger.b }}"])), json!({"a": "x", "b": "x"}), "no"),
        (one("trigger.a", "eq", json!("{% if trigger.a %}yes{% endif %}")), json!({"a": "yes"}), "match"),
        (one("trigger.n", "eq", json!("{{ st2kv.system.num | int }}")), json!({"n": 7}), "match"),
        (one("trigger.a", "eq", json!("{{ st2kv.system.foo }}")), json!({"a": "bar"}), "match"),
        (one("trigger.a", "eq", json!("{{ st2kv.system.num }}")), json!({"a": "7"}), "match"),
        (one("trigger.a", "eq", json!("pre{{ st2kv.system.foo }}post")), json!({"a": "prebarpost"}), "match"),
        (one("trigger.a", "eq", json!("{{ system.foo }}")), json!({"a": "bar"}), "match"),
        (one("trigger.a", "eq", json!("{{ st2kv.system.none }}")), json!({"a": ""}), "match"),
        (one("trigger.a", "eq", json!("{{ st2kv.user.foo }}")), json!({"a": "bar"}), "error"),
        (one("trigger.a", "eq", json!("{{ unbalanced")), json!({"a": "bar"}), "error"),
    ] {
        let verdict = decide_with(criteria.clone(), payload, &keys).unwrap();
        assert_eq!(word(&verdict), expected, "{criteria}: {verdict:?}");
    }
    let bogus = one("trigger.top", "bogus", json!("x"));
    assert_eq!(decide_with(bogus, json!({"top": "T"}), &NoKeys), Err(MatchError::UnknownOperator("bogus".to_owned())));
}

#[test]
fn failure_texts() {
    let verdict =
        decide_with(json!({"trigger.a": {"type": "eq", "pattern": "{{ trigger.zzz }}"}}), json!({"a": 1}), &NoKeys);
    assert_eq!(
        verdict.unwrap().failures[0].reason("p.r", "abc"),
        "Failed to match rule \"p.r\" against trigger instance \"abc\": Failed to render pattern value \
         \"{{ trigger.zzz }}\" for key \"trigger.a\": 'dict object' has no attribute 'zzz'"
    );
    let verdict = decide_with(json!({"trigger.a": {"type": "ieq", "pattern": "x"}}), json!({"a": 1}), &NoKeys);
    assert_eq!(
        verdict.unwrap().failures[0].reason("p.r", "abc"),
        "Failed to match rule \"p.r\" against trigger instance \"abc\": There might be a problem with the criteria \
         in rule p.r: 'int' object has no attribute 'lower'"
    );
}

#[test]
fn validation() {
    let check = |criteria: Value| CompiledCriteria::compile(criteria.as_object().unwrap()).map(|_| ()).map_err(|e| e.0);
    assert_eq!(check(json!({"anything at all": {"type": "exists", "pattern": true}})), Ok(()));
    assert_eq!(check(json!({"k": {"pattern": 1}})), Err("Operator not specified for field: k".to_owned()));
    assert_eq!(
        check(json!({"k": {"type": "exists"}})),
        Err("For field: k, no pattern specified for operator exists".to_owned())
    );
    let text = check(json!({"trigger.body.name": {"type": "nope", "pattern": "x"}})).unwrap_err();
    assert!(text.starts_with(
        "For field: trigger.body.name, operator nope not in list of allowed operators: ['matchwildcard', 'matchregex', \
         'regex', 'iregex', 'eq', 'equals', 'neq', "
    ));
    assert!(text.ends_with("'exists', 'nexists', 'inside', 'in', 'ninside', 'nin', 'search']"));
    assert!(check(json!({"k": {"type": "EQUALS", "pattern": 1}})).is_err());
}

#[test]
fn search() {
    let list = json!([{"name": "a", "v": 1}, {"name": "b", "v": 5}]);
    let both = json!({"item.name": {"type": "eq", "pattern": "a"}, "item.v": {"type": "eq", "pattern": 5}});
    let name = json!({"item.name": {"type": "eq", "pattern": "a"}});
    let positive = json!({"item.v": {"type": "gt", "pattern": 0}});
    let scalar = json!({"item": {"type": "eq", "pattern": "a"}});
    let range = json!({"item.v#1": {"type": "gt", "pattern": 0}, "item.v#2": {"type": "lt", "pattern": 2}});
    let template = json!({"item.x": {"type": "eq", "pattern": "{{ item.y }}"}});
    let outer = json!({"item.x": {"type": "eq", "pattern": "{{ trigger.v }}"}});
    let nested = json!({"item.l": {"type": "search", "condition": "any", "pattern": scalar}});
    // Results for any, all, any2any, all2any.
    for (value, children, expected) in [
        (list.clone(), both.clone(), ["no", "no", "match", "match"]),
        (list.clone(), positive, ["match"; 4]),
        (json!([]), both, ["no", "match", "no", "match"]),
        (list.clone(), json!({}), ["match", "match", "no", "no"]),
        (json!({"name": "a"}), name.clone(), ["match"; 4]),
        (json!(null), name.clone(), ["error"; 4]),
        (json!(5), name, ["error"; 4]),
        (json!(["a", "b"]), scalar.clone(), ["match", "no", "match", "no"]),
        (json!("ab"), scalar, ["match", "no", "match", "no"]),
        (list, range, ["match", "no", "match", "match"]),
        (json!([{"x": 1, "y": 1}]), template, ["match"; 4]),
        (json!([{"x": 1}]), outer, ["error"; 4]),
        (json!([{"l": ["a"]}, {"l": []}]), nested, ["match", "no", "match", "no"]),
    ] {
        for (condition, expected) in ["any", "all", "any2any", "all2any"].into_iter().zip(expected) {
            let criteria = json!({"trigger.v": {"type": "search", "condition": condition, "pattern": children}});
            let result = decide(criteria, json!({"v": value, "other": 1}));
            assert_eq!(result, expected, "{condition} of {children} in {value}");
        }
    }
    for condition in [json!(null), json!("ANY"), json!(1)] {
        let criteria = json!({"trigger.v": {"type": "search", "condition": condition, "pattern": {}}});
        assert_eq!(decide(criteria, json!({"v": [1]})), "error");
    }
    let unknown = json!({"trigger.v": {"type": "search", "condition": "any", "pattern":
        {"item": {"type": "bogus", "pattern": 1}}}});
    assert_eq!(decide(unknown, json!({"v": [1]})), "error");
    let twice = json!({"trigger.v": {"type": "search", "condition": "any", "pattern":
        {"item": {"type": "ieq", "pattern": "x"}}}});
    assert_eq!(decide_with(twice, json!({"v": [1, 2]}), &NoKeys).unwrap().failures.len(), 2);
}

/// spec/rules.md §8.
#[test]
fn keys() {
    let payload = json!({
        "body": {"x": 1, "n": null, "l": [{"a": 1}, {"a": 2}], "x.y": "dot", "d-e": "dash", "0": "zero",
            "sp ace": "sp", "$d": "dol", "nested": {"k": {"z": 5}}},
        "headers": {"X-Custom": "v"}, "top": "T", "list": ["p", "q"],
    });
    for (key, expected) in [
        ("trigger.top", json!("T")),
        ("$.trigger.top", json!("T")),
        ("trigger.body.x", json!(1)),
        ("trigger.body.l[0].a", json!(1)),
        ("trigger.body.l[1].a", json!(2)),
        ("trigger.body.l[*].a", json!(1)),
        ("trigger.body.l", payload["body"]["l"].clone()),
        ("trigger.list[-1]", json!("q")),
        ("trigger.list[0:1]", json!("p")),
        ("trigger..z", json!(5)),
        ("trigger.body['x.y']", json!("dot")),
        ("trigger.body.\"x.y\"", json!("dot")),
        ("trigger.body.'x.y'", json!("dot")),
        ("trigger.body.d-e", json!("dash")),
        ("trigger.headers.X-Custom", json!("v")),
        ("trigger.headers['X-Custom']", json!("v")),
        ("trigger.body.'0'", json!("zero")),
        ("trigger.body.'sp ace'", json!("sp")),
        ("trigger.body.'$d'", json!("dol")),
        ("trigger", payload.clone()),
        ("trigger.*", payload["body"].clone()),
    ] {
        let criteria = json!({key: {"type": "eq", "pattern": expected}});
        assert_eq!(decide(criteria, payload.clone()), "match", "{key}");
    }
    for key in [
        "trigger.body.n",
        "trigger.body.l[9].a",
        "trigger.body.x.y",
        "trigger.headers.x-custom",
        "trigger.top.z",
        "top",
        "body.x",
        "st2kv.system.foo",
    ] {
        let criteria = json!({key: {"type": "nexists", "pattern": ""}});
        assert_eq!(decide(criteria, payload.clone()), "match", "{key}");
    }
    for key in ["trigger.body.0", "trigger.body.l.0.a", "trigger.body.sp ace", "trigger.body.$d", "trigger.body["] {
        let criteria = json!({key: {"type": "nexists", "pattern": ""}});
        assert_eq!(decide(criteria, payload.clone()), "error", "{key}");
    }
}

#[test]
fn many_rules_are_decided_quickly() {
    let criteria = json!({"trigger.body.name": {"type": "eq", "pattern": "x"}});
    let compiled = CompiledCriteria::compile(criteria.as_object().unwrap()).unwrap();
    let payload = json!({"body": {"name": "y"}, "headers": {}});
    let start = std::time::Instant::now();
    for _ in 0..10_000 {
        assert!(!compiled.matches(&payload, &NoKeys, now()).unwrap().matched);
    }
    // A generous bound for debug builds on busy machines.
    assert!(start.elapsed() < Duration::from_secs(5));
}
