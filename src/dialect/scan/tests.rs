//! The JSON scanner against a naive reader, in every cut, on good and on broken bodies.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::value::RawValue;

use super::*;
use crate::chunks::Chunks;
use crate::limits::{BODY_DEPTH_MAX, FALLBACKS_MAX, MODEL_NAME_BYTES_MAX};

fn scan(body: &[u8]) -> Result<Found, ScanError> {
    let mut scanner = Scanner::new();
    scanner.push(body);
    scanner.finish()
}

fn scan_cut(body: &[u8], sizes: &[usize]) -> Result<Found, ScanError> {
    let mut scanner = Scanner::new();
    let mut rest = body;
    let mut sizes = sizes.iter().cycle();
    while !rest.is_empty() {
        let (chunk, behind) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
        scanner.push(chunk);
        rest = behind;
    }
    scanner.finish()
}

fn fault(body: impl AsRef<[u8]>) -> ScanFault {
    scan(body.as_ref()).expect_err("refused").fault
}

fn spliced(body: &str, model: Option<&str>) -> String {
    let found = scan(body.as_bytes()).expect("accepted");
    let chunks = Chunks::from(Bytes::copy_from_slice(body.as_bytes()));
    String::from_utf8(chunks.splice(&found.edits(model)).flatten().to_vec()).unwrap()
}

// --- A naive reader: recursive, by index, over the whole body --------------------------------------

struct Naive<'a>(&'a [u8]);

type Members = Vec<(std::ops::Range<usize>, std::ops::Range<usize>)>;

impl Naive<'_> {
    fn space(&self, mut at: usize) -> usize {
        while matches!(self.0.get(at), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            at += 1;
        }
        at
    }

    fn text(&self, mut at: usize) -> Option<usize> {
        if self.0.get(at) != Some(&b'"') {
            return None;
        }
        loop {
            at += 1;
            match self.0.get(at)? {
                b'"' => return Some(at + 1),
                b'\\' => {
                    at += 1;
                    match self.0.get(at)? {
                        b'u' if self.0.get(at + 1..at + 5)?.iter().all(u8::is_ascii_hexdigit) => at += 4,
                        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {}
                        _ => return None,
                    }
                }
                _ => {}
            }
        }
    }

    fn value(&self, at: usize, depth: usize) -> Option<usize> {
        match self.0.get(at)? {
            b'"' => self.text(at),
            b'{' => self.object(at, depth).map(|(_, end)| end),
            b'[' => {
                if depth == BODY_DEPTH_MAX {
                    return None;
                }
                let mut at = self.space(at + 1);
                if self.0.get(at) == Some(&b']') {
                    return Some(at + 1);
                }
                loop {
                    at = self.space(self.value(at, depth + 1)?);
                    match self.0.get(at)? {
                        b',' => at = self.space(at + 1),
                        b']' => return Some(at + 1),
                        _ => return None,
                    }
                }
            }
            _ => {
                let rest = &self.0[at..];
                let scalar = |b: &u8| b.is_ascii_alphanumeric() || b"+-.".contains(b);
                let length = rest.iter().take_while(|b| scalar(b)).count();
                let good = serde_json::from_slice::<&RawValue>(&rest[..length]).is_ok();
                good.then_some(at + length)
            }
        }
    }

    fn object(&self, at: usize, depth: usize) -> Option<(Members, usize)> {
        if depth == BODY_DEPTH_MAX || self.0.get(at) != Some(&b'{') {
            return None;
        }
        let mut members = Vec::new();
        let mut at = self.space(at + 1);
        if self.0.get(at) == Some(&b'}') {
            return Some((members, at + 1));
        }
        loop {
            let end = self.text(at)?;
            let colon = self.space(end);
            if self.0.get(colon) != Some(&b':') {
                return None;
            }
            let start = self.space(colon + 1);
            let value_end = self.value(start, depth + 1)?;
            members.push((at..end, start..value_end));
            at = self.space(value_end);
            match self.0.get(at)? {
                b',' => at = self.space(at + 1),
                b'}' => return Some((members, at + 1)),
                _ => return None,
            }
        }
    }

    /// What the scanner must find; `None` where it must refuse.
    fn read(&self) -> Option<Found> {
        let open = self.space(0);
        let (members, end) = self.object(open, 0)?;
        if self.space(end) != self.0.len() {
            return None;
        }
        let mut found = Found {
            model: None,
            model_start: 0,
            stream: false,
            fallbacks: None,
            stream_options: None,
            object_start: open + 1,
            empty_object: false,
        };
        let mut seen = Vec::new();
        let mut others = 0;
        for (index, (name, span)) in members.iter().enumerate() {
            let value = &self.0[span.clone()];
            let name: String = serde_json::from_slice(&self.0[name.clone()]).unwrap_or_default();
            if name.eq_ignore_ascii_case("model") && name != "model" {
                return None;
            }
            others += usize::from(name != "fallbacks");
            if ["model", "stream", "fallbacks"].contains(&name.as_str()) {
                if seen.contains(&name) {
                    return None;
                }
                seen.push(name.clone());
            }
            match name.as_str() {
                "model" => {
                    let name: String = serde_json::from_slice(value).ok()?;
                    found.model = Some(Field { span: span.clone(), name });
                    found.model_start = members[index].0.start;
                }
                "stream" => found.stream = serde_json::from_slice::<Option<bool>>(value).ok()?.unwrap_or(false),
                "fallbacks" => {
                    let names = serde_json::from_slice::<Option<Vec<String>>>(value).ok()?.unwrap_or_default();
                    let comma = |from: usize| self.space(from);
                    let cut = match (index, members.get(index + 1)) {
                        (0, None) => members[0].0.start..span.end,
                        (0, Some(_)) => members[0].0.start..comma(span.end) + 1,
                        (_, _) => comma(members[index - 1].1.end)..span.end,
                    };
                    found.fallbacks = Some(Fallbacks { cut, names });
                }
                _ => {}
            }
        }
        found.empty_object = others == 0;
        Some(found)
    }
}

