//! `GET /api/explain?model=&project=`: every key that the model could mean, in the order in which they
//! would be tried, with the share to expect and the reason why not. Takes no probe, changes nothing.

use bytes::Bytes;
use http::{Response, StatusCode};
use serde_json::{Value as Json, json};

use super::error::ApiError;
use super::{Admin, json as answer_json};
use crate::dispatch::explain::{KeyReason, about};
use crate::id::ModelName;
use crate::limits::MODEL_NAME_BYTES_MAX;
use crate::project::Grant;
use crate::snapshot::Snapshot;

/// What the query asks.
struct Question {
    model: String,
    project: Option<String>,
}

pub fn answer(admin: &Admin, snapshot: &Snapshot, query: Option<&str>) -> Result<Response<Bytes>, ApiError> {
    let Question { model, project } = question(query)?;
    let grant = match &project {
        None => Grant::All,
        Some(id) => {
            let found = snapshot.projects.iter().flatten().find(|it| it.id.as_str() == id);
            let missing = || ApiError::new(StatusCode::NOT_FOUND, "project_not_found", "there is no such project");
            Grant::Project(found.ok_or_else(|| missing().field("project"))?)
        }
    };
    let plan = about(snapshot, ModelName::new(model.as_str()));
    let plan = plan.map_err(|no_plan| ApiError::from(&no_plan.to_error()))?;
    let reasons = plan.explain(snapshot, admin.clock().now());
    let route = model.starts_with('@').then_some(model.as_str());
    let keys: Vec<Json> = reasons.iter().map(|key| entry(key, admits(grant, key, route))).collect();
    let body = json!({
        "model": model,
        "project": project,
        "generation": snapshot.mark.number,
        "keys": keys,
    });
    Ok(answer_json(StatusCode::OK, &body))
}

fn question(query: Option<&str>) -> Result<Question, ApiError> {
    let (mut model, mut project) = (None, None);
    for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        let place = match &*name {
            "model" => &mut model,
            "project" => &mut project,
            _ => continue,
        };
        if place.replace(value.into_owned()).is_some() {
            return Err(ApiError::bad_request("invalid_value", "this is asked for twice").field(name));
        }
    }
    let Some(model) = model.filter(|model| !model.is_empty()) else {
        return Err(ApiError::bad_request("missing_parameter", "say which model: ?model=").field("model"));
    };
    if model.len() > MODEL_NAME_BYTES_MAX {
        return Err(ApiError::bad_request("invalid_value", "not the name of a model: too long").field("model"));
    }
    Ok(Question { model, project: project.filter(|project| !project.is_empty()) })
}

/// Whether the project that is asked for may use this target at all.
fn admits(grant: Grant<'_>, key: &KeyReason, route: Option<&str>) -> bool {
    let model = key.model.as_ref().map_or("", |model| model.as_str());
    grant.admits(key.provider.as_str(), model, route)
}

fn entry(key: &KeyReason, admitted: bool) -> Json {
    let (reason, detail) = match admitted {
        true => (key.reason.code(), key.reason.text()),
        false => ("not_allowed_for_project", "this project may not use that model".to_owned()),
    };
    json!({
        "provider": key.provider.as_str(),
        "key_id": key.id.as_str(),
        "key": key.name.as_str(),
        "priority": key.priority.value(),
        "model": key.model.as_ref().map(|model| model.as_str()),
        "upstream_model": key.upstream_model.as_ref().map(|model| model.as_str()),
        "eligible": key.eligible && admitted,
        "share": if admitted { key.share } else { 0.0 },
        "reason": reason,
        "detail": detail,
    })
}
