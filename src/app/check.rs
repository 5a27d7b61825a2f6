//! The compile step without anything that would serve: for `keyway check`, and for whoever asks what
//! a file would be. Serves nothing and writes nothing.

use std::path::Path;
use std::sync::Arc;

use super::compiler::Compiler;
use crate::config::{Code, Problems};
use crate::hash::{ConfigHash, FingerprintKey};
use crate::health::Registry;
use crate::limits::CONFIG_BYTES_MAX;
use crate::snapshot::{CompileInput, Compiled, DryRun, load};
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

/// The text of a file, within the bounds of a config.
pub fn read_text(path: &Path) -> Result<String, Unreadable> {
    let (_, bytes) = SystemDisk.read(path, CONFIG_BYTES_MAX).map_err(|refusal| Unreadable(refusal.message()))?;
    String::from_utf8(bytes).map_err(|_| Unreadable("it is not UTF-8".to_owned()))
}

/// Every problem that the file at `path` has for this environment.
pub fn check(path: &Path, strict_env: bool) -> Result<Problems, Unreadable> {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let text = read_text(&path)?;
    let directory = path.parent().unwrap_or(Path::new("/"));
    let (_, mut problems) = compile_here(&text, directory, strict_env);
    if in_git_work_tree(directory) {
        plaintext(&text, &mut problems);
    }
    Ok(problems)
}

/// What the file at `path` would be in this environment, if it is good.
pub fn compile_file(path: &Path) -> Result<(Option<Compiled>, Problems), Unreadable> {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let text = read_text(&path)?;
    Ok(compile_here(&text, path.parent().unwrap_or(Path::new("/")), false))
}

/// What a text would be anywhere: resolves no reference and looks at no other file.
pub fn dry_run(text: &str) -> (Option<Compiled>, Problems) {
    let input = CompileInput {
        number: 1,
        hash: ConfigHash::of_bytes(text.as_bytes()),
        dir: Path::new("/"),
        resolve: &DryRun,
        fingerprint_key: &FingerprintKey::new([0; 32]),
        strict_env: false,
    };
    load(text, &input, &mut Registry::new())
}

/// What a text would be in this environment.
pub(super) fn compile_here(text: &str, directory: &Path, strict_env: bool) -> (Option<Compiled>, Problems) {
    let key = FingerprintKey::new([0; 32]);
    let env = system_env();
    let source = Source {
        text,
        number: 1,
        hash: ConfigHash::of_bytes(text.as_bytes()),
        directory,
        resolve: &Resolver::new(directory, &SystemDisk, &env, &key),
        fingerprint_key: &key,
        strict_env,
        now: Ticks::default(),
    };
    Compiler::new(None, Arc::default()).compile(&source)
}

/// A secret in clear in a file under git is one `git push` from being public.
fn plaintext(text: &str, problems: &mut Problems) {
    let (Some(document), _) = crate::config::read(text) else { return };
    for pointer in crate::snapshot::plaintext_literals(&document.file) {
        let refer = "refer to it: \"env.NAME\" or {\"file\": \"path\"}";
        // What seals the others cannot seal itself.
        let hint =
            if pointer == SEALING_KEY { refer.to_owned() } else { format!("`keyway seal` seals it; or {refer}") };
        let text = "a credential stands in clear in a file under git";
        problems.warning(Code::PlaintextSecret, pointer, text).hint(hint);
    }
    problems.locate(&document.tree);
}

/// The literal that is left in clear.
pub(super) const SEALING_KEY: &str = "/management/sealing_key";

pub(super) fn in_git_work_tree(directory: &Path) -> bool {
    directory.ancestors().any(|folder| folder.join(".git").exists())
}
