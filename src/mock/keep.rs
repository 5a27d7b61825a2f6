//! Files, batches and stored responses: what the mock keeps between requests, in memory.
//!
//! Bounded in number, the oldest give way. A batch is done the moment it is made.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use serde_json::{Value, json};

use super::Mock;
use super::call::Call;
use super::openai::CREATED;
use super::reply::Reply;
use crate::limits::{MOCK_FILE_BYTES_MAX, MOCK_STORE_MAX};

/// Things by id, in the order in which they came.
#[derive(Debug)]
pub struct Shelf<T>(Mutex<VecDeque<(String, T)>>);

impl<T> Default for Shelf<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone> Shelf<T> {
    /// A thing of the same id is replaced.
    pub fn put(&self, id: &str, thing: T) {
        let mut things = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        things.retain(|(have, _)| have != id);
        things.push_back((id.to_owned(), thing));
        if things.len() > MOCK_STORE_MAX {
            things.pop_front();
        }
    }

    pub fn get(&self, id: &str) -> Option<T> {
        let things = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        things.iter().find(|(have, _)| have == id).map(|(_, thing)| thing.clone())
    }

    pub fn remove(&self, id: &str) -> bool {
        let mut things = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = things.len();
        things.retain(|(have, _)| have != id);
        things.len() < before
    }

    /// Newest first, as the API lists.
    pub fn all(&self) -> Vec<T> {
        let things = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        things.iter().rev().map(|(_, thing)| thing.clone()).collect()
    }
}

#[derive(Debug, Default)]
pub struct Kept {
    pub files: Shelf<(Value, Bytes)>,
    pub batches: Shelf<Value>,
    pub responses: Shelf<Value>,
    /// Of batches that have no output file.
    pub results: Shelf<Bytes>,
    made: AtomicU64,
}

impl Kept {
    pub fn next(&self, kind: &str) -> String {
        format!("{kind}-mock-{}", self.made.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

pub fn add_file(mock: &Mock, call: &Call) -> Reply {
    let Some(file) = call.file("file") else {
        return Reply::error(
            400,
            "invalid_request_error",
            "missing_required_parameter",
            "Missing required parameter: 'file'.",
        );
    };
    let id = mock.kept.next("file");
    let object = json!({
        "id": id, "object": "file", "bytes": file.content.len(), "created_at": CREATED, "filename": file.filename,
        "purpose": call.field("purpose"), "status": "processed", "expires_at": null,
    });
    mock.kept.files.put(&id, (object.clone(), bounded(&file.content)));
    Reply::json(&object)
}

/// As much of a file as is kept.
pub fn bounded(content: &[u8]) -> Bytes {
    Bytes::copy_from_slice(content.get(..MOCK_FILE_BYTES_MAX).unwrap_or(content))
}

pub fn add_batch(mock: &Mock, _: &Call, request: &Value) -> Reply {
    let input = request.get("input_file_id").and_then(Value::as_str).unwrap_or_default();
    let Some((_, content)) = mock.kept.files.get(input) else {
        return missing("file", input);
    };
    let lines = content.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count();
    let id = mock.kept.next("batch");
    let member = |name: &str| request.get(name).cloned().unwrap_or_default();
    let object = json!({
        "id": id, "object": "batch", "endpoint": member("endpoint"), "errors": null, "input_file_id": input,
        "completion_window": member("completion_window"), "status": "completed", "output_file_id": input,
        "error_file_id": null, "created_at": CREATED, "completed_at": CREATED, "metadata": member("metadata"),
        "request_counts": { "total": lines, "completed": lines, "failed": 0 },
    });
    mock.kept.batches.put(&id, object.clone());
    Reply::json(&object)
}

pub fn cancel_batch(mock: &Mock, id: &str) -> Reply {
    let Some(mut batch) = mock.kept.batches.get(id) else { return missing("batch", id) };
    if let Some(members) = batch.as_object_mut() {
        members.insert("status".into(), json!("cancelled"));
    }
    mock.kept.batches.put(id, batch.clone());
    Reply::json(&batch)
}

/// `None`: not a path of this kind.
pub fn get(mock: &Mock, path: &[&str]) -> Option<Reply> {
    let kept = &mock.kept;
    Some(match path {
        ["files"] => list(kept.files.all().into_iter().map(|(object, _)| object).collect()),
        ["files", id] => kept.files.get(id).map_or_else(|| missing("file", id), |(object, _)| Reply::json(&object)),
        ["files", id, "content"] => match kept.files.get(id) {
            Some((_, content)) => Reply::bytes("application/octet-stream", content),
            None => missing("file", id),
        },
        ["batches"] => list(kept.batches.all()),
        ["batches", id] => kept.batches.get(id).map_or_else(|| missing("batch", id), |object| Reply::json(&object)),
        ["responses", id] => {
            kept.responses.get(id).map_or_else(|| missing("response", id), |object| Reply::json(&object))
        }
        ["responses", id, "input_items"] if kept.responses.get(id).is_some() => list(Vec::new()),
        _ => return None,
    })
}

pub fn delete(mock: &Mock, path: &[&str]) -> Option<Reply> {
    let (kind, id, gone) = match path {
        ["files", id] => ("file", id, mock.kept.files.remove(id)),
        ["responses", id] => ("response", id, mock.kept.responses.remove(id)),
        _ => return None,
    };
    Some(if gone { Reply::json(&json!({ "id": id, "object": kind, "deleted": true })) } else { missing(kind, id) })
}

fn list(data: Vec<Value>) -> Reply {
    let id = |object: Option<&Value>| object.and_then(|object| object.get("id")).cloned();
    Reply::json(&json!({
        "object": "list", "first_id": id(data.first()), "last_id": id(data.last()), "has_more": false, "data": data,
    }))
}

fn missing(kind: &str, id: &str) -> Reply {
    Reply::error(404, "invalid_request_error", "not_found", &format!("No such {kind} object: {id}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shelf_is_bounded() {
        let shelf = Shelf::default();
        for i in 0..=MOCK_STORE_MAX {
            shelf.put(&i.to_string(), i);
        }
        assert_eq!((shelf.get("0"), shelf.get("1")), (None, Some(1)));
        assert_eq!(shelf.all().len(), MOCK_STORE_MAX);
        shelf.put("1", 7);
        assert_eq!((shelf.get("1"), shelf.all()[0]), (Some(7), 7));
        assert!(shelf.remove("1") && !shelf.remove("1"));
    }
}
