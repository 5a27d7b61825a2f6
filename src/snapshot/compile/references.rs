//! `management.references` and `management.allowed_origins`: what an API body may name.

use std::path::Path;

use super::Compiler;
use crate::config::Code;
use crate::config::file::{ManagementFile, ReferencesFile};
use crate::config::problem::pointer_to;
use crate::limits::{ALLOWED_ORIGINS_MAX, REFERENCE_PATTERNS_MAX};
use crate::provider::BaseUrl;
use crate::snapshot::References;

pub(super) fn of(cx: &mut Compiler<'_>, file: Option<&ReferencesFile>, state_dir: &Path) -> References {
    let mut references =
        References { dir: cx.dir.to_owned(), state_dir: state_dir.to_owned(), ..References::default() };
    let Some(file) = file else { return references };
    if let Some(written) = &file.env {
        let is_pattern = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'*'));
        let what = "the name of a variable: letters, digits, _ and `*`";
        references.env = patterns(cx, written, is_pattern, what, "/management/references/env");
    }
    if let Some(written) = &file.files {
        let is_pattern = |text: &str| !text.split('/').any(|segment| segment == "..") && !text.contains('\0');
        references.files = patterns(cx, written, is_pattern, "a path without `..`", "/management/references/files");
    }
    references
}

fn patterns(
    cx: &mut Compiler<'_>,
    written: &[String],
    is_pattern: impl Fn(&str) -> bool,
    what: &str,
    pointer: &str,
) -> Vec<Box<str>> {
    bounded(cx, written.len(), REFERENCE_PATTERNS_MAX, pointer);
    for (i, text) in written.iter().enumerate() {
        if text.is_empty() || !is_pattern(text) {
            cx.problems.error(Code::BadValue, pointer_to(pointer, &i.to_string()), format!("not {what}"));
        }
    }
    written.iter().map(|text| text.as_str().into()).collect()
}

/// Those that can be read; the others are reported by [`origins`].
pub(super) fn allowed(file: Option<&ManagementFile>) -> Vec<BaseUrl> {
    let written = file.and_then(|file| file.allowed_origins.as_deref()).unwrap_or_default();
    written.iter().filter_map(|text| BaseUrl::parse(text, "").ok()).collect()
}

/// Each as `scheme://host[:port]`, spelled in one way.
pub(super) fn origins(cx: &mut Compiler<'_>, file: &ManagementFile) -> Vec<Box<str>> {
    const POINTER: &str = "/management/allowed_origins";
    let written = file.allowed_origins.as_deref().unwrap_or_default();
    bounded(cx, written.len(), ALLOWED_ORIGINS_MAX, POINTER);
    let mut origins = Vec::with_capacity(written.len());
    for (i, text) in written.iter().enumerate() {
        match BaseUrl::parse(text, "") {
            Ok(url) if url.base_path.is_empty() => origins.push(format!("{}://{}", url.scheme, url.authority).into()),
            Ok(_) => origin_problem(cx, i, "an origin has no path"),
            Err(what) => origin_problem(cx, i, &format!("the origin {what}")),
        }
    }
    return origins;

    fn origin_problem(cx: &mut Compiler<'_>, at: usize, text: &str) {
        let problem = cx.problems.error(Code::BadValue, pointer_to(POINTER, &at.to_string()), text);
        problem.hint("like `http://127.0.0.1:11434`");
    }
}

fn bounded(cx: &mut Compiler<'_>, count: usize, max: usize, pointer: &str) {
    if count > max {
        cx.problems.error(Code::BadValue, pointer, format!("more than {max} entries"));
    }
}
