use proptest::prelude::*;
use serde_json::json;

use super::*;

#[test]
fn plain_scalars_as_pyyaml_reads_them() {
    for (text, expected) in [
        ("yes", json!(true)),
        ("on", json!(true)),
        ("Off", json!(false)),
        ("y", json!("y")),
        ("0777", json!(511)),
        ("1_000", json!(1000)),
        ("0o17", json!("0o17")),
        ("0x1F", json!(31)),
        ("0b101", json!(5)),
        ("12:30:45", json!(45045)),
        ("1:30.5", json!(90.5)),
        ("2001-12-14", json!("2001-12-14")),
        ("2001-12-14 21:59:43.10 -05:00", json!("2001-12-14T21:59:43.100000-05:00")),
        ("1e3", json!("1e3")),
        ("1.0e+3", json!(1000.0)),
        ("1.5", json!(1.5)),
        ("-7", json!(-7)),
        ("~", json!(null)),
        ("NULL", json!(null)),
        ("'yes'", json!("yes")),
        ("\"a\\n\"", json!("a\n")),
        ("!!str 12", json!("12")),
        ("1.2.3", json!("1.2.3")),
        ("-", json!([null])),
        ("", json!(null)),
        ("08", json!("08")),
    ] {
        assert_eq!(load(text), Ok(expected), "{text:?}");
    }
}

#[test]
fn mappings_merges_and_aliases() {
    let text = "base: &b {x: 1, y: 2}\nother:\n  <<: *b\n  y: 3\nlist: [*b, a]\n1: one\ntrue: t\nd: 1\nd: 2\n";
    let expected = json!({
        "base": {"x": 1, "y": 2}, "other": {"x": 1, "y": 3}, "list": [{"x": 1, "y": 2}, "a"],
        "1": "one", "true": "t", "d": 2,
    });
    assert_eq!(load(text), Ok(expected));
}

#[test]
fn errors_name_the_place() {
    let error = load("name: bad\n  runner_type: [\n").unwrap_err();
    assert!(error.line >= 2, "{error}");
    assert!(load("a: !python/object:os.system x").unwrap_err().message.contains("constructor"));
    assert!(load("--- a\n--- b\n").is_err());
}

#[test]
fn bombs_are_refused() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..9 {
        let items = vec![format!("*a{}", level - 1); 10].join(", ");
        text.push_str(&format!("a{level}: &a{level} [{items}]\n"));
    }
    assert!(load(&text).unwrap_err().message.contains("nodes"));
    assert!(load(&"[".repeat(1000)).is_err());
}

/// Recursion over values (dropping, writing) must stay within a small stack: aliases can't nest past the bound either.
#[test]
fn aliases_do_not_nest_past_the_bound() {
    let mut text = String::from("- &a0 [x]\n");
    for level in 1..150 {
        text.push_str(&format!("- &a{level} {}*a{}{}\n", "[".repeat(90), level - 1, "]".repeat(90)));
    }
    assert!(load(&text).unwrap_err().message.contains("nested deeper"));
}

/// An anchor around everything would keep a copy of everything.
#[test]
fn nested_anchors_do_not_multiply_the_text() {
    let open: String = (0..90).map(|level| format!("&a{level} [")).collect();
    let text = format!("{open}{}{}", "x, ".repeat(20_000), "]".repeat(90));
    assert!(load(&text).unwrap_err().message.contains("nodes"));
}

#[test]
fn dumps_as_pyyaml() {
    for (value, text) in [
        (json!({"a": 1, "b": [1, {"c": null, "d": []}], "e": {}}), "a: 1\nb:\n- 1\n- c: null\n  d: []\ne: {}\n"),
        (json!({"s": "yes", "t": "a: b", "u": "", "v": "it's"}), "s: 'yes'\nt: 'a: b'\nu: ''\nv: it's\n"),
        (json!({"m": "a\nb\n"}), "m: 'a\n\n  b\n\n  '\n"),
        (json!({"u": "é"}), "u: \"\\xE9\"\n"),
        (json!({"f": 1.0, "g": 1e20, "h": 0.5}), "f: 1.0\ng: 1.0e+20\nh: 0.5\n"),
        (json!([[1, 2], {"x": {"y": 1}}]), "- - 1\n  - 2\n- x:\n    y: 1\n"),
        (json!("x"), "x\n...\n"),
        (json!([]), "[]\n"),
        (json!({"d": "2001-12-14", "n": "12", "o": "on"}), "d: '2001-12-14'\nn: '12'\no: 'on'\n"),
    ] {
        assert_eq!(dump(&value), text);
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let text = prop_oneof!["[ -~]{0,12}", "[a-z \n'\":#-]{0,150}", "\\PC{0,8}", any::<String>()];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1e6..1e6f64).prop_map(Value::from),
        text.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((text.clone(), inner), 0..5)
                .prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_dumped_is_loaded_again(value in any_json()) {
        let text = dump(&value);
        prop_assert_eq!(load(&text), Ok(value), "{}", text);
    }

    #[test]
    fn any_text_is_a_value_or_an_error(text in "\\PC{0,60}|[-:\\[\\]{}&*!|>'\"%@# \na-c0-9.]{0,60}") {
        let _ = load(&text);
    }
}

#[test]
fn quoted_scalars_may_stand_to_the_left() {
    let text = "a:\n  - b: '{{\n        x |\n  it''s }}'\n  - c: \"d\\\n e\\\"\n f\"\n";
    assert_eq!(load(text), Ok(json!({"a": [{"b": "{{ x | it's }}"}, {"c": "de\" f"}]})));
}

#[test]
fn unicode_is_kept_where_it_is_wanted() {
    assert_eq!(super::dump_unicode(&json!(["é", "ß: ü", "a\u{7}é😀"])), "- é\n- 'ß: ü'\n- \"a\\aé\\U0001F600\"\n");
    assert_eq!(super::dump(&json!(["é"])), "- \"\\xE9\"\n");
}
