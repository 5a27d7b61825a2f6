//! From the file as written to a [`Snapshot`]: defaults decided, references resolved, sums built.
//!
//! Goes on after an error, so that one run shows every problem with its pointer. Pure: what a
//! reference stands for comes from [`Resolve`], and the registry is touched only when the config
//! is good. Refuses what this release cannot do instead of ignoring it, and never quotes a value.

mod access;
mod alias;
mod cloud;
mod key;
mod listen;
mod model_rule;
mod network;
mod plaintext;
mod price;
mod project;
mod provider;
mod proxy;
mod redis;
mod references;
mod requests;
mod route;
mod sealing;
mod secrets;
mod server;
mod unsupported;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub(super) use key::{DEFAULT_NAME, derived_id};
pub(super) use plaintext::{credentials, names_credential};
pub use plaintext::{plaintext_literals, sealable_literals};
pub(super) use secrets::{is_empty_literal, literal_address, literal_proxy};

use self::provider::ProviderDraft;
use self::secrets::Secrets;
use super::resolve::Resolve;
use super::{Compiled, GenerationMark, Provider, Snapshot, Transport, index};
use crate::config::problem::pointer_to;
use crate::config::{self, Code, Document, Problem, Problems, Severity};
use crate::hash::{ConfigHash, FingerprintKey};
use crate::health::Registry;
use crate::id::TransportId;
use crate::provider::BaseUrl;

/// All that compile needs besides the file.
#[derive(Clone, Copy)]
pub struct CompileInput<'a> {
    /// Of the generation that this would become.
    pub number: u64,
    /// Of the file's bytes.
    pub hash: ConfigHash,
    /// Directory of the config path as given: relative paths count from here.
    pub dir: &'a Path,
    pub resolve: &'a dyn Resolve,
    pub fingerprint_key: &'a FingerprintKey,
    /// A reference that resolves to nothing is an error instead of a warning.
    pub strict_env: bool,
}

/// Text to generation: read, compiled, problems of both located. `Some` iff none of them is an error.
/// Health is carried over through the registry; a check passes an empty one.
pub fn load(text: &str, input: &CompileInput<'_>, registry: &mut Registry) -> (Option<Compiled>, Problems) {
    let (document, problems) = config::read(text);
    let Some(document) = document.map(Arc::new) else { return (None, problems) };
    // A file that could not be read whole is compiled all the same: one check shows everything.
    let (compiled, mut problems) = compile(&document, input, registry, problems);
    problems.locate(&document.tree);
    (compiled, problems)
}

/// Compiles what was read; `known` are the problems of reading it, which stay in the list and keep
/// their consequences out of it.
pub fn compile(
    document: &Arc<Document>,
    input: &CompileInput<'_>,
    registry: &mut Registry,
    known: Problems,
) -> (Option<Compiled>, Problems) {
    let file = &document.file;
    let mut cx = Compiler::new(input, known);
    unsupported::check(&mut cx, file);
    let state_dir = sealing::state_dir(&mut cx, file);
    let sealing_key = sealing::key(&mut cx, file, &state_dir);
    cx.secrets.open_with(sealing_key.clone());
    cx.allowed_origins = references::allowed(file.management.as_ref());
    let server = server::settings(&mut cx, file.server.as_ref());
    let drafts = provider::all(&mut cx, file.providers.as_deref().unwrap_or_default());
    let routes = route::all(&mut cx, file.routes.as_deref().unwrap_or_default(), &drafts);
    let mut management = access::management(&mut cx, file.management.as_ref(), &state_dir);
    let prices = price::all(&mut cx, file.prices.as_deref().unwrap_or_default(), &drafts);
    let redis = redis::of(&mut cx, file.state.as_ref());
    let mut projects =
        file.projects.as_ref().map(|projects| project::all(&mut cx, projects, &drafts, file.routes.as_deref()));
    server::exposure(&mut cx, file.server.as_ref(), &server, &management, projects.is_some());
    sealing::exposure(&mut cx);
    let log_level = server::log_level(file.observability.as_ref());

    let Compiler { known, problems: found, secrets, .. } = cx;
    let problems = join(known, found);
    if problems.has_errors() {
        return (None, problems);
    }
    let providers: Vec<Arc<Provider>> = drafts.into_iter().map(|draft| finish(draft, registry)).collect();
    for key in management.keys.iter_mut().flatten() {
        key.rate = registry.rate("", &key.name);
    }
    for project in projects.iter_mut().flatten() {
        project::remember(project, registry);
    }
    let index = index::build(&providers, registry.listed());
    let secrets::Found { files: secret_files, fingerprint, masks } = secrets.into_found(input.fingerprint_key);
    let snapshot = Snapshot {
        mark: Arc::new(GenerationMark::new(input.number, input.hash)),
        providers,
        routes,
        index,
        projects,
        prices,
        redis,
        management,
        server,
        access_log: file.observability.as_ref().and_then(|o| o.access_log).unwrap_or(true),
        log_level,
        state_dir,
        sealing_key,
        masks,
    };
    (Some(Compiled { snapshot, document: document.clone(), secret_files, fingerprint }), problems)
}

