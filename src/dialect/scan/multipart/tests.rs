//! The form scanner: what clients send, what is refused, in every cut.

use super::*;
use crate::chunks::Chunks;
use proptest::prelude::*;

const BOUNDARY: &str = "----WebKit7MA4";

fn scanner(within: usize) -> FormScanner {
    let boundary = Boundary::from_content_type(&format!("multipart/form-data; boundary={BOUNDARY}")).unwrap();
    FormScanner::new(&boundary, within)
}

fn scan_within(body: &[u8], sizes: &[usize], within: usize) -> Result<(Option<Field>, bool), FormFault> {
    let mut scanner = scanner(within);
    let mut rest = body;
    let mut sizes = sizes.iter().cycle();
    while !rest.is_empty() {
        let (chunk, behind) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
        let state = scanner.push(chunk);
        assert_eq!(state == FormState::Known, scanner.model().is_some() && !matches!(state, FormState::Refused(_)));
        rest = behind;
    }
    let stream = scanner.stream();
    scanner.finish().map(|model| (model, stream))
}

fn scan(body: &[u8]) -> Result<Option<Field>, FormFault> {
    scan_within(body, &[body.len().max(1)], 64 * 1024).map(|(model, _)| model)
}

fn plain(name: &str, value: &str) -> String {
    format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
}

fn file(content: &[u8]) -> Vec<u8> {
    let head = format!(
        "--{BOUNDARY}\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a \\\"model\\\".wav\"\r\n\
         Content-Type: audio/wav\r\n\r\n"
    );
    [head.as_bytes(), content, b"\r\n"].concat()
}

fn end() -> String {
    format!("--{BOUNDARY}--\r\n")
}

#[test]
fn boundaries() {
    let good = [
        ("multipart/form-data; boundary=abc", "abc"),
        ("Multipart/Form-Data;charset=utf-8; Boundary=\"a b'()+_,-./:=?\"", "a b'()+_,-./:=?"),
        ("multipart/form-data;boundary=\"a\\-b\" ; x=y", "a-b"),
    ];
    for (value, expected) in good {
        assert_eq!(Boundary::from_content_type(value).map(|b| b.as_str().to_owned()), Ok(expected.to_owned()));
    }
    let long = format!("multipart/form-data; boundary={}", "b".repeat(71));
    let bad = [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=a; boundary=b",
        "multipart/form-data; boundary=\"a",
        "multipart/form-data; boundary=\"a\" b",
        "multipart/form-data; boundary=a b",
        "multipart/form-data; boundary=\"a \"",
        "multipart/form-data; boundary=a{b",
        "multipart/form-data; boundary*=utf-8''a",
        "multipart/mixed; boundary=a",
        "application/json",
        &long,
    ];
    for value in bad {
        assert_eq!(Boundary::from_content_type(value), Err(FormFault::ContentType), "{value}");
    }
}

#[test]
fn the_model_is_replaced_in_place() {
    let body = [file(b"\x00\xff\r\n--not").as_slice(), plain("model", "whisper").as_bytes(), end().as_bytes()].concat();
    let mut scanner = scanner(64 * 1024);
    assert_eq!(scanner.push(&body), FormState::Known);
    assert!(scanner.model().unwrap().edit_form("whisper").is_none());
    let edit = scanner.model().unwrap().edit_form("azure-1").unwrap();
    let out = Chunks::from(Bytes::from(body.clone())).splice(&[edit]).flatten();
    let (upload, model) = (file(b"\x00\xff\r\n--not"), plain("model", "azure-1"));
    assert_eq!(&out[..], &[&upload, model.as_bytes(), end().as_bytes()].concat()[..]);
    assert!(scanner.model().unwrap().edit_form("a\r\n--x").is_some_and(|edit| edit.with.is_empty()));
}

