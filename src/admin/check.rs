//! `POST /api/config/check`: a dry run of a posted document, comments and all. Resolves nothing: a
//! stranger's document must touch neither environment nor disk, and no health is carried over.

use std::path::Path;

use bytes::Bytes;
use http::{Response, StatusCode};
use serde_json::json;

use super::error::ApiError;
use super::json as answer_json;
use crate::config::Problems;
use crate::hash::{ConfigHash, FingerprintKey};
use crate::health::Registry;
use crate::limits::CHECK_INLINE_BYTES_MAX;
use crate::snapshot::{CompileInput, DryRun, load};

pub async fn answer(text: String) -> Result<Response<Bytes>, ApiError> {
    let hash = ConfigHash::of_bytes(text.as_bytes());
    let problems = if text.len() <= CHECK_INLINE_BYTES_MAX {
        problems(&text, hash)
    } else {
        // A large document would hold up the requests of the whole worker.
        tokio::task::spawn_blocking(move || problems(&text, hash)).await.map_err(|_| {
            ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the check did not come to its end")
        })?
    };
    let body = json!({"valid": !problems.has_errors(), "hash": hash.hex(), "problems": problems.to_json()});
    Ok(answer_json(StatusCode::OK, &body))
}

fn problems(text: &str, hash: ConfigHash) -> Problems {
    let input = CompileInput {
        number: 0,
        hash,
        dir: Path::new("/"),
        resolve: &DryRun,
        fingerprint_key: &FingerprintKey::new([0; 32]),
        strict_env: false,
    };
    load(text, &input, &mut Registry::new()).1
}
