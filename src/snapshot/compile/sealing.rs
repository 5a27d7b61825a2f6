//! `state.dir` and `management.sealing_key`: where the key lies that seals and opens values.
//!
//! Looked at before all else, because everything else may be sealed. A key that does not resolve
//! stays in its place as the reason why nothing can be sealed: no other key steps in for it.

use std::path::{Component, Path, PathBuf};

use super::Compiler;
use crate::config::{Code, ConfigFile, SecretRef};
use crate::snapshot::SealingKey;

const STATE_DIR: &str = ".keyway";
const KEY_POINTER: &str = "/management/sealing_key";

pub(super) fn state_dir(cx: &mut Compiler<'_>, file: &ConfigFile) -> PathBuf {
    let written = file.state.as_ref().and_then(|state| state.dir.as_deref());
    let dir = normal(&cx.dir.join(written.unwrap_or(STATE_DIR)));
    // Its `.gitignore` ignores everything beside and below it.
    if written == Some("") || normal(cx.dir).starts_with(&dir) {
        let problem = cx.problems.error(Code::BadValue, "/state/dir", "not a directory of the gateway's own");
        problem.hint(format!("leave it out for `{STATE_DIR}` beside the config"));
    }
    dir
}

/// Without `.` and `..`, as far as the text goes.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => {
                normal.pop();
            }
            Component::CurDir => {}
            other => normal.push(other),
        }
    }
    normal
}

pub(super) fn key(cx: &mut Compiler<'_>, file: &ConfigFile, state_dir: &Path) -> SealingKey {
    let written = file.management.as_ref().and_then(|management| management.sealing_key.as_ref());
    let Some(reference) = written else { return SealingKey::Own { file: SealingKey::file_in(state_dir) } };
    match reference {
        SecretRef::Sealed(_) => {
            let problem = cx.problems.error(Code::Conflict, KEY_POINTER, "the key that seals cannot itself be sealed");
            problem.hint("write a reference like `\"env.NAME\"`");
        }
        SecretRef::Literal(_) => {
            let text = "the key stands beside what it seals: whoever reads the file can open it all";
            cx.problems.warning(Code::Suspicious, KEY_POINTER, text).hint("write a reference like `\"env.NAME\"`");
        }
        SecretRef::Env(_) | SecretRef::File(_) => {}
    }
    SealingKey::Given(cx.sealing_key(reference, KEY_POINTER))
}

/// A key file of our own that others may read is as good as none.
pub(super) fn exposure(cx: &mut Compiler<'_>) {
    let Some(file) = cx.secrets.own_key_in_use() else { return };
    if cx.secrets.is_exposed(&file) {
        let text = "the file of the sealing key may be read or written by other users";
        cx.problems.warning(Code::Suspicious, "/state/dir", text).hint("`chmod 600` the file `sealing.key` in it");
    }
}
