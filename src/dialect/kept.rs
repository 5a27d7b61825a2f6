//! Things that an upstream keeps — files, batches, stored responses, conversations — as paths, bodies
//! and answers name them. Knows no keys and no owners.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use http::Method;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::Dialect;
use crate::limits::{FILES_NAMED_MAX, ID_BYTES_MAX};

/// Paths below which an upstream keeps what it made, behind the version prefix.
const COLLECTIONS: [&str; 13] = [
    "/files",
    "/batches",
    "/responses",
    "/conversations",
    "/messages/batches",
    "/uploads",
    "/vector_stores",
    "/containers",
    "/videos",
    "/fine_tuning/jobs",
    "/threads",
    "/assistants",
    UPLOAD,
];

/// Where uploads of Gemini's begin and go on; which one is said by the query.
pub const UPLOAD: &str = "/upload/v1beta/files";

/// In an answer: the id of the file that came of an upload in parts.
pub const FILE_ID: &str = "file.id";

/// Words that stand where an id would and are none.
const VERBS: [&str; 3] = ["compact", "input_tokens", "runs"];

/// What a path says of things that are kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Spot<'p> {
    /// Of [`COLLECTIONS`].
    pub root: &'static str,
    /// `None`: the collection itself, which makes one or lists them.
    pub id: Option<&'p str>,
    /// The path ends with the id.
    pub is_whole: bool,
    /// What stands behind the id.
    pub tail: &'p str,
}

impl<'p> Spot<'p> {
    pub fn of(suffix: &'p str) -> Option<Self> {
        let mut roots = COLLECTIONS.iter();
        let (root, rest) =
            roots.find_map(|root| Some((*root, suffix.strip_prefix(root).filter(|rest| at_word_end(rest))?)))?;
        let rest = rest.strip_prefix('/').unwrap_or(rest);
        let (id, is_whole, tail) = rest.split_once('/').map_or((rest, true, ""), |(id, tail)| (id, false, tail));
        let id = (!id.is_empty()).then_some(id);
        (!id.is_some_and(|id| VERBS.contains(&id))).then_some(Self { root, id, is_whole, tail })
    }

    /// What is named in the answer to a call. The outcome of a batch is files of the key that ran it.
    pub fn told(&self, method: &Method, dialect: Dialect) -> &'static [&'static str] {
        if dialect == Dialect::Gemini {
            let makes = *method == Method::POST || self.root == UPLOAD && *method == Method::PUT;
            return if self.id.is_none() && makes { &["name"] } else { &[] };
        }
        match (self.root.ends_with("/batches"), self.id, method) {
            (true, None, &Method::POST) => &["id", "output_file_id", "error_file_id"],
            (true, Some(_), _) => &["output_file_id", "error_file_id"],
            (false, None, &Method::POST) => &["id"],
            (false, Some(_), &Method::POST) if self.root == "/uploads" && self.tail == "complete" => &[FILE_ID],
            _ => &[],
        }
    }
}

fn at_word_end(rest: &str) -> bool {
    rest.is_empty() || rest.starts_with('/')
}

/// The members of an object in their order, one that is there twice as well: of two, nobody knows
/// which one an upstream takes.
struct Members<'b>(Vec<(String, &'b RawValue)>);

impl<'de: 'b, 'b> Deserialize<'de> for Members<'b> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct All;
        impl<'de> Visitor<'de> for All {
            type Value = Vec<(String, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(members)
            }
        }
        from.deserialize_map(All).map(Members)
    }
}

/// An id alone, or an object that holds it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Conversation {
    Id(Box<str>),
    Object { id: Box<str> },
}

const NAMES: [&[u8]; 4] =
    [b"\"input_file_id\"", b"\"training_file\"", b"\"previous_response_id\"", b"\"conversation\""];

