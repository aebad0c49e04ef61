use serde_json::{Value, json};

use super::*;

/// Schema, value and error of Python's jsonschema 3.2 (its best match), generated with that library.
const CASES: &str = include_str!("../../testdata/schema.json");

#[test]
fn errors_are_those_of_python() {
    let cases: Vec<Value> = serde_json::from_str(CASES).unwrap();
    assert!(cases.len() > 200);
    for case in &cases {
        let (schema, value) = (&case["schema"], &case["value"]);
        let error = first_error(schema, value).map(|error| error.0);
        assert_eq!(error.as_deref(), case["error"].as_str(), "schema {schema}, value {value}");
    }
}

fn object(value: Value) -> Object {
    value.as_object().unwrap().clone()
}

fn outcome(schemas: Value, parameters: Value) -> Result<Value, String> {
    validate_parameters(&object(schemas), &object(parameters), false).map(Value::Object).map_err(|error| error.0)
}

#[test]
fn parameters_with_defaults_and_nulls() {
    let schemas = json!({
        "s": {"type": "string", "required": true},
        "i": {"type": "integer", "default": 7, "minimum": 1, "maximum": 100},
        "e": {"type": "string", "enum": ["red", "green"], "default": "red"},
        "n": {"type": "string", "default": null},
        "o": {"type": "object", "properties": {"x": {"type": "integer", "default": 3}, "y": {"type": "string"}}},
    });
    assert_eq!(outcome(schemas.clone(), json!({"s": "a"})), Ok(json!({"s": "a", "i": 7, "e": "red", "n": null})));
    assert_eq!(
        outcome(schemas.clone(), json!({"s": "a", "n": null, "o": {"y": null}, "i": null})),
        Ok(json!({"s": "a", "n": null, "o": {"y": null, "x": 3}, "i": 7, "e": "red"}))
    );
    for (parameters, error) in [
        (json!({"s": null}), "None is not of type 'string'"),
        (json!({}), "'s' is a required property"),
        (json!({"s": "a", "i": 1000}), "1000 is greater than the maximum of 100"),
        (json!({"s": "a", "e": "blue"}), "'blue' is not one of ['red', 'green']"),
        (json!({"s": "a", "n": 5}), "5 is not of type 'string', 'null'"),
        (json!({"zzz": 1}), "Additional properties are not allowed ('zzz' was unexpected)"),
        (json!({"s": "a", "o": {"x": "q"}}), "'q' is not of type 'integer'"),
    ] {
        assert_eq!(outcome(schemas.clone(), parameters), Err(error.to_owned()));
    }
    assert_eq!(outcome(json!({}), json!({"zzz": 1})), Ok(json!({"zzz": 1})));
}

#[test]
fn empty_definition_takes_anything() {
    for value in [json!([]), json!(true), json!(1), json!(1.5), json!({}), json!("x"), json!(null)] {
        let parameters = json!({"a": value});
        assert_eq!(outcome(json!({"a": {}}), parameters.clone()), Ok(parameters));
    }
}

#[test]
fn whole_schemas() {
    let schema = json!({"type": "object", "properties": {
        "name": {"type": "string", "required": true}, "n": {"type": "integer"},
    }, "additionalProperties": false});
    assert_eq!(validate(&schema, &json!({"name": "a", "n": null})), Ok(()));
    let error = |value: Value| validate(&schema, &value).unwrap_err().0;
    assert_eq!(error(json!({"name": 5})), "5 is not of type 'string'");
    assert_eq!(error(json!({"name": "a", "n": "x"})), "'x' is not of type 'integer', 'null'");
    assert_eq!(error(json!(null)), "None is not of type 'object'");
    assert_eq!(error(json!({"bogus": 1})), "Additional properties are not allowed ('bogus' was unexpected)");
    assert_eq!(validate(&json!({}), &json!([1])), Ok(()));
}

#[test]
fn definitions() {
    let check = |schemas: Value| check_parameter_schemas(&object(schemas)).map_err(|error| error.0);
    assert_eq!(check(json!({"a": {"type": "string", "position": 1, "secret": true}, "b": {"position": 2}})), Ok(()));
    assert_eq!(check(json!({"a": {}, "b": null})), Ok(()));
    assert_eq!(
        check(json!({"x": {"type": "object", "properties": {"y": {"type": ["string", "null"], "required": true}}}})),
        Ok(())
    );
    for (schemas, error) in [
        (json!({"x": {"type": "nonsense"}}), "'nonsense' is not valid under any of the given schemas"),
        (json!({"x": {"type": ["string", "null"]}}), "['string', 'null'] is not valid under any of the given schemas"),
        (json!({"x": {"typ": "string"}}), "Additional properties are not allowed ('typ' was unexpected)"),
        (json!({"x": {"required": "yes"}}), "'yes' is not of type 'boolean'"),
        (json!({"x": {"position": -1}}), "-1 is less than the minimum of 0"),
        (json!({"x": "string"}), "'string' is not of type 'object'"),
        (json!({"a b": {}}), "'a b' does not match any of the regexes: '^\\\\w+$'"),
        (
            json!({"a": {"position": 0}, "b": {"position": 0}}),
            "Parameters b and a have same position 0. Position values have to be unique.",
        ),
        (
            json!({"a": {"position": 0}, "b": {"position": 2}}),
            "Positions supplied [0, 2] for parameters are not contiguous.",
        ),
    ] {
        assert_eq!(check(schemas), Err(error.to_owned()));
    }
}

#[test]
fn overrides() {
    let runner = object(json!({
        "cmd": {"type": "string"}, "dir": {"immutable": true, "default": "/"}, "timeout": {"type": "integer", "default": 60},
    }));
    let check = |action: Value| check_overrides("golden.m5", &runner, &object(action), true).map_err(|error| error.0);
    assert_eq!(check(json!({"timeout": {"default": 5, "immutable": true, "type": "integer"}, "x": {}})), Ok(()));
    for (action, error) in [
        (
            json!({"cmd": {"type": "integer"}}),
            "The attribute \"type\" for the runner parameter \"cmd\" in action \"golden.m5\" cannot be overridden.",
        ),
        (json!({"dir": {"immutable": false}}), "Param dir is declared immutable in runner. Cannot override in action."),
        (json!({"cmd": {"immutable": true}}), "Immutable param cmd requires a default value."),
    ] {
        assert_eq!(check(action), Err(error.to_owned()));
    }
    let merged = effective_parameters(&runner, &object(json!({"timeout": {"default": 5}, "x": {"type": "string"}})));
    assert_eq!(merged["timeout"], json!({"type": "integer", "default": 5}));
    assert_eq!(merged["x"], json!({"type": "string"}));
}
