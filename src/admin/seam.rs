//! What a body may refer to, and the masks of sealed values, until the snapshot says both.

use crate::config::read::{FromConfig, Node};
use crate::config::syntax::{Kind, Value};
use crate::config::{Document, Problems, SecretRef};
use crate::limits::MASK_SHORT_CHARS;
use crate::snapshot::{Management, Snapshot};

/// What an API body may name without a `management.references` in the file.
const ENV_DEFAULT: [&str; 6] = ["*_KEY", "*_TOKEN", "*_SECRET", "AWS_*", "AZURE_*", "GOOGLE_*"];
const OWN_PREFIX: &str = "KEYWAY_";

/// Whether an API body may use this reference: it stands in the file already, or the file allows it.
pub fn may_refer(document: &Document, _management: &Management, reference: &SecretRef) -> bool {
    match reference {
        SecretRef::Env(name) if name.starts_with(OWN_PREFIX) => false,
        SecretRef::Env(name) if ENV_DEFAULT.iter().any(|glob| fits(glob, name)) => true,
        SecretRef::Env(_) | SecretRef::File(_) => stands(document.tree.root(), reference),
        SecretRef::Literal(_) | SecretRef::Sealed(_) => true,
    }
}

fn fits(glob: &str, name: &str) -> bool {
    match (glob.strip_prefix('*'), glob.strip_suffix('*')) {
        (Some(end), _) => name.ends_with(end),
        (None, Some(start)) => name.starts_with(start),
        (None, None) => glob == name,
    }
}

fn stands(value: &Value, reference: &SecretRef) -> bool {
    let here = match &value.kind {
        Kind::Text(_) | Kind::Object(_) => SecretRef::read(Node::root(value), &mut Problems::default()),
        _ => None,
    };
    here.as_ref() == Some(reference)
        || match &value.kind {
            Kind::List(items) => items.iter().any(|item| stands(item, reference)),
            Kind::Object(members) => members.iter().any(|member| stands(&member.value, reference)),
            _ => false,
        }
}

/// What may be shown of a sealed value.
pub fn sealed_mask(_snapshot: &Snapshot, _pointer: &str) -> String {
    "*".repeat(MASK_SHORT_CHARS)
}
