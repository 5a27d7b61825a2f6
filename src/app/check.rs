//! `keyway check`: the compile step without anything that would serve.

use std::path::Path;

use super::compiler::Compiler;
use crate::config::{Code, Problems};
use crate::hash::{ConfigHash, FingerprintKey};
use crate::limits::CONFIG_BYTES_MAX;
use crate::store::{Compile, Disk, Resolver, Source, SystemDisk, system_env};
use crate::ticks::Ticks;

/// The file cannot be read at all; the text says why.
#[derive(Debug)]
pub struct Unreadable(pub String);

impl std::fmt::Display for Unreadable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Every problem that the file at `path` has for this environment.
pub fn check(path: &Path, strict_env: bool) -> Result<Problems, Unreadable> {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let (_, bytes) = SystemDisk.read(&path, CONFIG_BYTES_MAX).map_err(|refusal| Unreadable(refusal.message()))?;
    let text = String::from_utf8(bytes).map_err(|_| Unreadable("it is not UTF-8".to_owned()))?;
    let directory = path.parent().unwrap_or(Path::new("/"));
    let key = FingerprintKey::new([0; 32]);
    let env = system_env();
    let source = Source {
        text: &text,
        number: 1,
        hash: ConfigHash::of_bytes(text.as_bytes()),
        directory,
        resolve: &Resolver::new(directory, &SystemDisk, &env, &key),
        fingerprint_key: &key,
        strict_env,
        now: Ticks::default(),
    };
    let (_, mut problems) = Compiler::new(None).compile(&source);
    if in_git_work_tree(directory) {
        plaintext(&text, &mut problems);
    }
    Ok(problems)
}

/// A secret in clear in a file under git is one `git push` from being public.
fn plaintext(text: &str, problems: &mut Problems) {
    let (Some(document), _) = crate::config::read(text) else { return };
    for pointer in crate::snapshot::plaintext_literals(&document.file) {
        problems
            .warning(Code::PlaintextSecret, pointer, "a credential stands in clear in a file under git")
            .hint("refer to it: \"env.NAME\" or {\"file\": \"path\"}");
    }
    problems.locate(&document.tree);
}

fn in_git_work_tree(directory: &Path) -> bool {
    directory.ancestors().any(|folder| folder.join(".git").exists())
}