/// Ids in a body. It is taken apart only where one of the names stands in it; `thoroughly`: also where
/// one may be written with escapes.
pub fn ids_named(body: &[u8], thoroughly: bool) -> Vec<Box<str>> {
    let has = |name: &[u8]| memchr::memmem::find(body, name).is_some();
    if !(NAMES.iter().any(|name| has(name)) || thoroughly && has(b"\\u00")) {
        return Vec::new();
    }
    let Ok(Members(members)) = serde_json::from_slice(body) else { return Vec::new() };
    let id = |(name, value): (String, &RawValue)| -> Option<Box<str>> {
        match &*name {
            "input_file_id" | "training_file" | "previous_response_id" => serde_json::from_str(value.get()).ok(),
            "conversation" => match serde_json::from_str(value.get()).ok()? {
                Conversation::Id(id) | Conversation::Object { id } => Some(id),
            },
            _ => None,
        }
    };
    let ids = members.into_iter().filter_map(id);
    ids.filter(|id| !id.is_empty() && id.len() <= ID_BYTES_MAX).collect()
}

/// Names of files in what a model is to read.
const FILE_NAMES: [&[u8]; 3] = [b"\"file_id\"", b"\"fileUri\"", b"\"file_uri\""];
/// Members of a body that hold what a model is to read.
const CONTENTS: [&str; 5] = ["messages", "input", "system", "contents", "requests"];
/// Kinds of a piece of content that name a file. Others may have a member of that name for themselves.
const FILE_KINDS: [&str; 5] = ["file", "input_file", "image_file", "input_image", "container_upload"];

/// Whether it is worth while to take a body apart for [`files_named`].
pub fn may_name_files(body: &[u8], thoroughly: bool) -> bool {
    let has = |name: &[u8]| memchr::memmem::find(body, name).is_some();
    FILE_NAMES.iter().any(|name| has(name)) || thoroughly && has(b"\\u00")
}

/// Files in what a model is to read. `thoroughly`: also where a name is written with escapes.
pub fn files_named(body: &[u8], thoroughly: bool) -> Vec<Box<str>> {
    if !may_name_files(body, thoroughly) {
        return Vec::new();
    }
    let Ok(Value::Object(body)) = serde_json::from_slice(body) else { return Vec::new() };
    let mut found = Vec::new();
    for content in CONTENTS.iter().filter_map(|name| body.get(*name)) {
        files_in(content, false, &mut found);
    }
    found
}

/// Nesting is bounded by the reader of the JSON.
fn files_in(content: &Value, is_file: bool, found: &mut Vec<Box<str>>) {
    match content {
        Value::Array(items) => items.iter().for_each(|item| files_in(item, false, found)),
        Value::Object(members) => {
            let text = |name: &str| members.get(name).and_then(Value::as_str);
            let kind = text("type").unwrap_or_default();
            // What a tool was called with is the tool's affair.
            if kind.ends_with("tool_use") || found.len() > FILES_NAMED_MAX {
                return;
            }
            let id = text("file_id").filter(|_| is_file || FILE_KINDS.contains(&kind));
            let uri = text("fileUri").or_else(|| text("file_uri"));
            let of_uri = uri.and_then(|uri| Some(uri.split_once("/v1beta/files/")?.1)).filter(|id| !id.contains('/'));
            let ids = [id, of_uri].into_iter().flatten();
            found.extend(ids.filter(|id| !id.is_empty() && id.len() <= ID_BYTES_MAX).map(Box::from));
            for (name, member) in members {
                if !matches!(&**name, "args" | "arguments" | "functionCall" | "functionResponse") {
                    files_in(member, name == "file", found);
                }
            }
        }
        _ => {}
    }
}

/// The first member of this name whose text is whole. What was made is named before anything in it.
pub fn text_of<'t>(text: &'t [u8], name: &str) -> Option<&'t str> {
    if name == FILE_ID {
        let at = memchr::memmem::find(text, b"\"file\"")?;
        let file = text.get(at + b"\"file\"".len()..)?.trim_ascii_start().strip_prefix(b":")?;
        return text_of(file.trim_ascii_start().strip_prefix(b"{")?, "id");
    }
    let quoted = format!("\"{name}\"");
    for at in memchr::memmem::find_iter(text, quoted.as_bytes()) {
        let Some(rest) = text.get(at + quoted.len()..).and_then(|rest| rest.trim_ascii_start().strip_prefix(b":"))
        else {
            continue;
        };
        // `null`, where nothing was made.
        let rest = rest.trim_ascii_start().strip_prefix(b"\"")?;
        let id = std::str::from_utf8(rest.get(..memchr::memchr(b'"', rest)?)?).ok()?;
        let is_plain = id.bytes().all(|b| b.is_ascii_graphic() && b != b'\\');
        return (is_plain && (1..=ID_BYTES_MAX).contains(&id.len())).then_some(id);
    }
    None
}

