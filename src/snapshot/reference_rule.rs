//! What the body of an API call may refer to (CONTRACT 2.2).
//!
//! A reference is a way to read something of ours and to have it sent somewhere: it must already
//! stand in the file for a provider, or be allowed by `management.references`. What guards the
//! gateway itself is never handed out, whatever the patterns say. Reads no file.

use std::path::{Component, Path, PathBuf};

use super::{Management, References};
use crate::config::{Document, SecretRef};
use crate::snapshot::secret_fields::{own_fields, provider_fields};

/// Variables of the gateway itself.
const OWN_PREFIX: &str = "KEYWAY_";

/// Whether an API body may use `reference`. Literals and sealed values are judged elsewhere.
pub fn may_refer(document: &Document, management: &Management, reference: &SecretRef) -> bool {
    let rules = &management.references;
    let file = &document.file;
    let is_this = |(_, other): &(String, &SecretRef)| is_same(rules, other, reference);
    match reference {
        SecretRef::Literal(_) | SecretRef::Sealed(_) => true,
        SecretRef::Env(name) => {
            !name.starts_with(OWN_PREFIX)
                && !own_fields(file).iter().any(is_this)
                && (provider_fields(file).iter().any(is_this) || rules.env.iter().any(|glob| fits(glob, name, None)))
        }
        SecretRef::File(path) => {
            let Some(path) = plain(&rules.dir, path) else { return false };
            let tls = file.server.as_ref().and_then(|server| server.tls.as_ref()?.key_file.as_deref());
            let is_tls = tls.is_some_and(|tls| plain(&rules.dir, Path::new(tls)).as_ref() == Some(&path));
            !is_tls
                && !path.starts_with(&rules.state_dir)
                && !own_fields(file).iter().any(is_this)
                && (provider_fields(file).iter().any(is_this)
                    || rules.files.iter().any(|glob| listed(rules, glob, &path)))
        }
    }
}

fn is_same(rules: &References, one: &SecretRef, other: &SecretRef) -> bool {
    match (one, other) {
        (SecretRef::Env(one), SecretRef::Env(other)) => one == other,
        (SecretRef::File(one), SecretRef::File(other)) => plain(&rules.dir, one) == plain(&rules.dir, other),
        _ => false,
    }
}

/// Absolute, and without a way back up: `..` would step out of what a pattern allows.
fn plain(dir: &Path, path: &Path) -> Option<PathBuf> {
    let path = dir.join(path);
    let is_plain = !path.components().any(|component| component == Component::ParentDir);
    // Collected anew, which leaves out `.` and double slashes.
    is_plain.then(|| path.components().collect())
}

/// In a pattern for files `*` stops at a slash: a directory is listed with its depth.
fn listed(rules: &References, glob: &str, path: &Path) -> bool {
    let glob = plain(&rules.dir, Path::new(glob));
    match (glob.as_deref().and_then(Path::to_str), path.to_str()) {
        (Some(glob), Some(path)) => fits(glob, path, Some(b'/')),
        _ => false,
    }
}

/// Glob with `*` only, which stands for any run of characters without `stop`. On a mismatch the last
/// star takes one more byte: at most pattern × text steps.
fn fits(glob: &str, text: &str, stop: Option<u8>) -> bool {
    let (glob, text) = (glob.as_bytes(), text.as_bytes());
    let (mut at_glob, mut at_text) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    loop {
        match (glob.get(at_glob), text.get(at_text)) {
            (None, None) => return true,
            (Some(b'*'), _) => {
                at_glob += 1;
                retry = Some((at_glob, at_text));
            }
            (Some(wanted), Some(got)) if wanted == got => {
                at_glob += 1;
                at_text += 1;
            }
            _ => match retry {
                Some((after_star, from)) if text.get(from).is_some_and(|byte| Some(*byte) != stop) => {
                    retry = Some((after_star, from + 1));
                    (at_glob, at_text) = (after_star, from + 1);
                }
                _ => return false,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        for (glob, text, env, file) in [
            ("*_KEY", "OPENAI_API_KEY", true, true),
            ("*_KEY", "_KEY", true, true),
            ("*_KEY", "KEY", false, false),
            ("*_KEY", "A_KEY_B", false, false),
            ("*_KEY", "a_key", false, false),
            ("AWS_*", "AWS_", true, true),
            ("*", "", true, true),
            ("", "", true, true),
            ("", "A", false, false),
            ("A*B*C", "A1B2BC", true, true),
            ("/run/*", "/run/a", true, true),
            ("/run/*", "/run/a/b", true, false),
            ("/run/*/b", "/run/a/b", true, true),
            ("*", "/run", true, false),
        ] {
            assert_eq!(fits(glob, text, None), env, "{glob} {text}");
            assert_eq!(fits(glob, text, Some(b'/')), file, "{glob} {text}");
        }
    }

    #[test]
    fn rules() {
        let text = r#"{
            "server": {"tls": {"cert_file": "c", "key_file": "/run/secrets/tls"}},
            "management": {"keys": [{"name": "ops", "value": "env.OPS_TOKEN"}], "sealing_key": "env.SEAL_KEY"},
            "projects": [{"id": "p", "keys": [{"name": "k", "value": {"file": "/run/secrets/project"}}]}],
            "providers": {"openai": {"keys": [{"value": "env.ODD"}, {"name": "f", "value": {"file": "there/../odd"}},
                {"name": "g", "value": {"file": "given"}}, {"name": "h", "value": "env.KEYWAY_X"}]}}}"#;
        let (document, _) = crate::config::read(text);
        let document = document.unwrap();
        let mut management = Management::default();
        management.references.dir = "/etc/keyway".into();
        management.references.state_dir = "/etc/keyway/.keyway".into();
        let may = |management: &Management, reference: &SecretRef| may_refer(&document, management, reference);
        for (name, expected) in [
            ("OPENAI_API_KEY", true),
            ("GITHUB_TOKEN", true),
            ("GOOGLE_APPLICATION_CREDENTIALS", true),
            ("PATH", false),
            ("openai_api_key", false),
            // Stands in the file for a provider.
            ("ODD", true),
            // Guards the gateway itself.
            ("OPS_TOKEN", false),
            ("SEAL_KEY", false),
            ("KEYWAY_MANAGEMENT_KEY", false),
            ("KEYWAY_X", false),
        ] {
            assert_eq!(may(&management, &SecretRef::Env(name.to_owned())), expected, "{name}");
        }
        let file = |path: &str| SecretRef::File(path.into());
        for (path, expected) in
            [("given", true), ("./given", true), ("/etc/keyway/given", true), ("there/../odd", false)]
        {
            assert_eq!(may(&management, &file(path)), expected, "{path}");
        }
        assert!(!may(&management, &file("/run/secrets/x")));
        management.references.files = ["/run/secrets/*", "keys/*", ".keyway/*", "/*"].map(Into::into).into();
        for (path, expected) in [
            ("/run/secrets/x", true),
            ("/run/secrets/x/y", false),
            ("/run/secrets/../shadow", false),
            ("/run/secrets/tls", false),
            ("/run/secrets/project", false),
            ("keys/a", true),
            ("/etc/keyway/keys/a", true),
            ("/etc/passwd", false),
            (".keyway/sealing.key", false),
            ("/etc/keyway/.keyway/sealing.key", false),
        ] {
            assert_eq!(may(&management, &file(path)), expected, "{path}");
        }
        assert!(may(&management, &SecretRef::Sealed("sealed:v1:x".to_owned())));
    }
}