// --- Bodies ----------------------------------------------------------------------------------------

fn space() -> impl Strategy<Value = &'static str> {
    prop_oneof![4 => Just(""), 1 => Just(" "), 1 => Just("\n\t "), 1 => Just("\r\n")]
}

fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "[a-z0-9/:@ {}\\[\\],]{0,12}",
        Just(r"\n".to_owned()),
        Just(r#"\""#.to_owned()),
        Just(r"\\".to_owned()),
        Just(r"\u00e9".to_owned()),
        Just(r"\ud83d\ude00".to_owned()),
        Just(r#"\"model\":\"other\","#.to_owned()),
        Just("é€😀".to_owned()),
        "[a-z]{30,60}",
    ];
    prop::collection::vec(piece, 0..5).prop_map(|pieces| format!("\"{}\"", pieces.concat()))
}

fn scalar() -> impl Strategy<Value = String> {
    let fixed = prop::sample::select(vec![
        "true",
        "false",
        "null",
        "0",
        "-0",
        "-1.5e+10",
        "1E400",
        "12345678901234567890123456789",
        "0.1",
        "3e-7",
    ]);
    prop_oneof![2 => fixed.prop_map(str::to_owned), 3 => text()]
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => prop::sample::select(vec![
            r#""model""#, r#""mod\u0065l""#, r#""\u006D\u006fdel""#, r#""stream""#, r#""fallbacks""#,
            r#""fallb\u0061cks""#, r#""str\u0065am""#, r#""messages""#, r#""models""#, r#""""#, r#""Model""#,
            r#""model ""#, r#""\\model""#,
        ]).prop_map(str::to_owned),
        3 => text(),
    ]
}

