//! Edits by table: what a careful person would have typed.

use super::*;
use crate::config::Tree;

/// A JSON text as a value to be written.
fn new(text: &str) -> NewValue {
    NewValue::from(Tree::parse(text).unwrap().root())
}

fn set(pointer: &str, value: &str) -> Edit {
    Edit::Set { pointer: pointer.to_owned(), value: new(value) }
}

fn remove(pointer: &str) -> Edit {
    Edit::Remove { pointer: pointer.to_owned() }
}

fn append(pointer: &str, value: &str) -> Edit {
    Edit::Append { pointer: pointer.to_owned(), value: new(value) }
}

#[track_caller]
fn check(text: &str, edits: &[Edit], expected: &str) {
    let tree = Tree::parse(text).unwrap();
    let made = apply(&tree, edits).unwrap();
    assert_eq!(made, expected, "\n--- made\n{made}\n--- expected\n{expected}");
    Tree::parse(&made).unwrap();
    if !text.contains('\r') {
        // Line ends and a byte order mark change nothing about it.
        let windows = |text: &str| format!("\u{feff}{}", text.replace('\n', "\r\n"));
        let made = apply(&Tree::parse(&windows(text)).unwrap(), edits).unwrap();
        assert_eq!(made, windows(expected));
    }
}

#[track_caller]
fn refused(text: &str, edits: &[Edit], pointer: &str, fault: EditFault) {
    let error = apply(&Tree::parse(text).unwrap(), edits).unwrap_err();
    assert_eq!(error, EditError { pointer: pointer.to_owned(), fault });
}

