//! From a plan to the text that would be written: checked, sealed, edited.
//!
//! The order is that of CONTRACT 2.4: no secret is sealed, and no key file made for it, before it is
//! known that nothing stored would travel. Writes nothing, and lets no secret in clear through.

use std::sync::Arc;

use super::attempt::unreadable;
use super::sealed_edits::sealed;
use super::{ApplyError, Base, Plan, Refusal, Refused, Sealer};
use crate::config::edit::{Edit, EditError, NewValue, apply};
use crate::config::{self, Document};
use crate::limits::{CONFIG_BYTES_MAX, ROUTES_NAMED_MAX};
use crate::snapshot::{Snapshot, destination, public_mark, route_rule};

/// Stands for a sealed value while it is checked whether one may be made. No file ever holds it.
const UNSEALED: &str = "sealed:v1:-";

/// The new text of the file; the base's own where the plan changes nothing.
pub(super) fn text(base: &Base<'_>, plan: &Plan, sealer: &mut dyn Sealer) -> Result<String, ApplyError> {
    let mut text = edited(base, plan, sealer)?;
    if text != base.document.tree.text() {
        text = marked(base.document, text)?;
    }
    if text.len() as u64 > CONFIG_BYTES_MAX {
        let problems = unreadable(&Refusal::TooLarge { cap: CONFIG_BYTES_MAX });
        return Err(ApplyError::Problems(Arc::new(problems)));
    }
    Ok(text)
}

/// The text with the marks of what an API named (`snapshot/public_mark.rs`). In a second round, for they
/// may belong into what the first one made.
fn marked(base: &Document, text: String) -> Result<String, ApplyError> {
    let (document, problems) = config::read(&text);
    let Some(document) = document else { return Err(ApplyError::Problems(Arc::new(problems))) };
    let marks = missing_marks(base, &document)?;
    if marks.is_empty() {
        return Ok(text);
    }
    let edits: Vec<Edit> =
        marks.into_iter().map(|pointer| Edit::Set { pointer, value: NewValue::Bool(true) }).collect();
    apply(&document.tree, &edits).map_err(impossible)
}

fn edited(base: &Base<'_>, plan: &Plan, sealer: &mut dyn Sealer) -> Result<String, ApplyError> {
    let tree = &base.document.tree;
    let unsealed = sealed(tree, &plan.edits, &mut |_, _| Ok(UNSEALED.to_owned()))?;
    let text = apply(tree, unsealed.as_deref().unwrap_or(&plan.edits)).map_err(impossible)?;
    if text == tree.text() {
        return Ok(text);
    }
    match config::read(&text) {
        (Some(document), problems) if !problems.has_errors() => check(base.document, &document, plan)?,
        (_, problems) => return Err(ApplyError::Problems(Arc::new(problems))),
    }
    let sealed = sealed(tree, &plan.edits, &mut |secret, pointer| {
        sealer.seal(secret, pointer, base).map_err(|reason| ApplyError::Sealing { reason })
    })?;
    match sealed {
        None => Ok(text),
        Some(edits) => apply(tree, &edits).map_err(impossible),
    }
}

/// What can be told from the files alone.
fn check(base: &Document, new: &Document, plan: &Plan) -> Result<(), ApplyError> {
    if let Some(field) = destination::moved(base, new, &plan.renewed) {
        return Err(Refused::SecretRequired { field }.into());
    }
    missing_marks(base, new)?;
    needed(&route_rule::lost_providers(base, new))
}

fn missing_marks(base: &Document, new: &Document) -> Result<Vec<String>, ApplyError> {
    public_mark::missing_marks(base, new).map_err(|field| {
        let message = "whether an address may be private is for the file to say; see `management.allowed_origins`";
        Refused::Invalid { code: "file_only", field, message: message.to_owned() }.into()
    })
}

/// What only shows when both files are compiled.
pub(super) fn check_compiled(base: &Snapshot, new: &Snapshot, plan: &Plan) -> Result<(), ApplyError> {
    if let Some(field) = destination::moved_when_resolved(base, new, &plan.renewed) {
        return Err(Refused::SecretRequired { field }.into());
    }
    needed(&route_rule::lost_keys(base, new))
}

/// Refuses if there are any.
fn needed(routes: &[String]) -> Result<(), ApplyError> {
    if routes.is_empty() {
        return Ok(());
    }
    let mut names = routes.iter().take(ROUTES_NAMED_MAX).cloned().collect::<Vec<_>>().join(", ");
    let rest = routes.len().saturating_sub(ROUTES_NAMED_MAX);
    if rest > 0 {
        names.push_str(&format!(" and {rest} more"));
    }
    let message = format!("a target would be left without any key: {names}");
    Err(Refused::Conflict { code: "route_needs_key", message }.into())
}

/// A plan that contradicts itself, or a value that JSON cannot hold.
fn impossible(error: EditError) -> ApplyError {
    let field = error.pointer.trim_start_matches('/').replace('/', ".");
    Refused::Invalid { code: "invalid_edit", field, message: error.to_string() }.into()
}
