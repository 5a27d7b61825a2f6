//! `allowed_requests` and `request_path_overrides` of a custom provider (bifrost.md 1.3, 5.3).

use std::collections::HashMap;

use http::uri::PathAndQuery;

use super::{Compiler, did_you_mean};
use crate::config::Code;
use crate::config::file::CustomProviderFile;
use crate::config::problem::pointer_to;
use crate::dialect::{Dialect, Operation};
use crate::provider::ProviderRow;
use crate::snapshot::AllowedRequests;

/// Every operation, so that it can be found by its name.
const OPERATIONS: [Operation; 20] = [
    Operation::ChatCompletion,
    Operation::TextCompletion,
    Operation::Responses,
    Operation::ResponsesItem,
    Operation::Embedding,
    Operation::CountTokens,
    Operation::Invoke,
    Operation::Moderation,
    Operation::Rerank,
    Operation::ImageGeneration,
    Operation::ImageEdit,
    Operation::ImageVariation,
    Operation::Speech,
    Operation::Transcription,
    Operation::Translation,
    Operation::ListModels,
    Operation::Model,
    Operation::Files,
    Operation::Batches,
    Operation::Other,
];
const STREAM_SUFFIX: &str = "_stream";
/// Finer names of Bifrost for what is one operation here; any of them opens the whole.
const PARTS: &str = "file_upload file_list file_retrieve file_delete file_content \
    batch_create batch_list batch_retrieve batch_cancel batch_delete batch_results";
/// Names of Bifrost for calls that go through as `other`, or that this release does not have.
const UNTOLD: &str = "ocr realtime websocket_responses passthrough passthrough_stream \
    video_generation video_retrieve video_download video_delete video_list video_remix \
    container_create container_list container_retrieve container_delete \
    container_file_create container_file_list container_file_retrieve container_file_content container_file_delete";

pub(super) fn rules(
    cx: &mut Compiler<'_>,
    custom: &CustomProviderFile,
    row: Option<&ProviderRow>,
    pointer: &str,
) -> (AllowedRequests, HashMap<Operation, Box<str>>) {
    (allowed(cx, custom, pointer), overrides(cx, custom, row, pointer))
}

/// Absent = every request; present = only those that are true.
fn allowed(cx: &mut Compiler<'_>, custom: &CustomProviderFile, pointer: &str) -> AllowedRequests {
    let Some(written) = &custom.allowed_requests else { return AllowedRequests::All };
    let pointer = pointer_to(pointer, "allowed_requests");
    let mut names: Vec<Box<str>> = Vec::new();
    for (name, allowed) in written {
        let at = pointer_to(&pointer, name);
        if is_word_of(UNTOLD, name) {
            if *allowed {
                let problem = cx.problems.error(Code::NotSupportedYet, at, "this request type has no rule of its own");
                problem.hint("`other` allows all calls that have none");
            }
        } else if known(name) {
            if *allowed {
                names.push(name.as_str().into());
            }
        } else {
            unknown(cx, name, at);
        }
    }
    AllowedRequests::Only(names)
}

fn overrides(
    cx: &mut Compiler<'_>,
    custom: &CustomProviderFile,
    row: Option<&ProviderRow>,
    pointer: &str,
) -> HashMap<Operation, Box<str>> {
    let pointer = pointer_to(pointer, "request_path_overrides");
    let written = custom.request_path_overrides.as_deref().unwrap_or_default();
    if !written.is_empty()
        && row.is_some_and(|row| !matches!(row.speaks.first(), Some(Dialect::OpenAi | Dialect::Anthropic)))
    {
        let text = "paths of this base type hold the model and cannot be replaced";
        cx.problems.error(Code::Conflict, &*pointer, text);
    }
    let mut paths = HashMap::new();
    for (name, path) in written {
        let at = pointer_to(&pointer, name);
        // A streamed call takes the path of its operation.
        let operation = operation(name.strip_suffix(STREAM_SUFFIX).unwrap_or(name));
        let Some(operation) = operation.filter(|operation| has_one_path(*operation)) else {
            unknown(cx, name, at);
            continue;
        };
        if path.contains("://") {
            let problem = cx.problems.error(Code::NotSupportedYet, at, "a full URL is not supported by this release");
            problem.hint("write a path, and the origin into `network_config.base_url`");
        } else if !is_path(path) {
            let problem = cx.problems.error(Code::BadValue, at, "not a path");
            problem.hint("it begins with `/` and has no query, no fragment and no `..`");
        } else if paths.insert(operation, path.as_str().into()).is_some_and(|other: Box<str>| *other != **path) {
            cx.problems.error(Code::Conflict, at, "a streamed call has the path of its operation");
        }
    }
    paths
}

/// Operations below an id, or of any path, have no single path to replace.
fn has_one_path(operation: Operation) -> bool {
    !matches!(
        operation,
        Operation::ResponsesItem | Operation::Model | Operation::Files | Operation::Batches | Operation::Other
    )
}

fn is_path(path: &str) -> bool {
    let plain = path.starts_with('/') && !path.contains(['?', '#', '\\', '%']);
    let segments = path.split('/').skip(1).all(|segment| !matches!(segment, "" | "." | ".."));
    plain && segments && PathAndQuery::try_from(path).is_ok()
}

fn operation(name: &str) -> Option<Operation> {
    OPERATIONS.into_iter().find(|operation| operation.as_str() == name)
}

fn known(name: &str) -> bool {
    operation(name.strip_suffix(STREAM_SUFFIX).unwrap_or(name)).is_some() || is_word_of(PARTS, name)
}

fn is_word_of(words: &str, name: &str) -> bool {
    words.split_ascii_whitespace().any(|word| word == name)
}

fn unknown(cx: &mut Compiler<'_>, name: &str, pointer: String) {
    let problem = cx.problems.error(Code::UnknownMember, pointer, "not a request type that has a rule here");
    if let Some(hint) = did_you_mean(name, OPERATIONS.iter().map(|operation| operation.as_str())) {
        problem.hint(hint);
    }
}