#[test]
fn scalars_in_place() {
    let text = "{\n  // one\n  \"a\" : 1.50 , // first\n\t\"b\":\"x\"\n}\n";
    check(text, &[set("/a", "2")], &text.replace("1.50", "2"));
    check(text, &[set("/b", "\"ü\\n\"")], &text.replace("\"x\"", "\"ü\\n\""));
    check(text, &[set("/a", "null"), set("/b", "true")], &text.replace("1.50", "null").replace("\"x\"", "true"));
    check("1", &[set("", "2")], "2");
    check(r#"{"a~/b": {"": 1}}"#, &[set("/a~0~1b/", "2")], r#"{"a~/b": {"": 2}}"#);
}

#[test]
fn equal_values_change_nothing() {
    let text = "{\"a\": 1.0, \"b\": [1e0, -0, 0.10], /* c */ \"c\": {\"x\": \"\\u0041\", \"y\": [ ]},}";
    for edit in [
        set("/a", "1"),
        set("/b", "[1, 0, 0.1]"),
        set("/c", r#"{"y": [], "x": "A"}"#),
        set("", r#"{"c": {"y": [], "x": "A"}, "b": [1.0, 0, 1e-1], "a": 10e-1}"#),
    ] {
        check(text, &[edit], text);
    }
    check(text, &[], text);
}

#[test]
fn members_are_added_in_the_manner_of_the_object() {
    check("{\"a\": 1}", &[set("/b", "2")], "{\"a\": 1, \"b\": 2}");
    check("{\"a\":1}", &[set("/b", "2"), set("/c", "[1,2]")], "{\"a\":1,\"b\":2,\"c\":[1,2]}");
    check("{ \"a\" : 1 }", &[set("/b", "{\"c\":1}")], "{ \"a\" : 1, \"b\" : { \"c\" : 1 } }");
    check("{\n\t\"a\": 1\n}", &[set("/b", "2")], "{\n\t\"a\": 1,\n\t\"b\": 2\n}");
    check("{\n  \"a\": 1,\n}", &[set("/b", "2"), set("/c", "3")], "{\n  \"a\": 1,\n  \"b\": 2,\n  \"c\": 3,\n}");
    check("{\n  \"a\": 1 // one\n}", &[set("/b", "2")], "{\n  \"a\": 1, // one\n  \"b\": 2\n}");
    check("{\n  \"a\": 1 /* x */ , // one\n}", &[set("/b", "2")], "{\n  \"a\": 1 /* x */ , // one\n  \"b\": 2,\n}");
    // Below the last member, above what belongs to none.
    check(
        "{\n  \"a\": 1,\n\n  // \"old\": 2,\n}",
        &[set("/b", "2")],
        "{\n  \"a\": 1,\n  \"b\": 2,\n\n  // \"old\": 2,\n}",
    );
    // Commas in front.
    check("{ \"a\": 1\n, \"b\": 2\n}", &[set("/c", "3")], "{ \"a\": 1\n, \"b\": 2\n, \"c\": 3\n}");
    // The bracket on the last line.
    check("{\n  \"a\": 1 }", &[set("/b", "2")], "{\n  \"a\": 1,\n  \"b\": 2 }");
    // A comment to the end of the line swallows nothing.
    check("[1, 2 // two\n]", &[append("", "3")], "[1, 2, // two\n3\n]");
}

#[test]
fn a_key_looks_like_its_siblings() {
    let one_line = r#"{
  "providers": {
    "openai": {"keys": [{"name": "main", "value": "env.A"}]},
  },
}
"#;
    check(
        one_line,
        &[append("/providers/openai/keys", r#"{"name":"second","value":{"value":"sealed:v1:x"},"models":["a","b"]}"#)],
        &one_line.replace(
            "env.A\"}",
            r#"env.A"}, {"name": "second", "value": {"value": "sealed:v1:x"}, "models": ["a", "b"]}"#,
        ),
    );
    let broken = r#"{
    "providers": {
        "openai": {
            "keys": [
                {
                    "name": "main",
                    "value": "env.A",
                    "models": ["gpt-4o", "gpt-4o-mini"]
                }
            ]
        }
    }
}
"#;
    check(
        broken,
        &[append("/providers/openai/keys", r#"{"name":"b","value":{"value":"sealed:v1:x"},"models":["a"]}"#)],
        &broken.replace(
            "                }\n",
            r#"                },
                {
                    "name": "b",
                    "value": {"value": "sealed:v1:x"},
                    "models": ["a"]
                }
"#,
        ),
    );
    check(
        broken,
        &[set("/providers/groq", r#"{"keys":[{"name":"b","value":"env.B"}]}"#)],
        &broken.replace(
            "            ]\n        }\n",
            r#"            ]
        },
        "groq": {
            "keys": [
                {
                    "name": "b",
                    "value": "env.B"
                }
            ]
        }
"#,
        ),
    );
    let hugging = "{\"keys\": [{\n  \"name\": \"a\"\n}]}";
    check(
        hugging,
        &[append("/keys", r#"{"name":"b"}"#)],
        "{\"keys\": [{\n  \"name\": \"a\"\n}, {\n  \"name\": \"b\"\n}]}",
    );
}

#[test]
fn the_first_item() {
    let text = |keys: &str| format!("{{\n  \"a\": {{\"keys\": {keys}}},\n  \"b\": 1\n}}\n");
    check(&text("[]"), &[append("/a/keys", "1"), append("/a/keys", "2")], &text("[1, 2]"));
    check(&text("[ ]"), &[append("/a/keys", r#"{"name": "x"}"#)], &text(r#"[{"name": "x"}]"#));
    check(&text("{}"), &[set("/a/keys/x", "1"), set("/a/keys/y", "{}")], &text(r#"{"x": 1, "y": {}}"#));
    check(&text("[ /* none */ ]"), &[append("/a/keys", "1")], &text("[ /* none */ 1 ]"));
    check(
        "{}\n",
        &[set("/a", r#"{"b": {"c": [1], "d": 2}}"#)],
        "{\n  \"a\": {\n    \"b\": {\n      \"c\": [1],\n      \"d\": 2\n    }\n  }\n}\n",
    );
    check("{\n}", &[set("/a", "1")], "{\n  \"a\": 1\n}");
    check("{\n\t\"x\": [\n\t]\n}", &[append("/x", "1"), append("/x", "2")], "{\n\t\"x\": [\n\t\t1,\n\t\t2\n\t]\n}");
    check("{\n  \"x\": [ // none\n  ],\n}", &[append("/x", "1")], "{\n  \"x\": [ // none\n    1,\n  ],\n}");
    check(
        "{\n  \"x\": {\n      // none\n  }\n}",
        &[set("/x/a", "1")],
        "{\n  \"x\": {\n      // none\n      \"a\": 1\n  }\n}",
    );
    // Like the same list of another provider.
    let two = |keys: &str| {
        format!(
            "{{\n  \"providers\": {{\n    \"a\": {{\n      \"keys\": [\n        {{\"name\": \"x\"}}\n      ]\n    }},\n    \"b\": {{\n      \"keys\": {keys}\n    }}\n  }}\n}}"
        )
    };
    check(
        &two("[]"),
        &[append("/providers/b/keys", r#"{"name": "y", "id": "1"}"#)],
        &two("[\n        {\"name\": \"y\", \"id\": \"1\"}\n      ]"),
    );
}

#[test]
fn removal_takes_what_belongs_to_it() {
    let text = "{ // all\n  // above a\n  /* and */\n  \"a\": 1, // a\n\n  // free\n\n  \"b\": 2, /* b */\n  \"c\": 3 // c\n  // below\n}";
    check(text, &[remove("/a")], "{ // all\n\n  // free\n\n  \"b\": 2, /* b */\n  \"c\": 3 // c\n  // below\n}");
    check(
        text,
        &[remove("/b")],
        "{ // all\n  // above a\n  /* and */\n  \"a\": 1, // a\n\n  // free\n\n  \"c\": 3 // c\n  // below\n}",
    );
    check(
        text,
        &[remove("/c")],
        "{ // all\n  // above a\n  /* and */\n  \"a\": 1, // a\n\n  // free\n\n  \"b\": 2 /* b */\n  // below\n}",
    );
    check(text, &[remove("/a"), remove("/b"), remove("/c")], "{ // all\n\n  // free\n\n  // below\n}");
    // A comma at the end stays one.
    check("[\n  1,\n  2,\n]", &[remove("/1")], "[\n  1,\n]");
    check("[\n  1,\n  2,\n]", &[remove("/0")], "[\n  2,\n]");
    check("[\n  1,\n  2\n]", &[remove("/1")], "[\n  1\n]");
    check("[\n  1\n]", &[remove("/0")], "[\n]");
}

#[test]
fn removal_within_a_line() {
    let text = "[1,  2, 3]";
    for (gone, expected) in [
        (vec![0], "[2, 3]"),
        (vec![1], "[1,  3]"),
        (vec![2], "[1,  2]"),
        (vec![0, 1], "[3]"),
        (vec![1, 2], "[1]"),
        (vec![0, 2], "[2]"),
        (vec![0, 1, 2], "[]"),
    ] {
        let edits: Vec<_> = gone.iter().map(|at| remove(&format!("/{at}"))).collect();
        check(text, &edits, expected);
    }
    check("{ \"a\": 1 }", &[remove("/a")], "{}");
    check("{ \"a\": 1, \"b\": 2 }", &[remove("/a")], "{ \"b\": 2 }");
    check("{ \"a\": 1, \"b\": 2, }", &[remove("/b")], "{ \"a\": 1, }");
    check("[1 /* a */, /* b */ 2]", &[remove("/1")], "[1 /* a */]");
    check("[1 /* a */, /* b */ 2]", &[remove("/0")], "[/* b */ 2]");
    // Several to a line.
    check("[\n  1, 2,\n  3, 4\n]", &[remove("/0")], "[\n  2,\n  3, 4\n]");
    check("[\n  1, 2,\n  3, 4\n]", &[remove("/2"), remove("/3")], "[\n  1, 2\n]");
    check("[\n  1, 2,\n  3, 4\n]", &[remove("/1"), remove("/2")], "[\n  1,\n  4\n]");
    check("{ \"a\": 1\n, \"b\": 2\n, \"c\": 3\n}", &[remove("/a")], "{\n\"b\": 2\n, \"c\": 3\n}");
    check("{ \"a\": 1\n, \"b\": 2\n}", &[remove("/b")], "{ \"a\": 1\n}");
}

#[test]
fn removal_and_addition_together() {
    check("[1]", &[remove("/0"), append("", "2")], "[2]");
    check("[1, 2]", &[remove("/1"), append("", "3")], "[1, 3]");
    check("[\n  1,\n  2\n]", &[remove("/0"), remove("/1"), append("", "3")], "[\n  3\n]");
    check("{\n  \"a\": 1, // a\n  \"b\": 2\n}", &[remove("/a"), set("/c", "3")], "{\n  \"b\": 2,\n  \"c\": 3\n}");
    check("{\n  \"a\": 1,\n  \"b\": 2\n}", &[remove("/b"), set("/c", "3")], "{\n  \"a\": 1,\n  \"c\": 3\n}");
}

#[test]
fn a_whole_value_touches_only_what_differs() {
    let text = r#"{
  "keys": [
    // the first
    {"id": "1", "name": "a", "weight": 1.0, "models": ["x", /* why */ "y"]}, // old
    {"id": "2", "name": "b", "weight": 2},

    {
      "id": "3",
      "name": "c" // by hand
    }
  ]
}
"#;
    check(
        text,
        &[set(
            "/keys",
            r#"[{"id":"1","name":"a","weight":1,"models":["x","z","y"]},{"id":"3","name":"d","weight":0}]"#,
        )],
        r#"{
  "keys": [
    // the first
    {"id": "1", "name": "a", "weight": 1.0, "models": ["x", "z", /* why */ "y"]}, // old

    {
      "id": "3",
      "name": "d", // by hand
      "weight": 0
    }
  ]
}
"#,
    );
    check(text, &[set("/keys", "[]")], "{\n  \"keys\": []\n}\n");
    check(
        text,
        &[set("/keys/0", r#"{"name": "a", "id": "1", "models": ["y"]}"#)],
        &text.replace(r#", "weight": 1.0, "models": ["x", /* why */ "y"]"#, r#", "models": [/* why */ "y"]"#),
    );
    for (old, new, expected) in [
        ("[1, 2, 3]", "[0, 1, 2, 3]", "[0, 1, 2, 3]"),
        ("[ 1, 2 ]", "[ 0, 1, 2, 3 ]", "[ 0, 1, 2, 3 ]"),
        ("[\n  1,\n  3\n]", "[0, 1, 2, 3, 4]", "[\n  0,\n  1,\n  2,\n  3,\n  4\n]"),
        ("[\n  1, // one\n  2, // two\n]", "[2]", "[\n  2, // two\n]"),
        ("[\n  // one\n  1,\n]", "[0, 1]", "[\n  0,\n  // one\n  1,\n]"),
        ("[1, 2, 3]", "[3, 4]", "[3, 4]"),
        ("[1, 2, 3]", "[9, 3]", "[9, 3]"),
        ("[1,2,3]", "[1,2,2.5,3]", "[1,2,2.5,3]"),
    ] {
        check(old, &[set("", new)], expected);
    }
}

#[test]
fn another_kind_of_value() {
    let text = "{\n  \"value\": \"env.A\", // here\n  \"b\": {\n    // gone with it\n    \"c\": 1\n  }\n}";
    check(
        text,
        &[set("/value", r#"{"value": "sealed:v1:x"}"#)],
        &text.replace("\"env.A\"", "{\"value\": \"sealed:v1:x\"}"),
    );
    check(text, &[set("/b", "1")], "{\n  \"value\": \"env.A\", // here\n  \"b\": 1\n}");
    check(
        text,
        &[set("/value", r#"{"env_var": "env.A", "from_env": true, "deep": {"x": 1, "y": 2}}"#)],
        &text.replace(
            "\"env.A\"",
            "{\n    \"env_var\": \"env.A\",\n    \"from_env\": true,\n    \"deep\": {\n      \"x\": 1,\n      \"y\": 2\n    }\n  }",
        ),
    );
}

#[test]
fn edits_name_places_as_they_are_before() {
    check("[1, 2, 3]", &[remove("/0"), set("/1", "9"), remove("/2"), append("", "4")], "[9, 4]");
}

#[test]
fn what_cannot_be_done_is_refused() {
    use EditFault as F;
    let text = r#"{"a": {"b": [1, 2]}, "c": 1}"#;
    for (edits, pointer, fault) in [
        (vec![set("/x/y", "1")], "/x/y", F::NotFound),
        (vec![set("/c/y", "1")], "/c/y", F::NotFound),
        (vec![set("/a/b/2", "1")], "/a/b/2", F::NotFound),
        (vec![set("/a/b/-", "1")], "/a/b/-", F::NotFound),
        (vec![set("/a/b/00", "1")], "/a/b/00", F::NotFound),
        (vec![set("a", "1")], "a", F::NotFound),
        (vec![remove("/x")], "/x", F::NotFound),
        (vec![append("/x", "1")], "/x", F::NotFound),
        (vec![append("/a", "1")], "/a", F::NotAList),
        (vec![remove("")], "", F::Root),
        (vec![set("/c", "1"), set("/c", "2")], "/c", F::Overlap),
        (vec![set("/x", "1"), set("/x", "2")], "/x", F::Overlap),
        (vec![remove("/a"), set("/a/b", "1")], "/a/b", F::Overlap),
        (vec![set("/a/b/0", "1"), remove("/a")], "/a", F::Overlap),
        (vec![append("/a/b", "3"), set("/a/b", "[]")], "/a/b", F::Overlap),
        (vec![set("/a/b", "[]"), append("/a/b", "3")], "/a/b", F::Overlap),
        (vec![set("/a", "{}"), set("/a/x", "1")], "/a/x", F::Overlap),
    ] {
        refused(text, &edits, pointer, fault);
    }
    let put = |value: NewValue| vec![Edit::Set { pointer: "/c".to_owned(), value }];
    let secret = NewValue::Secret(Secret::new("sk-live"));
    let holder = NewValue::Object(vec![("k".to_owned(), NewValue::List(vec![secret]))]);
    assert!(!format!("{:?}", put(holder.clone())).contains("sk-live"));
    refused(text, &put(holder), "/c/k/0", F::Unsealed);
    let twice = NewValue::Object(vec![("k".to_owned(), NewValue::Null), ("k".to_owned(), NewValue::Null)]);
    refused(text, &put(twice), "/c", F::DuplicateMember);
    let deep = (0..100).fold(NewValue::Null, |value, _| NewValue::List(vec![value]));
    let error = apply(&Tree::parse(text).unwrap(), &put(deep)).unwrap_err();
    assert_eq!(error.fault, F::TooDeep);
    for number in ["", "-", "01", "1.", ".5", "+1", "1e", "0x1", "NaN", "Infinity", " 1", "1,2", "1 "] {
        refused(text, &put(NewValue::Number(number.to_owned())), "/c", F::BadNumber);
    }
    for number in ["0", "-0", "10", "0.5", "1e5", "1E+5", "-1.25e-10", "99999999999999999999"] {
        check(text, &put(NewValue::Number(number.to_owned())), &text.replace("\"c\": 1", &format!("\"c\": {number}")));
    }
}

/// The example file, as an API would edit it.
#[test]
fn the_example() {
    let text = include_str!("../../../config.example.json");
    check(
        text,
        &[append("/providers/openai/keys", r#"{"id":"1","name":"b","value":"env.B"}"#)],
        &text.replace(
            "env.OPENAI_API_KEY\"}",
            "env.OPENAI_API_KEY\"}, {\"id\": \"1\", \"name\": \"b\", \"value\": \"env.B\"}",
        ),
    );
    let cerebras = "    \"cerebras\": {\"keys\": [{\"name\": \"main\", \"value\": \"env.CEREBRAS_API_KEY\"}]},\n";
    check(
        text,
        &[set("/providers/my", r#"{"keys":[{"name":"b","value":"env.B"}]}"#)],
        &text.replace(
            cerebras,
            &format!("{cerebras}    \"my\": {{\"keys\": [{{\"name\": \"b\", \"value\": \"env.B\"}}]}},\n"),
        ),
    );
    check(text, &[remove("/providers/cerebras")], &text.replace(cerebras, ""));
    let mock = "    // Built in, needs no key: an echo with the wire format of OpenAI, for the first curl and for tests.\n    \"mock\": {},\n";
    check(text, &[remove("/providers/mock")], &text.replace(mock, ""));
}
