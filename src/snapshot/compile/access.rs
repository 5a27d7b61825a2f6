//! Keys by which callers are let in, and the listeners of management.
//!
//! A key whose value does not resolve stays in place without a digest: the door is there and shut.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use super::{Compiler, listen, references};
use crate::config::file::ManagementFile;
use crate::config::problem::pointer_to;
use crate::config::{Code, SecretRef};
use crate::limits::{KEY_NAME_CHARS_MAX, MANAGEMENT_RATE_DEFAULT};
use crate::snapshot::{AccessKey, Management};

const HASH_PREFIX: &str = "blake3:";

/// One entry of `management.keys` or of a project's `keys`.
pub(super) struct Entry<'f> {
    pub name: Option<&'f str>,
    pub hash: Option<&'f str>,
    pub value: Option<&'f SecretRef>,
    /// Requests a minute.
    pub rate_limit: u64,
}

pub(super) fn management(cx: &mut Compiler<'_>, file: Option<&ManagementFile>, state_dir: &Path) -> Management {
    let references = references::of(cx, file.and_then(|file| file.references.as_ref()), state_dir);
    let Some(file) = file else { return Management { references, ..Management::default() } };
    let keys = file.keys.as_ref().map(|written| {
        if written.is_empty() {
            let text = "an empty list: nobody can use the management APIs";
            let problem = cx.problems.warning(Code::Suspicious, "/management/keys", text);
            problem.hint("without the member they answer on loopback");
        }
        let rate_limit = file.rate_limit_per_minute.unwrap_or(MANAGEMENT_RATE_DEFAULT);
        if rate_limit == 0 {
            let text = "0: no management key can ask for anything but the status";
            cx.problems.warning(Code::Suspicious, "/management/rate_limit_per_minute", text);
        }
        let entries = written.iter().map(|key| Entry {
            name: key.name.as_deref(),
            hash: key.hash.as_deref(),
            value: key.value.as_ref(),
            rate_limit,
        });
        keys(cx, entries, "/management/keys")
    });
    let listen = file.listen.as_ref().map(|written| listen::all(cx, written, "/management/listen"));
    let allowed_origins = references::origins(cx, file);
    Management { keys, listen, locked: file.locked.unwrap_or(false), references, allowed_origins }
}

pub(super) fn keys<'f>(
    cx: &mut Compiler<'_>,
    entries: impl Iterator<Item = Entry<'f>>,
    pointer: &str,
) -> Vec<AccessKey> {
    let mut names: HashSet<&str> = HashSet::new();
    let mut keys = Vec::new();
    for (i, entry) in entries.enumerate() {
        let at = pointer_to(pointer, &i.to_string());
        match entry.name {
            None => {
                cx.missing(&at, "name", "logs show it instead of the key");
            }
            Some(name) if !is_name(name) => {
                let text = format!("a name has 1 to {KEY_NAME_CHARS_MAX} characters, none of them a control character");
                cx.problems.error(Code::BadValue, pointer_to(&at, "name"), text);
            }
            Some(name) if !names.insert(name) => {
                cx.problems.error(
                    Code::Duplicate,
                    pointer_to(&at, "name"),
                    "another key of this list has the same name",
                );
            }
            Some(_) => {}
        }
        let name = entry.name.unwrap_or_default().into();
        keys.push(AccessKey {
            name,
            digest: digest(cx, &entry, &at),
            rate_limit: entry.rate_limit,
            rate: Arc::default(),
        });
    }
    keys
}

fn is_name(name: &str) -> bool {
    (1..=KEY_NAME_CHARS_MAX).contains(&name.chars().count()) && !name.chars().any(char::is_control)
}

/// Exactly one of `hash` and `value`.
fn digest(cx: &mut Compiler<'_>, entry: &Entry<'_>, pointer: &str) -> Option<blake3::Hash> {
    let (digest, at) = match (entry.hash, entry.value) {
        (Some(hash), None) => {
            let at = pointer_to(pointer, "hash");
            let digest = hash.strip_prefix(HASH_PREFIX).and_then(|hex| blake3::Hash::from_hex(hex).ok());
            if digest.is_none() {
                let problem = cx.problems.error(Code::BadValue, &*at, "not the hash of a key");
                problem.hint("`blake3:` and 64 hex digits");
            }
            (digest?, at)
        }
        (None, Some(value)) => {
            let at = pointer_to(pointer, "value");
            (cx.token(value, &at).ok()?, at)
        }
        (Some(_), Some(_)) => {
            cx.problems.error(Code::Conflict, pointer, "both `hash` and `value`").hint("keep one of the two");
            return None;
        }
        (None, None) if cx.is_misread(&pointer_to(pointer, "hash")) => return None,
        (None, None) => {
            cx.missing(pointer, "value", "a reference like `\"env.NAME\"`; or `hash`");
            return None;
        }
    };
    if let Some(first) = cx.tokens.get(&digest) {
        let text = format!("the same token as at {first}");
        cx.problems.error(Code::Duplicate, at, text).hint("every key is somebody else's");
    } else {
        cx.tokens.insert(digest, at);
    }
    Some(digest)
}
