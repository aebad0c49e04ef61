use serde_json::{Value, json};

use super::*;

#[test]
fn inline_values_have_types_and_bare_words_are_dropped() {
    let (action, pairs) = split_action(
        r#"core.demo a="two words" b='5' c=3 d=-4.5 e=TRUE f=null g=word h=<% ctx(x) %> i='{"k": 1}' j=[1, 2]"#,
    );
    assert_eq!(action, "core.demo");
    let found: Value = pairs.into_iter().collect::<serde_json::Map<_, _>>().into();
    let expected = json!({
        "a": "two words", "b": "5", "c": 3, "d": -4.5, "e": true, "f": null, "h": "<% ctx(x) %>", "i": {"k": 1},
        "j": [1, 2],
    });
    assert_eq!(found, expected);
    assert_eq!(split_action("core.demo a=word"), ("core.demo a=word".to_owned(), Vec::new()));
    assert_eq!(split_pairs("x=[1] y=[2]"), [("x".to_owned(), json!("[1] y=[2]"))], "a list goes to the last bracket");
}

#[test]
fn documents_are_brought_into_long_form() {
    let text = "tasks:\n  a:\n    action: core.local cmd=date\n    with: x, y in <% ctx(l) %>\n    next:\n      - publish: p=1 q=\"2\"\n        do: b, noop\n  b:\n    join: 2\n    input: <% ctx() %>\n";
    let document = Document::load(text).unwrap();
    let definition = Definition::read(&document);
    let a = &definition.tasks["a"];
    assert_eq!(a.action.as_deref(), Some("core.local cmd=date"), "a bare word is no parameter");
    let with = a.with.as_ref().unwrap();
    assert_eq!(with.names, ["x", "y"]);
    assert_eq!(with.expression, "<% ctx(l) %>");
    assert_eq!(a.next[0].targets, ["b", "noop"]);
    let published: Vec<(&str, &Value)> = a.next[0].publish.iter().map(|p| (p.name.as_str(), &p.value)).collect();
    assert_eq!(published, [("p", &json!(1)), ("q", &json!("2"))]);
    assert_eq!(definition.tasks["b"].join, Some(Join::Count(2)));
    assert_eq!(definition.tasks["b"].input, json!("<% ctx() %>"));
}

#[test]
fn what_is_no_definition_is_told_apart() {
    assert_eq!(Document::load(""), Err(LoadError::Nothing));
    assert_eq!(Document::load("hello"), Err(LoadError::NotAMapping));
    let twice = Document::load("tasks:\n  a: {action: x.y}\n  a: {action: x.z}\n").unwrap_err();
    assert_eq!(twice.to_string(), "Failed to load workflow definition because found duplicate key \"a\".");
    for text in ["tasks: [a]", "tasks: {a: }", "tasks: {a: x}", "tasks: {a: {next: {do: b}}}", "tasks: {a: {retry: 3}}"]
    {
        assert!(matches!(Document::load(text), Err(LoadError::Shape(..))), "{text}");
    }
}
