//! Asks an upstream for the usage of a stream in the caller's place: the one edit of a relayed request
//! that no caller sees (CONTRACT 3.3). What comes of it is taken out again by `dialect/unasked.rs`.

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::chunks::{Chunks, Edit};
use crate::dialect::scan::Found;
use crate::dialect::{Dialect, Operation};
use crate::limits::STREAM_OPTIONS_BYTES_MAX;

const NAME: &str = "include_usage";

/// Whether streams of an operation tell of their usage when they are asked, and not otherwise.
pub fn must_be_asked(dialect: Dialect, operation: Operation) -> bool {
    dialect == Dialect::OpenAi && matches!(operation, Operation::ChatCompletion | Operation::TextCompletion)
}

/// The edit that asks; `None` where the caller has asked, or has written what we do not read.
pub fn edit(found: &Found, body: &Chunks) -> Option<Edit> {
    let Some(span) = &found.stream_options else {
        let at = found.object_start;
        let comma = if found.empty_object { "" } else { "," };
        let with = format!("\"stream_options\":{{\"{NAME}\":true}}{comma}");
        return Some(Edit { span: at..at, with: Bytes::from(with) });
    };
    if span.len() > STREAM_OPTIONS_BYTES_MAX {
        return None;
    }
    let mut options = match serde_json::from_slice(&body.slice(span.clone()).flatten()).ok()? {
        Value::Object(options) => options,
        Value::Null => Map::new(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => return None,
    };
    if options.get(NAME) == Some(&Value::Bool(true)) {
        return None;
    }
    options.insert(NAME.to_owned(), Value::Bool(true));
    Some(Edit { span: span.clone(), with: Bytes::from(Value::Object(options).to_string()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::scan::Scanner;

    #[test]
    fn bodies() {
        for (body, expected) in [
            (r#"{"model":"m"}"#, Some(r#"{"stream_options":{"include_usage":true},"model":"m"}"#)),
            (
                r#"{"a":{"stream_options":1}}"#,
                Some(r#"{"stream_options":{"include_usage":true},"a":{"stream_options":1}}"#),
            ),
            (r#"{"stream_options" : null ,"n":1}"#, Some(r#"{"stream_options" : {"include_usage":true} ,"n":1}"#)),
            (r#"{"n":1,"stream_options":{ }}"#, Some(r#"{"n":1,"stream_options":{"include_usage":true}}"#)),
            (
                r#"{"stream_options":{"include_obfuscation":false,"include_usage":false}}"#,
                Some(r#"{"stream_options":{"include_obfuscation":false,"include_usage":true}}"#),
            ),
            (r#"{"stream_options":{"include_usage":true}}"#, None),
            (r#"{"stream_options":"yes"}"#, None),
            (r#"{"stream_options":7}"#, None),
            (r#"{"stream_options":[{}]}"#, None),
        ] {
            for size in [1, 3, body.len()] {
                let (mut scanner, mut chunks) = (Scanner::new(), Chunks::new());
                for chunk in body.as_bytes().chunks(size) {
                    scanner.push(chunk);
                    chunks.push(Bytes::copy_from_slice(chunk));
                }
                let made = edit(&scanner.finish().unwrap(), &chunks).map(|edit| chunks.splice(&[edit]).flatten());
                assert_eq!(made.as_deref(), expected.map(str::as_bytes), "{body} in pieces of {size}");
            }
        }
        let long = format!(r#"{{"stream_options":{{"x":"{}"}}}}"#, "y".repeat(STREAM_OPTIONS_BYTES_MAX));
        let mut scanner = Scanner::new();
        scanner.push(long.as_bytes());
        assert!(edit(&scanner.finish().unwrap(), &Chunks::from(Bytes::from(long))).is_none());
    }
}
