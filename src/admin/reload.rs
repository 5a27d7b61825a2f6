//! `POST /api/config/reload`: what SIGHUP does, with an answer. Waits until the file has settled and
//! is applied, refused or found unchanged.

use bytes::Bytes;
use http::{Response, StatusCode};
use tokio::sync::oneshot;

use super::error::ApiError;
use super::{Admin, config, json};
use crate::store::Command;

pub async fn answer(admin: &Admin) -> Result<Response<Bytes>, ApiError> {
    let (reply, outcome) = oneshot::channel();
    let command = Command::Reload { reply: Some(reply) };
    admin.commands.try_send(command).map_err(|_| ApiError::unavailable())?;
    let outcome = outcome.await.map_err(|_| ApiError::unavailable())?;
    let mut body = config::outcome(&outcome);
    // The whole list, as `keyway check` prints it, where status has room for a number.
    if let Some(body) = body.as_object_mut() {
        body.insert("problems".to_owned(), outcome.problems.to_json());
    }
    Ok(json(StatusCode::OK, &body))
}
