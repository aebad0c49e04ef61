use serde_json::json;

use super::*;
use crate::jinja::{KeyAnswer, KeyRequest, KeySource, NoKeys};

fn object(value: Value) -> Object {
    value.as_object().unwrap().clone()
}

fn vars() -> Object {
    object(json!({"action_context": {"user": "u", "pack": "p"}, "config_context": {"c": 1}}))
}

fn live(runner: Value, action: Value, given: Value) -> Result<Value, ParamError> {
    let vars = vars();
    let context = Context { vars: &vars, keys: &NoKeys };
    render_live(&object(runner), &object(action), &object(given), &context).map(Value::Object)
}

fn run(runner: Value, action: Value, given: Value) -> Result<(Value, Value), ParamError> {
    let vars = vars();
    let context = Context { vars: &vars, keys: &NoKeys };
    let live = render_live(&object(runner.clone()), &object(action.clone()), &object(given), &context)?;
    let done = render_final(&object(runner), &object(action), &live, &context)?;
    Ok((Value::Object(done.runner), Value::Object(done.action)))
}

fn text(error: ParamError) -> String {
    match error {
        ParamError::Invalid(text) | ParamError::Cast(text) => text,
        ParamError::Render(error) => error.to_string(),
    }
}

/// spec/runners.md §3.2, the measured table.
#[test]
fn measured_cases() {
    let runner = json!({"cmd": {"type": "string"}, "timeout": {"type": "integer", "default": 60},
        "parallel": {"type": "boolean", "default": false}, "sudo": {"type": "boolean", "default": false}});
    let action = json!({"cmd": {"default": "echo {{m}}", "immutable": true}, "m": {"type": "string", "required": true},
        "z": {"type": "array"}, "timeout": {"default": 5}});
    let (on_runner, on_action) = run(runner.clone(), action, json!({"m": "hi"})).unwrap();
    assert_eq!(on_runner, json!({"timeout": 5, "parallel": false, "sudo": false, "cmd": "echo hi"}));
    assert_eq!(on_action, json!({"m": "hi", "z": null}));

    let side = |action: Value, given: Value| run(json!({}), action, given).map(|(_, action)| action).map_err(text);
    let x = json!({"x": "{{ y }}-caller"});
    assert_eq!(
        side(json!({"x": {"default": "{{ y }}"}, "y": {"default": "d"}}), x.clone()),
        Ok(json!({"x": "d", "y": "d"}))
    );
    assert_eq!(
        side(json!({"x": {"default": "plain"}, "y": {"default": "d"}}), x),
        Ok(json!({"x": "d-caller", "y": "d"}))
    );
    assert_eq!(
        side(
            json!({"l": {"type": "array"}, "n": {"type": "integer"}, "o": {"type": "object"}}),
            json!({"l": "[1,2]", "n": "5", "o": {"k": "{{n}}", "s": "{{ n }}"}})
        ),
        Ok(json!({"l": [1, 2], "n": 5, "o": {"k": "5", "s": "5"}}))
    );
    assert_eq!(
        side(
            json!({"s": {"type": "string", "default": "{{ config_context.c }} {{ action_context.user }}"}}),
            json!({})
        ),
        Ok(json!({"s": "1 u"}))
    );
    let boolean = json!({"b": {"type": "boolean"}});
    assert_eq!(side(boolean.clone(), json!({"b": "TRUE"})), Ok(json!({"b": true})));
    assert!(side(boolean, json!({"b": "yes"})).unwrap_err().starts_with("malformed node or string"));
    assert_eq!(
        side(json!({"s": {"type": "string"}}), json!({"s": 5})),
        Err("Value \"5\" must either be a string or None. Got \"int\".".to_owned())
    );
    assert!(side(json!({"s": {"type": "array"}}), json!({"s": "a,b"})).is_err());
}

#[test]
fn typed_insertion_into_containers() {
    let action = json!({"c": {"type": "integer"}, "l": {"type": "array"}, "e": {"type": "array"}, "o": {}});
    let given = json!({"c": 5, "l": ["{{c}}", "{{ c }}", "x{{c}}"], "e": ["{{ o.a.b }}"], "o": {"a": {"b": [1]}}});
    let expected = json!({"c": 5, "l": [5, "5", "x5"], "e": ["[1]"], "o": {"a": {"b": [1]}}});
    assert_eq!(live(json!({}), action, given), Ok(expected));
}

#[test]
fn errors() {
    let fails = |action: Value, given: Value| text(live(json!({}), action, given).unwrap_err());
    assert_eq!(fails(json!({}), json!({"m": "{{ nope.x }}"})), "Dependency unsatisfied in variable \"nope\"");
    assert_eq!(fails(json!({}), json!({"m": "{{nope}}"})), "Dependency unsatisfied in variable \"nope\"");
    assert_eq!(
        fails(json!({}), json!({"m": "{{ action_context.nope }}"})),
        "Failed to render parameter \"m\": 'dict object' has no attribute 'nope'"
    );
    assert_eq!(
        fails(json!({}), json!({"a": "{{ a }}"})),
        "Cyclic dependency found in the following variables: a. Likely the variable is referencing itself"
    );
    assert_eq!(
        fails(json!({}), json!({"c": "{{ d }}", "d": "{{ c }}", "a": "{{ a }}", "z": "{{ a }}"})),
        "Cyclic dependency found in the following variables: a, c. Likely the variable is referencing itself"
    );
    assert_eq!(
        live(json!({}), json!({"i": {"type": "integer"}}), json!({"i": "abc"})),
        Err(ParamError::Cast("invalid literal for int() with base 10: 'abc'".to_owned()))
    );
}