/// A list as an upstream gives it; what is not looked at stays as it was written.
#[derive(Deserialize, Serialize)]
pub struct List<'b> {
    #[serde(borrow)]
    data: Vec<&'b RawValue>,
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
struct Item<'b> {
    #[serde(borrow)]
    id: Cow<'b, str>,
}

impl<'b> List<'b> {
    pub fn read(text: &'b [u8]) -> Option<Self> {
        serde_json::from_slice(text).ok()
    }

    /// Of all items in their order; empty where one has none.
    pub fn ids(&self) -> Vec<Box<str>> {
        let id = |item: &&RawValue| serde_json::from_str::<Item<'_>>(item.get()).map(|item| item.id.into());
        self.data.iter().map(|item| id(item).unwrap_or_default()).collect()
    }

    /// The list with no other items than these.
    pub fn only(mut self, is_kept: impl Fn(usize) -> bool) -> Option<Vec<u8>> {
        let ids = self.ids();
        let mut kept = ids.iter().enumerate().filter(|(at, _)| is_kept(*at)).map(|(_, id)| id.to_string());
        let (first, last) = (kept.next(), kept.next_back());
        let last = last.or_else(|| first.clone());
        if first.is_none() {
            // There is no id of the caller's own behind which the next page could begin.
            self.rest.entry("has_more".to_owned()).and_modify(|more| *more = Value::Bool(false));
        }
        let mut places = 0..;
        self.data.retain(|_| places.next().is_some_and(&is_kept));
        // What is another's is not named: the next page begins behind the last of one's own.
        for (name, id) in [("first_id", first), ("last_id", last)] {
            if let Some(known) = self.rest.get_mut(name) {
                *known = id.map_or(Value::Null, Value::String);
            }
        }
        serde_json::to_vec(&self).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_paths_name() {
        for (suffix, expected) in [
            ("/files", Some(("/files", None, true))),
            ("/files/", Some(("/files", None, true))),
            ("/files/file-1", Some(("/files", Some("file-1"), true))),
            ("/files/file-1/content", Some(("/files", Some("file-1"), false))),
            ("/filesystem", None),
            ("/responses/resp_1/input_items", Some(("/responses", Some("resp_1"), false))),
            ("/responses/compact", None),
            ("/messages/batches/b/results", Some(("/messages/batches", Some("b"), false))),
            ("/fine_tuning/jobs/j", Some(("/fine_tuning/jobs", Some("j"), true))),
            ("/chat/completions", None),
            ("/models/files", None),
        ] {
            let spot = Spot::of(suffix).map(|spot| (spot.root, spot.id, spot.is_whole));
            assert_eq!(spot, expected, "{suffix}");
        }
    }

    #[test]
    fn what_bodies_name() {
        for (body, expected) in [
            (r#"{"model":"m","input":"x"}"#, &[][..]),
            (r#"{"input_file_id":"file-1","endpoint":"/v1/x"}"#, &["file-1"]),
            (r#"{"previous_response_id":"resp_1","conversation":"conv_1"}"#, &["resp_1", "conv_1"]),
            (r#"{"conversation":{"id":"conv_2"}}"#, &["conv_2"]),
            (r#"{"conversation":null,"previous_response_id":null}"#, &[]),
            (r#"{"input":"\"previous_response_id\": \"no\"","x":{"previous_response_id":"no"}}"#, &[]),
            (r#"{"previous_response_id":7}"#, &[]),
            (r#"{"previous_response_id":7,"input_file_id":"file-2"}"#, &["file-2"]),
            (r#"{"previous_response_id":"a","input":{},"previous_response_id":"b"}"#, &["a", "b"]),
            (r#"{"previous_response_id":"a\u0062"}"#, &["ab"]),
        ] {
            let ids = ids_named(body.as_bytes(), false);
            assert_eq!(ids.iter().map(|id| &**id).collect::<Vec<_>>(), expected, "{body}");
        }
        let escaped = br#"{"previous\u005fresponse_id":"resp_1"}"#;
        assert_eq!((ids_named(escaped, false).len(), ids_named(escaped, true).len()), (0, 1));
    }

    #[test]
    fn files_that_a_model_is_to_read() {
        for (body, expected) in [
            (r#"{"messages":[{"content":[{"type":"file","file":{"file_id":"f1"}}]}]}"#, &["f1"][..]),
            (
                r#"{"input":[{"content":[{"type":"input_file","file_id":"f2"},{"type":"input_image","file_id":"f3"}]}]}"#,
                &["f2", "f3"],
            ),
            (r#"{"messages":[{"content":[{"type":"document","source":{"type":"file","file_id":"f4"}}]}]}"#, &["f4"]),
            (r#"{"contents":[{"parts":[{"fileData":{"fileUri":"https://h/v1beta/files/f5"}}]}]}"#, &["f5"]),
            (r#"{"contents":[{"parts":[{"fileData":{"fileUri":"gs://bucket/object"}}]}]}"#, &[]),
            (r#"{"messages":[{"content":"{\"type\":\"file\",\"file_id\":\"no\"}"}]}"#, &[]),
            (r#"{"messages":[{"content":[{"type":"tool_use","input":{"type":"file","file_id":"no"}}]}]}"#, &[]),
            (r#"{"tools":[{"type":"file","file_id":"no"}],"input":"x"}"#, &[]),
            (r#"{"input":[{"file_id":7}]}"#, &[]),
            (r#"{"input":"#, &[]),
        ] {
            let ids = files_named(body.as_bytes(), false);
            assert_eq!(ids.iter().map(|id| &**id).collect::<Vec<_>>(), expected, "{body}");
        }
        let escaped = br#"{"input":[{"type":"input_file","file\u005fid":"f1"}]}"#;
        assert_eq!((files_named(escaped, false).len(), files_named(escaped, true).len()), (0, 1));
    }

    #[test]
    fn what_answers_name() {
        for (answer, name, expected) in [
            (r#"{"object":"file", "id" : "file-1","x":{"id":"no"}}"#, "id", Some("file-1")),
            ("event: response.created\ndata: {\"response\":{\"id\":\"resp_1\"", "id", Some("resp_1")),
            (r#"{"id":"file-"#, "id", None),
            (r#"{"output_file_id":null,"error_file_id":"file-2"}"#, "output_file_id", None),
            (r#"{"output_file_id":null,"error_file_id":"file-2"}"#, "error_file_id", Some("file-2")),
            (r#"{"id":"a\"b"}"#, "id", None),
            (r#"{"id":"upload_1","filename":"x","file":{"id":"file-1"}}"#, FILE_ID, Some("file-1")),
            (r#"{"id":"upload_1","file":null}"#, FILE_ID, None),
            (r#"["id"]"#, "id", None),
            (r#"{"id":""}"#, "id", None),
        ] {
            assert_eq!(text_of(answer.as_bytes(), name), expected, "{answer}");
        }
    }

    #[test]
    fn lists_are_cut() {
        let text = br#"{"object":"list","data":[{"id":"a","n":1.0},{"id":"b"},{"id":"c"}],"first_id":"a","last_id":"c","has_more":false}"#;
        for (kept, expected) in [
            (
                &[0, 1, 2][..],
                r#"{"data":[{"id":"a","n":1.0},{"id":"b"},{"id":"c"}],"first_id":"a","has_more":false,"last_id":"c","object":"list"}"#,
            ),
            (&[1], r#"{"data":[{"id":"b"}],"first_id":"b","has_more":false,"last_id":"b","object":"list"}"#),
            (&[], r#"{"data":[],"first_id":null,"has_more":false,"last_id":null,"object":"list"}"#),
        ] {
            let made = List::read(text).unwrap().only(|at| kept.contains(&at)).unwrap();
            assert_eq!(String::from_utf8(made).unwrap(), expected);
        }
        let more = br#"{"data":[{"id":"a"},{"id":"b"}],"last_id":"b","has_more":true}"#;
        let made = List::read(more).unwrap().only(|at| at == 0).unwrap();
        assert_eq!(String::from_utf8(made).unwrap(), r#"{"data":[{"id":"a"}],"has_more":true,"last_id":"a"}"#);
        let made = List::read(more).unwrap().only(|_| false).unwrap();
        assert_eq!(String::from_utf8(made).unwrap(), r#"{"data":[],"has_more":false,"last_id":null}"#);
        assert!(List::read(b"{\"data\":7}").is_none());
    }
}