/// Connects the keys of a good config with what is remembered of them.
fn finish(draft: ProviderDraft, registry: &mut Registry) -> Arc<Provider> {
    let ProviderDraft { name, row, custom, keys, timeouts, retry, allowed, path_overrides } = draft;
    let keys: Vec<_> = keys
        .into_iter()
        .map(|mut key| {
            key.health = registry.key(&key.id, key.hash, key.fingerprint);
            if let Ok(ready) = &key.ready {
                key.origin = registry.origin(ready.transport.id);
            }
            Arc::new(key)
        })
        .collect();
    let pools = index::pools(&keys);
    Arc::new(Provider { name, row, custom, keys, pools, timeouts, retry, allowed, path_overrides })
}

/// What the parts of one compile share.
struct Compiler<'a> {
    /// Problems of reading the file.
    known: Problems,
    problems: Problems,
    secrets: Secrets<'a>,
    dir: &'a Path,
    fingerprint_key: &'a FingerprintKey,
    /// Ids of keys are unique in the file: id to the pointer of its key.
    key_ids: HashMap<String, String>,
    /// Tokens of projects and management are all different: digest to the pointer of its key.
    tokens: HashMap<blake3::Hash, String>,
    /// Keys with the same destination share one transport.
    transports: HashMap<TransportId, Arc<Transport>>,
    /// `management.allowed_origins`, taken apart.
    allowed_origins: Vec<BaseUrl>,
}

impl<'a> Compiler<'a> {
    fn new(input: &CompileInput<'a>, known: Problems) -> Self {
        Self {
            known,
            problems: Problems::default(),
            secrets: Secrets::new(input.resolve, input.dir, input.strict_env),
            dir: input.dir,
            fingerprint_key: input.fingerprint_key,
            key_ids: HashMap::new(),
            tokens: HashMap::new(),
            transports: HashMap::new(),
            allowed_origins: Vec::new(),
        }
    }

    /// Whether the file lets APIs name this place although it is not public.
    fn is_allowed_origin(&self, host: &str, port: u16) -> bool {
        self.allowed_origins.iter().any(|origin| *origin.host == *host && origin.port == port)
    }

    /// Whether the reader has an error at this place or below it, hence what is missing there may
    /// well stand in the file.
    fn is_misread(&self, pointer: &str) -> bool {
        let below = |it: &str| it.strip_prefix(pointer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        self.known.0.iter().any(|problem| problem.severity == Severity::Error && below(&problem.pointer))
    }

    /// A member that must be there. The pointer is where it would stand.
    fn missing(&mut self, parent: &str, member: &str, hint: &str) {
        let pointer = pointer_to(parent, member);
        if !self.is_misread(&pointer) {
            self.problems.error(Code::MissingMember, pointer, format!("`{member}` is missing")).hint(hint);
        }
    }

    /// A member whose feature this release does not have (CONTRACT 2: refused, never ignored).
    fn not_yet(&mut self, pointer: impl Into<String>, what: &str) {
        self.problems
            .error(Code::NotSupportedYet, pointer, format!("{what} is not supported by this release"))
            .hint("remove the member");
    }

    fn bounded(&mut self, value: Option<u64>, default: u64, range: RangeInclusive<u64>, pointer: String) -> u64 {
        let Some(value) = value else { return default };
        if !range.contains(&value) {
            let text = format!("out of range: {} to {}", range.start(), range.end());
            self.problems.error(Code::BadValue, pointer, text);
        }
        value
    }

    /// A span above zero and up to `max`.
    fn span(&mut self, value: Option<Duration>, default: Duration, max: Duration, pointer: String) -> Duration {
        let Some(value) = value else { return default };
        if value.is_zero() || value > max {
            let text = format!("out of range: more than 0 and at most {} s", max.as_secs());
            self.problems.error(Code::BadValue, pointer, text);
        }
        value
    }
}

/// Both lists in one. From an item on that could not be read, a list does not have its items where
/// the file has them: what was found there waits for the next run.
fn join(known: Problems, found: Problems) -> Problems {
    let misread = known.0.iter().filter(|problem| problem.severity == Severity::Error);
    let broken: Vec<(String, usize)> = misread.filter_map(|problem| item_of(&problem.pointer)).collect();
    let is_sound = |problem: &Problem| {
        let behind = |(list, first): &(String, usize)| {
            let rest = problem.pointer.strip_prefix(list.as_str())?;
            Some(rest.split('/').next()?.parse::<usize>().ok()? >= *first)
        };
        !broken.iter().any(|list| behind(list) == Some(true))
    };
    let mut joined = known;
    joined.0.extend(found.0.into_iter().filter(is_sound));
    joined
}

/// The list that a pointer to an item leads into, with a slash behind it, and the item's place.
fn item_of(pointer: &str) -> Option<(String, usize)> {
    let (list, item) = pointer.rsplit_once('/')?;
    Some((format!("{list}/"), item.parse().ok()?))
}

/// What a name that stands in paths, headers and `provider/model` may be made of.
fn is_plain_name(text: &str, chars_max: usize) -> bool {
    (1..=chars_max).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        && text.bytes().any(|b| b.is_ascii_alphanumeric())
}

/// `text` in backquotes as an addition to a hint, where something close enough was found.
fn did_you_mean<'a>(written: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    crate::config::closest(written, candidates).map(|name| format!("did you mean `{name}`?"))
}