#[test]
fn verbatim_null_and_magic() {
    let action = json!({"s": {"type": "string"}, "i": {"type": "integer", "default": 7}, "n": {"type": "string"},
        "t": {"type": "string", "default": "{{ s }}!"}});
    let given = json!({"s": "{{ unbalanced", "i": null, "n": "{{ none | use_none }}"});
    let expected = json!({"s": "{{ unbalanced", "i": 7, "n": null, "t": "{{ unbalanced!"});
    assert_eq!(live(json!({}), action, given), Ok(expected));
    // Without a template anywhere: the same rules.
    let action = json!({"i": {"type": "integer", "default": 7}, "k": {"default": 1, "immutable": true}});
    assert_eq!(live(json!({}), action, json!({"i": null, "k": 5, "u": 1})), Ok(json!({"i": 7, "k": 1, "u": 1})));
}

#[test]
fn python_texts_are_inserted() {
    let action = json!({"o": {"type": "object"}, "cmd": {"type": "string"}});
    let given = json!({"o": {"a": [1, true, null, 1.5, "x'y"]}, "cmd": "echo {{ o }} {{ o.a[1] }} {{ o.a[2] }}"});
    let rendered = live(json!({}), action, given).unwrap();
    assert_eq!(rendered["cmd"], "echo {'a': [1, True, None, 1.5, \"x'y\"]} True None");
}

#[derive(Debug)]
struct Never;

impl KeySource for Never {
    fn get(&self, _: &KeyRequest) -> KeyAnswer {
        KeyAnswer::Unknown
    }

    fn decrypt(&self, _: &str) -> Result<String, String> {
        Err(String::new())
    }
}

#[test]
fn keys_are_asked_for() {
    let vars = vars();
    let context = Context { vars: &vars, keys: &Never };
    let given = object(json!({"s": "{{ st2kv.system.a.b }}"}));
    let error = render_live(&Object::new(), &Object::new(), &given, &context).unwrap_err();
    let wanted = KeyRequest { scope: model::Scope::System, name: "a.b".to_owned() };
    assert_eq!(error, ParamError::Render(RenderError::NeedsKeys(vec![wanted])));
}

/// spec/rules.md §14, the cast table.
#[test]
fn casts() {
    let magic = crate::filters::MAGIC_NONE;
    for (kind, value, expected) in [
        ("string", json!(magic), json!(null)),
        ("integer", json!("5"), json!(5)),
        ("integer", json!(" 5 "), json!(5)),
        ("integer", json!(5.9), json!(5)),
        ("integer", json!(-5.9), json!(-5)),
        ("integer", json!(true), json!(1)),
        ("integer", json!("1_000"), json!(1000)),
        ("number", json!("5"), json!(5.0)),
        ("number", json!("1e3"), json!(1000.0)),
        ("number", json!(true), json!(1.0)),
        ("boolean", json!("true"), json!(true)),
        ("boolean", json!("TRUE"), json!(true)),
        ("boolean", json!("false"), json!(false)),
        ("boolean", json!("none"), json!(null)),
        ("boolean", json!("1"), json!(1)),
        ("boolean", json!("0"), json!(0)),
        ("boolean", json!(5), json!(5)),
        ("object", json!("{'a': 1}"), json!({"a": 1})),
        ("object", json!("{\"a\": null}"), json!({"a": null})),
        ("object", json!("{'a': [True, None, 'x\\n'], 'b': {}}"), json!({"a": [true, null, "x\n"], "b": {}})),
        ("array", json!("(1,2)"), json!([1, 2])),
        ("array", json!("1, 2"), json!([1, 2])),
        ("array", json!("5"), json!(5)),
        ("array", json!("[-1.5e3, 0x10]"), json!([-1500.0, 16])),
        ("nonsense", json!(5), json!(5)),
    ] {
        assert_eq!(cast(value.clone(), Some(kind)), Ok(expected), "{kind} {value}");
    }
    for (kind, value) in [
        ("string", json!(5)),
        ("string", json!(["a"])),
        ("integer", json!("5.0")),
        ("integer", json!("")),
        ("integer", json!("1e3")),
        ("integer", json!("0x10")),
        ("integer", json!("1__0")),
        ("integer", json!(magic)),
        ("integer", json!([1])),
        ("number", json!("")),
        ("number", json!("x")),
        ("number", json!(magic)),
        ("boolean", json!("yes")),
        ("boolean", json!("")),
        ("object", json!("{a: 1}")),
        ("array", json!("a,b")),
        ("array", json!("")),
        ("array", json!("[1, 2")),
        ("array", json!("__import__('os')")),
    ] {
        assert!(cast(value.clone(), Some(kind)).is_err(), "{kind} {value}");
    }
}