#[test]
fn refusals() {
    use FormFault::{BadModel, Duplicate, Malformed, PartHeader, Truncated};
    let model = plain("model", "m");
    let head = |lines: &str| format!("--{BOUNDARY}\r\n{lines}\r\n\r\nm\r\n{}", end());
    let table = [
        (String::new(), Truncated),
        (model.clone(), Truncated),
        (format!("{model}--{BOUNDARY}"), Truncated),
        (format!("preamble\r\n{model}{}", end()), Malformed),
        (format!("{model}{}{model}{}", end(), end()), Malformed),
        (format!("{model}{model}{}", end()), Duplicate),
        (format!("{model}{}{}", plain("model", ""), end()), Duplicate),
        // A delimiter to those who take a bare line break for one.
        (format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"f\"\r\n\r\nx\n{model}{}", end()), Malformed),
        (format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"f\"\r\n\r\nx\r{model}{}", end()), Malformed),
        (format!("--{BOUNDARY}x\r\n\r\n"), Malformed),
        (format!("--{BOUNDARY}\nContent-Disposition: form-data; name=\"model\"\n\nm\n--{BOUNDARY}--\n"), Malformed),
        (head("Content-Disposition: form-data; name=\"f\"\nContent-Disposition: form-data; name=\"model\""), Malformed),
        (head("Content-Disposition: form-data; name=\"f\"; name=\"model\""), Malformed),
        (head("Content-Disposition: form-data; name=\"f\"; name*=utf-8''model"), Malformed),
        (head("Content-Disposition: form-data; name*0=\"mod\"; name*1=\"el\""), Malformed),
        (
            head("Content-Disposition: form-data; name=\"f\"\r\nContent-Disposition: form-data; name=\"model\""),
            Malformed,
        ),
        (head("Content-Disposition: form-data;\r\n name=\"model\""), Malformed),
        (head("Content-Disposition: attachment; name=\"model\""), Malformed),
        (head("Content-Disposition: form-data"), Malformed),
        (head("Content-Type: text/plain"), Malformed),
        (head("Content-Disposition: form-data; name=\"model\"; filename=\"m\""), BadModel),
        (head("Content-Disposition: form-data; name=\"model\"\r\nContent-Transfer-Encoding: base64"), BadModel),
        (format!("{}{}", plain("model", "a\nb"), end()), BadModel),
        (format!("{}{}", plain("model", &format!("a--{BOUNDARY}")), end()), BadModel),
        (format!("{}{}", plain("model", &"m".repeat(MODEL_NAME_BYTES_MAX + 1)), end()), BadModel),
        (head(&format!("X: {}", "x".repeat(PART_HEADER_BYTES_MAX))), PartHeader),
    ];
    for (body, fault) in &table {
        for sizes in [body.len().max(1), 1, 7] {
            assert_eq!(scan_within(body.as_bytes(), &[sizes], 64 * 1024), Err(*fault), "{body:.300}");
        }
    }
    println!("{} refusals", table.len());
}

#[test]
fn names_are_read_as_clients_write_them() {
    for lines in [
        "Content-Disposition: form-data; name=\"model\"",
        "content-disposition:form-data;name=model",
        "Content-Type: text/plain; charset=utf-8\r\nContent-Disposition: form-data; name=\"model\"",
        "Content-Disposition: form-data; name=\"mo\\del\"\r\nContent-Transfer-Encoding: 8bit",
    ] {
        let body = format!("--{BOUNDARY} \t\r\n{lines}\r\n\r\ngpt é\r\n{}", end());
        assert_eq!(scan(body.as_bytes()).unwrap().unwrap().name, "gpt é", "{lines}");
    }
    let longest = "m".repeat(MODEL_NAME_BYTES_MAX);
    let body = format!("{}{}", plain("model", &longest), end());
    for size in [1, 5, body.len()] {
        let (model, _) = scan_within(body.as_bytes(), &[size], 64 * 1024).unwrap();
        assert_eq!(model.unwrap().name, longest);
    }
    assert_eq!(scan(format!("{}{}", plain("models", "x"), end()).as_bytes()), Ok(None));
}

#[test]
fn a_model_that_comes_too_late() {
    let before = file(&[b'x'; 400]);
    let start = before.len() + plain("model", "").len() - 2;
    let body = [before.as_slice(), plain("model", "m").as_bytes(), end().as_bytes()].concat();
    for sizes in [[1], [13], [body.len()]] {
        assert_eq!(scan_within(&body, &sizes, start).unwrap().0.unwrap().span, start..start + 1);
        assert_eq!(scan_within(&body, &sizes, start - 1), Err(FormFault::ModelTooLate));
    }
}

proptest! {
    #[test]
    fn every_cut_reads_the_same(
        pieces in prop::collection::vec(
            prop::sample::select(vec!["\r\n", "\r", "\n", "--", "------WebKit7MA4", "----WebKit7MA", "-", "x", "\u{e9}"]), 0..12),
        first in any::<bool>(), streams in prop::sample::select(vec!["true", "false", "TRUE", ""]),
        sizes in prop::collection::vec(1usize..30, 1..6),
    ) {
        let upload = file(pieces.concat().as_bytes());
        let fields = format!("{}{}", plain("model", "whisper-1"), plain("stream", streams));
        let body = match first {
            true => [fields.as_bytes(), &upload, end().as_bytes()].concat(),
            false => [&upload, fields.as_bytes(), end().as_bytes()].concat(),
        };
        let whole = scan_within(&body, &[body.len()], 64 * 1024);
        prop_assert_eq!(&scan_within(&body, &sizes, 64 * 1024), &whole);
        prop_assert_eq!(&scan_within(&body, &[1], 64 * 1024), &whole);
        if let Ok((model, stream)) = whole {
            let field = model.unwrap();
            prop_assert_eq!(&body[field.span], b"whisper-1");
            prop_assert_eq!(stream, streams.eq_ignore_ascii_case("true"));
        }
    }

    #[test]
    fn random_bytes_never_panic(body in prop::collection::vec(any::<u8>(), 0..200), size in 1usize..50) {
        let _ = scan_within(&body, &[size], 100);
        let _ = scan_within(&[plain("model", "m").as_bytes(), &body].concat(), &[size], 100);
    }
}
