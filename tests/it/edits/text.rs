//! What a text of the file says, what a write is to change in it, and what hands do to it.
//!
//! Reads the file line by line, and not with the product's own reader.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use http::Method;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde_json::{Value, json};

use crate::support::client::Reply;
use crate::support::keys::Keys;

/// What stands in the file.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct State {
    /// Weights by id.
    pub keys: BTreeMap<String, u32>,
    pub notes: Vec<u32>,
}

impl State {
    pub fn of(text: &str) -> Self {
        let mut state = Self::default();
        for line in text.lines().map(str::trim) {
            if let Some(note) = line.strip_prefix("// note ") {
                state.notes.push(note.parse().unwrap());
            }
            if line.starts_with("{\"id\"") {
                let end = line.rfind('}').unwrap();
                let key: Value = serde_json::from_str(&line[..=end]).unwrap_or_else(|error| panic!("{error}: {line}"));
                let weight = u32::try_from(key["weight"].as_u64().unwrap()).unwrap();
                let twice = state.keys.insert(key["id"].as_str().unwrap().to_owned(), weight);
                assert_eq!(twice, None, "{text}");
            }
        }
        state
    }

    pub fn weight(&self, id: &str) -> Option<u32> {
        self.keys.get(id).copied()
    }
}

/// One write of an API: the key, what it weighed, what it is to weigh. `None`: it is not there.
#[derive(Clone, Debug)]
pub struct Write {
    pub id: String,
    pub old: Option<u32>,
    pub new: Option<u32>,
    pub tag: Option<String>,
}

impl Write {
    pub async fn send(&self, keys: &Keys) -> Result<Reply, String> {
        let id = self.id.as_str();
        let (method, path, body) = match (self.old, self.new) {
            // Every other one brings a secret of its own, which is sealed.
            (None, Some(weight)) => {
                let is_sealed = id.ends_with(['1', '3', '5', '7', '9']);
                let value = if is_sealed { format!("sk-literal-{id}-0123456789") } else { "env.FIRST_KEY".to_owned() };
                (Method::POST, "", json!({"id": id, "name": id, "value": value, "weight": weight}))
            }
            (_, Some(weight)) => (Method::PUT, id, json!({"weight": weight})),
            (_, None) => (Method::DELETE, id, Value::Null),
        };
        keys.call(method, path, self.tag.as_deref(), &body).await
    }

    /// Read-your-write: what was answered is what the next read shows.
    pub async fn is_seen(&self, keys: &Keys, reply: &Reply) {
        let read = keys.get(&self.id).await;
        match self.new {
            Some(weight) => {
                assert_eq!((&read.json()["weight"], &reply.json()["weight"]), (&json!(weight), &json!(weight)));
                assert_eq!(read.header("etag"), reply.header("etag"));
            }
            None => assert_eq!(read.status, 404, "{}", read.text()),
        }
    }
}

/// What a hand did in the midst of writes.
pub enum Hand {
    Nothing,
    /// Put `after` in the place of a text that it had read; `displaced` stood there by then.
    Replaced {
        before: State,
        after: State,
        displaced: State,
    },
    /// Appended to the file that it found open; that one had been displaced meanwhile.
    Noted {
        note: u32,
        displaced: bool,
    },
}

/// All of them at the same time. Each looks for itself where nobody else may have changed its key.
pub async fn at_once(writes: &[Write], keys: &Keys, look: bool) -> Vec<Result<Reply, String>> {
    let tasks: Vec<_> = writes
        .iter()
        .map(|write| {
            let (write, keys) = (write.clone(), keys.clone());
            tokio::spawn(async move {
                let reply = write.send(&keys).await;
                if look
                    && let Ok(reply) = &reply
                    && reply.status == 200
                {
                    write.is_seen(&keys, reply).await;
                }
                reply
            })
        })
        .collect();
    let mut replies = Vec::new();
    for task in tasks {
        replies.push(task.await.unwrap());
    }
    replies
}

pub fn hash(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex().to_string()
}

/// The text with another weight of the hand's own key.
pub fn by_hand(text: &str, weight: u32) -> String {
    let at = text.find(r#"{"id": "hand""#).unwrap();
    let start = at + text[at..].find("\"weight\": ").unwrap() + "\"weight\": ".len();
    let end = start + text[start..].find(|c: char| !c.is_ascii_digit()).unwrap();
    format!("{}{weight}{}", &text[..start], &text[end..])
}

/// In place; says whether another file stands there by now.
pub fn append(path: &Path, note: u32) -> bool {
    let mut file = std::fs::OpenOptions::new().append(true).open(path).unwrap();
    file.write_all(format!("// note {note}\n").as_bytes()).unwrap();
    std::fs::metadata(path).map_or(true, |now| now.ino() != file.metadata().unwrap().ino())
}

/// As an editor that writes beside and renames, with the difference that this one looks at what it
/// has displaced.
pub fn exchange(path: &Path, weight: u32, thinking: Duration) -> Hand {
    let text = std::fs::read_to_string(path).unwrap();
    std::thread::sleep(thinking);
    let (next, new) = (path.with_file_name("by-hand.json"), by_hand(&text, weight));
    std::fs::write(&next, &new).unwrap();
    renameat_with(CWD, &next, CWD, path, RenameFlags::EXCHANGE).unwrap();
    let displaced = State::of(&std::fs::read_to_string(&next).unwrap());
    std::fs::remove_file(next).unwrap();
    Hand::Replaced { before: State::of(&text), after: State::of(&new), displaced }
}
