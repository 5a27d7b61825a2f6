//! One try to make a generation: bytes that were seen in, a compiled snapshot or problems out.
//!
//! Touches neither the store nor the listeners. A compile that panics is a refused content.

use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;

use super::resolve::read_secret;
use super::sight::{Seen, View};
use super::{Resolver, Source, WriterOptions};
use crate::config::{Code, Problem, Problems, Severity};
use crate::hash::ConfigHash;
use crate::limits::CONFIG_BYTES_MAX;
use crate::snapshot::Compiled;
use crate::ticks::Ticks;

/// A content that compiled.
pub(super) struct Built {
    pub compiled: Compiled,
    /// What it was made of: the bytes that were seen, the secret files as the compile read them.
    pub seen: Seen,
    pub warnings: Arc<Problems>,
}

/// A content that did not, and what that was.
pub(super) struct Refused {
    pub problems: Problems,
    pub view: View,
}

impl Refused {
    /// It may be a file that is still being written.
    pub fn is_torn(&self) -> bool {
        self.problems.0.iter().any(|problem| problem.code == Code::Syntax && problem.severity == Severity::Error)
    }
}

/// Compiles what was seen; `number` is the generation that it would become.
pub(super) fn build(
    options: &mut WriterOptions,
    directory: &Path,
    seen: &Seen,
    number: u64,
    now: Ticks,
) -> Result<Built, Refused> {
    let refused = |problems: Problems, view: &View| Err(Refused { problems, view: view.clone() });
    let hash = match &seen.view.config {
        Ok(hash) => *hash,
        Err(refusal) => return refused(unreadable(refusal), &seen.view),
    };
    let text = match std::str::from_utf8(&seen.bytes) {
        Ok(text) => text,
        Err(error) => return refused(not_utf8(&seen.bytes, error.valid_up_to()), &seen.view),
    };
    let WriterOptions { compile, disk, env, fingerprint_key, strict_env, .. } = options;
    let resolver = Resolver::new(directory, &**disk, env, fingerprint_key);
    let source =
        Source { text, number, hash, directory, resolve: &resolver, fingerprint_key, strict_env: *strict_env, now };
    let result = std::panic::catch_unwind(AssertUnwindSafe(|| compile.compile(&source)));
    // What the compile read is what counts: a file may have changed since the look.
    let mut files = resolver.into_files();
    match result {
        Ok((Some(compiled), problems)) if !problems.has_errors() => {
            for path in &compiled.secret_files {
                let path = directory.join(path);
                let held = || read_secret(&**disk, &path, fingerprint_key).map(|(_, fingerprint)| fingerprint);
                files.entry(path.clone()).or_insert_with(held);
            }
            let seen = Seen { view: View { config: Ok(hash), files }, bytes: seen.bytes.clone() };
            Ok(Built { compiled, seen, warnings: Arc::new(problems) })
        }
        Ok((_, problems)) => {
            // The running generation's files stay in view: it may be them that change back.
            let mut view = seen.view.clone();
            view.files.append(&mut files);
            Err(Refused { problems, view })
        }
        Err(_panic) => Err(Refused { problems: internal(hash), view: seen.view.clone() }),
    }
}

/// The new listeners could not be bound. The port says which and why.
pub(super) fn unbound(error: String) -> Problems {
    let mut problems = Problems::default();
    problems.error(Code::Bind, "/server/listen", error);
    problems
}

pub(super) fn unreadable(refusal: &super::Refusal) -> Problems {
    if let super::Refusal::Empty = refusal {
        return crate::config::read("").1;
    }
    let mut problems = Problems::default();
    let problem = problems.error(Code::Unreadable, "", refusal.message());
    if let super::Refusal::TooLarge { .. } = refusal {
        problem.hint(format!("a config has at most {} MiB", CONFIG_BYTES_MAX / (1024 * 1024)));
    }
    problems
}

/// Located here: the parser never sees such a text.
fn not_utf8(bytes: &[u8], valid: usize) -> Problems {
    let before = String::from_utf8_lossy(bytes.get(..valid).unwrap_or_default());
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |rest| rest.chars().count()) + 1;
    Problems(vec![Problem {
        severity: Severity::Error,
        code: Code::Syntax,
        pointer: String::new(),
        line: u32::try_from(line).unwrap_or(u32::MAX),
        column: u32::try_from(column).unwrap_or(u32::MAX),
        message: "not valid UTF-8".to_owned(),
        hint: None,
    }])
}

pub(super) fn internal(hash: ConfigHash) -> Problems {
    let mut problems = Problems::default();
    problems
        .error(Code::BadValue, "", format!("reading the config failed inside keyway (content {})", hash.short()))
        .hint("this is a bug in keyway, please report it with the config that shows it");
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn utf8_problems_are_located() {
        for (bytes, line, column) in
            [(&b"\xff"[..], 1, 1), (b"{}\n\xff", 2, 1), (b"{\n  \"k\xc3\xa9y\xff\"\n", 2, 7), (b"ab\xc3", 1, 3)]
        {
            let valid = std::str::from_utf8(bytes).unwrap_err().valid_up_to();
            let problems = not_utf8(bytes, valid);
            assert_eq!((problems.0[0].line, problems.0[0].column), (line, column), "{bytes:?}");
            assert!(
                Refused { problems, view: View { config: Ok(ConfigHash::of_bytes(b"")), files: Default::default() } }
                    .is_torn()
            );
        }
    }
}
