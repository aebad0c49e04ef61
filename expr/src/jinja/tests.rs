use std::collections::HashMap;

use serde_json::json;

use super::*;

#[derive(Debug, Default)]
struct Table {
    keys: HashMap<String, String>,
    unknown: bool,
}

impl KeySource for Table {
    fn get(&self, request: &KeyRequest) -> KeyAnswer {
        match self.keys.get(&format!("{}.{}", request.scope.as_str(), request.name)) {
            Some(value) => KeyAnswer::Value { value: value.clone(), secret: false },
            None if self.unknown => KeyAnswer::Unknown,
            None => KeyAnswer::Absent,
        }
    }

    fn decrypt(&self, ciphertext: &str) -> Result<String, String> {
        ciphertext.strip_prefix("enc:").map(str::to_owned).ok_or_else(|| "bad HMAC".to_owned())
    }
}

fn table(pairs: &[(&str, &str)]) -> Table {
    Table { keys: pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(), unknown: false }
}

fn text(template: &str, vars: Value, keys: &dyn KeySource) -> Result<String, RenderError> {
    render_text(template, &Context { vars: vars.as_object().unwrap(), keys })
}

#[test]
fn plain_text_is_left_alone() {
    assert_eq!(text("no } template { at all %}", json!({}), &NoKeys).unwrap(), "no } template { at all %}");
}

#[test]
fn undefined_in_the_words_of_jinja() {
    let vars = json!({"d": {"a": {"b": 1}}, "l": [1], "s": "x", "n": null});
    for (template, message) in [
        ("{{ nope }}", "'nope' is undefined"),
        ("{{ nope.x }}", "'nope' is undefined"),
        ("{{ d.nope }}", "'dict object' has no attribute 'nope'"),
        ("{{ d.a.nope }}", "'dict object' has no attribute 'nope'"),
        ("{{ d['nope'] }}", "'dict object' has no attribute 'nope'"),
        ("{{ d.nope.x }}", "'dict object' has no attribute 'nope'"),
        ("{{ l[3] }}", "list object has no element 3"),
        ("{{ s.nope }}", "'str object' has no attribute 'nope'"),
        ("{{ n.nope }}", "'None' has no attribute 'nope'"),
        ("{{ d.a.b.c }}", "'int object' has no attribute 'c'"),
        ("{% if nope %}x{% endif %}", "'nope' is undefined"),
        ("{% for x in nope %}x{% endfor %}", "'nope' is undefined"),
        ("{{ nope | upper }}", "'nope' is undefined"),
        ("{{ s | nofilter }}", "No filter named 'nofilter'."),
    ] {
        assert_eq!(text(template, vars.clone(), &NoKeys), Err(RenderError::Template(message.into())), "{template}");
    }
    assert_eq!(text("{{ nope | default('d') }}", vars.clone(), &NoKeys).unwrap(), "d");
    assert_eq!(text("{{ nope is defined }}", vars, &NoKeys).unwrap(), "False");
    assert!(matches!(text("{{ unbalanced", json!({}), &NoKeys), Err(RenderError::Syntax(_))));
}

#[test]
fn types_are_kept_on_request() {
    let vars = json!({"l": [1, {"a": null}], "n": 5, "t": "7"});
    let context = Context { vars: vars.as_object().unwrap(), keys: &NoKeys };
    let template =
        json!({"l": "{{ l }}", "n": ["{{n}}", "{{ n }} x", "{{ t }}"], "{{ n }}": "{{ n + 1 }}", "p": "plain"});
    let expected = json!({"l": [1, {"a": null}], "n": [5, "5 x", "7"], "{{ n }}": 6, "p": "plain"});
    assert_eq!(render(&template, &context).unwrap(), expected);
    assert_eq!(render(&json!("{{ nope }}"), &context), Err(RenderError::Template("'nope' is undefined".to_owned())));
}

#[test]
fn datastore() {
    let keys = table(&[
        ("st2kv.system.foo", "bar"),
        ("st2kv.system.num", "7"),
        ("st2kv.system.a.b", "dotted"),
        ("st2kv.system.x-y", "dash"),
        ("st2kv.system.obj", "{\"k\": 1}"),
        ("st2kv.user.mine", "me"),
        ("st2kv.system.secret", "enc:plain"),
        ("st2kv.system.broken", "zzz"),
    ]);
    for (template, expected) in [
        ("{{ st2kv.system.foo }}", "bar"),
        ("pre{{ st2kv.system.foo }}post", "prebarpost"),
        ("{{ st2kv.system.num | int + 1 }}", "8"),
        ("{{ st2kv.system.a.b }}", "dotted"),
        ("{{ st2kv.system['x-y'] }}", "dash"),
        ("{{ st2kv.system['a.b'] }}", "dotted"),
        ("{{ st2kv.system[k] }}", "bar"),
        ("{{ st2kv.system.missing }}", ""),
        ("{{ st2kv.user.mine }}", "me"),
        ("{{ (st2kv.system.obj | from_json_string).k }}", "1"),
        ("{{ st2kv.system.foo | upper }}", "BAR"),
        ("{{ st2kv('system.foo') }}", "bar"),
        ("{{ st2kv('foo') }}", "bar"),
        ("{{ st2kv.system.secret | decrypt_kv }}", "plain"),
        ("{% if st2kv.system.foo == 'bar' %}yes{% endif %}", "yes"),
        ("{{ 'enc:direct' | decrypt_kv }}", "direct"),
    ] {
        assert_eq!(text(template, json!({"k": "foo"}), &keys).as_deref(), Ok(expected), "{template}");
    }
    for (template, expected) in [
        ("{{ st2kv.system.broken | decrypt_kv }}", "bad HMAC"),
        (
            "{{ st2kv.system.none | decrypt_kv }}",
            "Referenced datastore item \"st2kv.system.none\" doesn't exist or it contains an empty string",
        ),
    ] {
        let error = text(template, json!({}), &keys).unwrap_err();
        assert_eq!(error, RenderError::Template(expected.to_owned()), "{template}");
    }
}

#[test]
fn unknown_keys_are_told_together() {
    let keys = Table { unknown: true, ..table(&[("st2kv.system.a", "1")]) };
    let error = text("{{ st2kv.system.a }}{{ st2kv.system.b }}{{ st2kv.user[k] }}", json!({"k": "c"}), &keys);
    let wanted = vec![
        KeyRequest { scope: Scope::System, name: "b".to_owned() },
        KeyRequest { scope: Scope::User, name: "c".to_owned() },
    ];
    assert_eq!(error, Err(RenderError::NeedsKeys(wanted)));
}

#[test]
fn work_and_output_are_limited() {
    for template in [
        "{% for a in range(100000) %}{% for b in range(100000) %}x{% endfor %}{% endfor %}",
        "{{ 'x' * 2000000000 }}",
        "{% set ns = namespace(x='x') %}{% for a in range(64) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x }}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{{ '%1000000000d' % 5 }}",
    ] {
        let error = text(template, json!({}), &NoKeys).unwrap_err();
        assert!(matches!(error, RenderError::Limit(_) | RenderError::Template(_)), "{template}: {error}");
    }
    let long = format!("{{{{ x }}}}{}", "x".repeat(2 << 20));
    assert!(matches!(text(&long, json!({"x": 1}), &NoKeys), Err(RenderError::Limit(_))));
}