fn value() -> impl Strategy<Value = String> {
    scalar().prop_recursive(4, 24, 5, |inner| {
        prop_oneof![
            prop::collection::vec((space(), inner.clone(), space()), 0..4).prop_map(|items| {
                let items: Vec<_> = items.iter().map(|(a, v, b)| format!("{a}{v}{b}")).collect();
                format!("[{}]", items.join(","))
            }),
            prop::collection::vec((name(), space(), inner), 0..4).prop_map(|members| object(&members)),
        ]
    })
}

fn object(members: &[(String, &'static str, String)]) -> String {
    let members: Vec<_> =
        members.iter().map(|(name, gap, value)| format!("{gap}{name}{gap}:{gap}{value}{gap}")).collect();
    format!("{{{}}}", members.join(","))
}

/// A member that routing reads, with a value that mostly fits.
fn ours() -> impl Strategy<Value = (String, &'static str, String)> {
    let names = prop::collection::vec(text(), 0..3).prop_map(|names| format!("[{}]", names.join(" , ")));
    prop_oneof![
        (Just(r#""model""#.to_owned()), space(), text()),
        (
            Just(r#""stream""#.to_owned()),
            space(),
            prop::sample::select(vec!["true", "false", "null"]).prop_map(str::to_owned)
        ),
        (Just(r#""fallbacks""#.to_owned()), space(), names),
        (text(), space(), value()),
        (name(), space(), value()),
    ]
}

fn body() -> impl Strategy<Value = String> {
    let shape = prop_oneof![3 => ours(), 2 => (text(), space(), value())];
    (space(), prop::collection::vec(shape, 0..5), space())
        .prop_map(|(a, members, b)| format!("{a}{}{b}", object(&members)))
}

/// A body with one byte changed, put in, taken out, or the end cut off.
fn broken() -> impl Strategy<Value = Vec<u8>> {
    (body(), any::<prop::sample::Index>(), 0u8..4, prop::sample::select(b"{}[]\",:\\ 0-.etfnu1mx".to_vec())).prop_map(
        |(body, at, how, byte)| {
            let mut body = body.into_bytes();
            let at = at.index(body.len());
            match how {
                0 => body[at] = byte,
                1 => body.insert(at, byte),
                2 => drop(body.remove(at)),
                _ => body.truncate(at),
            }
            body
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn finds_what_a_naive_reader_finds(body in body()) {
        prop_assert_eq!(scan(body.as_bytes()).ok(), Naive(body.as_bytes()).read());
    }

    #[test]
    fn refuses_what_a_naive_reader_refuses(body in broken()) {
        prop_assert_eq!(scan(&body).ok(), Naive(&body).read());
    }

    #[test]
    fn every_cut_reads_the_same(body in broken(), sizes in prop::collection::vec(1usize..40, 1..6)) {
        let whole = scan(&body);
        prop_assert_eq!(&scan_cut(&body, &sizes), &whole);
        prop_assert_eq!(&scan_cut(&body, &[1]), &whole);
    }

    #[test]
    fn what_is_accepted_is_json(body in broken()) {
        // What is left to the upstream: control characters and broken UTF-8 inside strings.
        let plain: Vec<u8> = body.iter().map(|b| if (0x20..0x80).contains(b) { *b } else { b' ' }).collect();
        let json = serde_json::from_slice::<serde::de::IgnoredAny>(&plain).is_ok();
        prop_assert!(json || scan(&plain).is_err());
    }

    #[test]
    fn random_bytes_never_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = scan(&body);
    }

    #[test]
    fn edits_change_our_members_and_nothing_else(body in body(), model in "[a-z/\"\\\\]{1,8}") {
        let Ok(found) = scan(body.as_bytes()) else { return Ok(()) };
        type Tree = BTreeMap<String, Box<RawValue>>;
        let raw = |tree: &Tree| tree.iter().map(|(k, v)| (k.clone(), v.get().to_owned())).collect::<BTreeMap<_, _>>();
        let mut before = raw(&serde_json::from_str::<Tree>(&body).unwrap());
        before.remove("fallbacks");
        before.remove("model");
        for wanted in [None, Some(model.as_str())] {
            let chunks = Chunks::from(Bytes::copy_from_slice(body.as_bytes()));
            let out = chunks.splice(&found.edits(wanted)).flatten();
            let mut after = raw(&serde_json::from_slice::<Tree>(&out).expect("still JSON"));
            let named = after.remove("model").map(|token| serde_json::from_str::<String>(&token).unwrap());
            let expected = wanted.map(str::to_owned).or_else(|| found.model.as_ref().map(|field| field.name.clone()));
            prop_assert_eq!(named, expected);
            prop_assert_eq!(&after, &before);
        }
        let chunks = Chunks::from(Bytes::copy_from_slice(body.as_bytes()));
        let out = chunks.splice(&found.edits_instead("\"in its place\":1")).flatten();
        let mut after = raw(&serde_json::from_slice::<Tree>(&out).expect("still JSON"));
        prop_assert_eq!(after.remove("in its place").is_some(), found.model.is_some());
        prop_assert_eq!(&after, &before);
    }

    #[test]
    fn string_tokens_come_back(text in any::<String>()) {
        prop_assert_eq!(serde_json::from_slice::<String>(&json_string(&text)).unwrap(), text);
    }
}

#[test]
fn refusals() {
    use Member::{Fallbacks, Model, Stream};
    use ScanFault::{
        BadText, Duplicate, NotAnObject, Syntax, TooDeep, TooManyFallbacks, TrailingBytes, Truncated, WrongType,
    };
    let deep = |levels: usize| format!("{{\"a\":{}{}}}", "[".repeat(levels - 1), "]".repeat(levels - 1));
    let many = |count: usize| format!("{{\"fallbacks\":[{}]}}", vec!["\"m\""; count].join(","));
    let long = |length: usize| format!("{{\"model\":\"{}\"}}", "m".repeat(length));
    let table: Vec<(String, ScanFault)> = [
        ("", NotAnObject),
        ("  \n", NotAnObject),
        ("[]", NotAnObject),
        ("null", NotAnObject),
        ("\u{feff}{}", NotAnObject),
        ("{", Truncated),
        (r#"{"model":"x"#, Truncated),
        (r#"{"model":"x"}}"#, TrailingBytes),
        (r#"{"model":"x"} {"model":"y"}"#, TrailingBytes),
        (r#"{"model":"x",}"#, Syntax),
        (r#"{,"model":"x"}"#, Syntax),
        (r#"{"model" "x"}"#, Syntax),
        (r#"{'model':"x"}"#, Syntax),
        (r#"{/**/"model":"x"}"#, Syntax),
        (r#"{"a":NaN}"#, Syntax),
        (r#"{"a":01}"#, Syntax),
        (r#"{"a":[1}}"#, Syntax),
        (r#"{"a":"\x"}"#, Syntax),
        (r#"{"a":"\u12"}"#, Syntax),
        (r#"{"a":tru}"#, Syntax),
        (r#"{"model":"x","model":"x"}"#, Duplicate(Model)),
        (r#"{"model":"x","mod\u0065l":"y"}"#, Duplicate(Model)),
        (r#"{"model":"x","messages":[],"\u006d\u006F\u0064\u0065\u006c":"y"}"#, Duplicate(Model)),
        (r#"{"model":"x","MODEL":"y"}"#, Duplicate(Model)),
        (r#"{"mode\u004c":"y"}"#, Duplicate(Model)),
        (r#"{"stream":true,"stream":false}"#, Duplicate(Stream)),
        (r#"{"fallbacks":[],"fallbacks":[]}"#, Duplicate(Fallbacks)),
        (r#"{"model":null}"#, WrongType(Model)),
        (r#"{"model":["x"]}"#, WrongType(Model)),
        (r#"{"model":1}"#, WrongType(Model)),
        (r#"{"model":"\ud800"}"#, BadText(Model)),
        ("{\"model\":\"a\nb\"}", BadText(Model)),
        (r#"{"stream":"true"}"#, WrongType(Stream)),
        (r#"{"stream":1}"#, WrongType(Stream)),
        (r#"{"fallbacks":"x"}"#, WrongType(Fallbacks)),
        (r#"{"fallbacks":["x",{"model":"y"}]}"#, WrongType(Fallbacks)),
        (r#"{"fallbacks":[["x"]]}"#, WrongType(Fallbacks)),
    ]
    .map(|(body, fault)| (body.to_owned(), fault))
    .into_iter()
    .chain([
        (deep(BODY_DEPTH_MAX + 1), TooDeep),
        (many(FALLBACKS_MAX + 1), TooManyFallbacks),
        (long(MODEL_NAME_BYTES_MAX + 1), BadText(Model)),
        (long(100 * MODEL_NAME_BYTES_MAX), BadText(Model)),
    ])
    .collect();
    for (body, expected) in &table {
        assert_eq!(fault(body), *expected, "{body:.80}");
    }
    assert_eq!(fault(b"{\"model\":\"\xff\"}"), BadText(Model));
    for body in [deep(BODY_DEPTH_MAX), many(FALLBACKS_MAX), long(MODEL_NAME_BYTES_MAX)] {
        assert!(scan(body.as_bytes()).is_ok(), "{body:.40}");
    }
    println!("{} refusals", table.len() + 1);
}

#[test]
fn splices() {
    let table: &[(&str, Option<&str>, &str)] = &[
        (r#"{"model":"a","n":1}"#, Some("b"), r#"{"model":"b","n":1}"#),
        (r#"{"model":"a","n":1}"#, None, r#"{"model":"a","n":1}"#),
        (r#"{ "mod\u0065l" : "\u0061" }"#, Some("a"), r#"{ "mod\u0065l" : "\u0061" }"#),
        (r#"{ "mod\u0065l" : "\u0061" }"#, Some("b\"c"), r#"{ "mod\u0065l" : "b\"c" }"#),
        (r#"{}"#, Some("b"), r#"{"model":"b"}"#),
        (r#"{ "n":1}"#, Some("b"), r#"{"model":"b", "n":1}"#),
        (r#"{"fallbacks":["x"]}"#, Some("b"), r#"{"model":"b"}"#),
        (r#"{"fallbacks":["x"],"n":1}"#, Some("b"), r#"{"model":"b","n":1}"#),
        (r#"{"fallbacks":["x"] , "model":"a"}"#, Some("b"), r#"{ "model":"b"}"#),
        (r#"{"model":"a" , "fallbacks":["x"] }"#, Some("b"), r#"{"model":"b"  }"#),
        (r#"{"model":"a","fallbacks":null,"n":1}"#, None, r#"{"model":"a","n":1}"#),
        (r#"{"fallbacks":[]}"#, None, r#"{}"#),
        (
            r#"{"a":{"model":"q","fallbacks":["z"]},"model":"a"}"#,
            Some("b"),
            r#"{"a":{"model":"q","fallbacks":["z"]},"model":"b"}"#,
        ),
    ];
    for (body, model, expected) in table {
        assert_eq!(spliced(body, *model), *expected, "{body}");
    }
}

#[test]
fn a_refusal_names_the_member_and_the_place_but_no_content() {
    let error = GatewayError::from(scan(br#"{"model":"x","model":"sk-hidden"}"#).expect_err("refused"));
    assert_eq!(error.public.param.as_deref(), Some("model"));
    assert_eq!(error.public.code, "invalid_value");
    assert_eq!(error.public.message, "`model` stands there twice (byte 19)");
}
