//! Arbitrary input never panics and stays within the limits; proptest prints the seed of a failure.

use std::time::{Duration, Instant};

use expr::criteria::CompiledCriteria;
use expr::jsonpath::JsonPath;
use expr::params::{cast, render_final, render_live};
use expr::pyregex::{Flags, PyRegex};
use expr::{Context, NoKeys, render, render_text};
use model::{Object, Timestamp};
use proptest::prelude::*;
use serde_json::{Value, json};

fn vars() -> Object {
    let vars = json!({"a": {"b": [1, 2, {"c": "x"}]}, "s": "text é", "n": 7, "f": 1.5, "t": true, "z": null});
    vars.as_object().cloned().unwrap_or_default()
}

/// Pieces that templates are made of, strung together in any order.
fn template() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        prop::sample::select(vec![
            "{{",
            "}}",
            "{%",
            "%}",
            "{#",
            "#}",
            " a",
            ".b",
            "[",
            "]",
            "0",
            ":",
            "-1",
            "s",
            "n",
            "f",
            "t",
            "z",
            "|",
            "(",
            ")",
            " upper",
            " int",
            " length",
            " join(',')",
            " to_json_string",
            " from_json_string",
            " regex_replace('(.)', '\\1')",
            " jsonpath_query('b[*]')",
            " version_compare('1.0.0')",
            " to_human_time_from_seconds",
            " default('d')",
            " for x in a.b ",
            " endfor ",
            " if s ",
            " else ",
            " endif ",
            " set y = 1 ",
            "'%s' % ",
            "'q'",
            "\"",
            "'",
            "\\",
            "+",
            "*",
            "/",
            "//",
            "%",
            "**",
            "~",
            "==",
            " in ",
            " not ",
            " is ",
            " and ",
            "é",
            "\n",
            "{",
            "}",
            ",",
            "st2kv.system.k",
            " truncate(3)",
            " wordwrap(2)",
            " center(9)",
            " pprint",
            ".split()",
            ".zfill(4)",
            " percent_format(n)",
            "x",
        ])
        .prop_map(str::to_owned),
        "\\PC{0,6}",
    ];
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        template().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-e]{1,2}", inner, 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

fn object() -> impl Strategy<Value = Object> {
    prop::collection::btree_map("[a-e]", value(), 0..5).prop_map(|fields| fields.into_iter().collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn templates(text in template()) {
        let vars = vars();
        let context = Context { vars: &vars, keys: &NoKeys };
        let start = Instant::now();
        let _ = render_text(&text, &context);
        let _ = render_text(&format!("{{{{ {text} }}}}"), &context);
        let _ = render(&json!([text]), &context);
        prop_assert!(start.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn parameters(given in object(), defaults in object(), kind in 0usize..7) {
        let kinds = ["string", "integer", "number", "boolean", "object", "array", "any"];
        let schema: Object = defaults
            .iter()
            .map(|(name, default)| (name.clone(), json!({"type": kinds[kind], "default": default})))
            .collect();
        let vars = vars();
        let context = Context { vars: &vars, keys: &NoKeys };
        if let Ok(live) = render_live(&Object::new(), &schema, &given, &context) {
            let done = render_final(&Object::new(), &schema, &live, &context);
            if let Ok(done) = done {
                // Every declared parameter is there.
                prop_assert!(schema.keys().all(|name| done.action.contains_key(name)));
            }
        }
        for value in given.values() {
            let _ = cast(value.clone(), Some(kinds[kind]));
        }
    }

    #[test]
    fn criteria(
        payload in object(), pattern in value(), key in "[a-z.\\[\\]0-9*'\"$#| -]{0,12}", operator in 0usize..33,
    ) {
        let names = "matchwildcard matchregex regex iregex eq equals neq nequals ieq iequals contains icontains ncontains \
            incontains startswith istartswith endswith iendswith lt lessthan gt greaterthan td_lt timediff_lt td_gt \
            timediff_gt exists nexists inside in ninside nin search";
        let operator = names.split_whitespace().nth(operator);
        for key in [format!("trigger.{key}"), key, "trigger.a".to_owned()] {
            let criteria = json!({key: {"type": operator, "pattern": pattern, "condition": "any2any"}});
            let compiled = CompiledCriteria::load(criteria.as_object().unwrap_or(&Object::new()));
            let now = Timestamp::from_micros(1_800_000_000_000_000);
            let _ = compiled.matches(&Value::Object(payload.clone()), &NoKeys, now);
        }
    }

    #[test]
    fn patterns_and_paths(pattern in "[a-c(){}\\[\\]*+?.|^$\\\\1-9,:=!<P>&~-]{0,20}", text in "[a-c1-9\\n]{0,30}") {
        if let Ok(regex) = PyRegex::new(&pattern, Flags::default()) {
            let _ = regex.search(&text);
            let _ = regex.matches_start(&text);
            let _ = regex.replace_all(&text, &pattern);
            let _ = regex.find_all(&text);
        }
        if let Ok(path) = JsonPath::parse(&pattern) {
            let _ = path.find(&json!({"a": [{"b": 1}, [2, 3]], "c": null}));
        }
    }

    #[test]
    fn dates(text in "[0-9TWZ:. +/a-zA-Z,-]{0,24}") {
        let criteria = json!({"trigger.a": {"type": "td_gt", "pattern": 1}});
        let compiled = CompiledCriteria::load(criteria.as_object().unwrap_or(&Object::new()));
        let _ = compiled.matches(&json!({"a": text}), &NoKeys, Timestamp::from_micros(1_800_000_000_000_000));
    }
}

#[test]
fn deep_nesting_is_refused_not_fatal() {
    let vars = vars();
    let context = Context { vars: &vars, keys: &NoKeys };
    for (open, close) in
        [("(", ")"), ("[", "]"), ("{'a':", "}"), ("not ", ""), ("-", ""), ("a.b[", "]"), ("n|default(", ")")]
    {
        for depth in [100, 10_000] {
            let _ = render_text(&format!("{{{{ {}1{} }}}}", open.repeat(depth), close.repeat(depth)), &context);
            let _ = cast(Value::from(format!("{}1{}", open.repeat(depth), close.repeat(depth))), Some("object"));
            let _ = JsonPath::parse(&format!("{}a{}", open.repeat(depth), close.repeat(depth)));
            let pattern = format!("{}a{}", open.repeat(depth), close.repeat(depth));
            let _ = PyRegex::new(&pattern, Flags::default());
        }
    }
    for depth in [100, 10_000] {
        let blocks = format!("{}x{}", "{% if n %}".repeat(depth), "{% endif %}".repeat(depth));
        let _ = render_text(&blocks, &context);
        let _ = render_text(&format!("{{{{ '%s' % {} }}}}", "('%s' % ".repeat(depth)), &context);
        let _ = render_text(&format!("{{{{ n{} }}}}", " + n".repeat(depth)), &context);
        let _ = render_text(&format!("{{{{ n{} }}}}", "|string".repeat(depth)), &context);
    }
}
