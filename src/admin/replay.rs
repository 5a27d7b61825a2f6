//! `Idempotency-Key`: the same request is carried out once, and answered the same for 24 hours.
//!
//! What is kept of a request is a digest of whose it is and what it asks, and one of its body; of an
//! answer all but what only its moment knows. An answer that shows a secret is sealed before it is
//! kept, for it is shown once.

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Response, StatusCode};

use super::Admin;
use super::conduct::Asked;
use super::error::ApiError;
use crate::limits::IDEMPOTENCY_KEY_BYTES_MAX;
use crate::snapshot::Snapshot;
use crate::state::{Begun, Digest, Kept};
use crate::store::{open_kept, seal_kept};

static KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Tells an answer that is given again.
static REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

const SCOPE_DOMAIN: &str = "keyway 2026 idempotency scope v1";
const BODY_DOMAIN: &str = "keyway 2026 idempotency body v1";
/// First line of what is kept beside a sealed answer.
const SEALED: &str = "sealed";

/// Marks an answer that shows a secret: it is kept sealed or not at all.
#[derive(Clone, Copy)]
pub struct ShowsSecret;

/// What is to be done with a request.
pub enum Start {
    /// It is to be carried out, and its answer to be kept where that was promised.
    Go(Option<Promise>),
    /// It was carried out before.
    Again(Response<Bytes>),
}

/// An answer is waited for under a key.
pub struct Promise {
    scope: Digest,
}

pub async fn begin(admin: &Admin, asked: &Asked, text: &str) -> Result<Start, ApiError> {
    let Some(key) = key(&asked.head)? else { return Ok(Start::Go(None)) };
    let scope = digest(SCOPE_DOMAIN, &[asked.who(), asked.method.as_str(), &asked.path, key]);
    let body = digest(BODY_DOMAIN, &[text]);
    let begun = admin.state.begin(scope, body, admin.clock().wall()).await;
    let refused = |status, code, message: &str| Err(ApiError::new(status, code, message).field("idempotency-key"));
    match begun.map_err(|_| ApiError::state_unavailable())? {
        Begun::Fresh => Ok(Start::Go(Some(Promise { scope }))),
        Begun::Running => {
            let message = "the request that came first with this key is still being carried out";
            refused(StatusCode::CONFLICT, "idempotency_key_in_use", message)
        }
        Begun::OtherBody => {
            let message = "this key was used for another body; take a new one for another request";
            refused(StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused", message)
        }
        Begun::Answered(kept) => again(kept, &asked.snapshot).await.map(Start::Again),
    }
}

impl Promise {
    /// What may turn out otherwise the next time is not kept: our own trouble, and a limit.
    pub async fn keep(self, admin: &Admin, asked: &Asked, response: &Response<Bytes>) {
        let status = response.status();
        let lasts = !status.is_server_error() && status != StatusCode::TOO_MANY_REQUESTS;
        let kept = if lasts { Some(kept(response, &asked.snapshot).await) } else { None };
        if admin.state.finish(self.scope, kept).await.is_err() {
            tracing::warn!(event = "answer_not_kept", request_id = asked.id.as_str(), "an answer could not be kept");
        }
    }
}

/// One of visible ASCII; `None` where there is none.
fn key(head: &HeaderMap) -> Result<Option<&str>, ApiError> {
    let mut all = head.get_all(&KEY).iter();
    let Some(first) = all.next() else { return Ok(None) };
    let text = first.to_str().unwrap_or_default();
    let fits =
        (1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&text.len()) && text.bytes().all(|b| (b' '..=b'~').contains(&b));
    if !fits || all.next().is_some() {
        let message =
            format!("an Idempotency-Key is sent once and has 1 to {IDEMPOTENCY_KEY_BYTES_MAX} visible characters");
        return Err(ApiError::bad_request("invalid_idempotency_key", message).field("idempotency-key"));
    }
    Ok(Some(text))
}

fn digest(domain: &str, parts: &[&str]) -> Digest {
    let mut hasher = blake3::Hasher::new_derive_key(domain);
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    *hasher.finalize().as_bytes()
}

async fn kept(response: &Response<Bytes>, snapshot: &Snapshot) -> Kept {
    let mut head = String::new();
    for (name, value) in response.headers() {
        if let Ok(value) = value.to_str() {
            head.push_str(&format!("{name}: {value}\n"));
        }
    }
    let status = response.status().as_u16();
    if response.extensions().get::<ShowsSecret>().is_none() {
        return Kept { status, head, body: response.body().to_vec() };
    }
    let (key, text) = (snapshot.sealing_key.clone(), String::from_utf8_lossy(response.body()).into_owned());
    let needs_old_key = !snapshot.masks.is_empty();
    // The key may lie in a file, which a worker does not read.
    let sealed = tokio::task::spawn_blocking(move || seal_kept(&key, needs_old_key, text)).await;
    let body = match sealed {
        Ok(Ok(sealed)) => sealed.into_bytes(),
        // Nothing is kept that shows it; whoever asks again is told that it is gone.
        Ok(Err(_)) | Err(_) => Vec::new(),
    };
    Kept { status, head: format!("{SEALED}\n{head}"), body }
}

async fn again(kept: Kept, snapshot: &Snapshot) -> Result<Response<Bytes>, ApiError> {
    let Kept { status, head, body } = kept;
    let (lines, body) = match head.strip_prefix(SEALED).and_then(|rest| rest.strip_prefix('\n')) {
        None => (head.as_str(), body),
        Some(lines) => {
            let (key, sealed) = (snapshot.sealing_key.clone(), String::from_utf8(body).unwrap_or_default());
            let opened = tokio::task::spawn_blocking(move || open_kept(&key, &sealed)).await;
            let Ok(Ok(text)) = opened else {
                let message = "it was carried out; its answer showed a secret and cannot be shown again";
                return Err(ApiError::new(StatusCode::CONFLICT, "idempotent_answer_lost", message));
            };
            (lines, text.into_bytes())
        }
    };
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or_default();
    for (name, value) in lines.lines().filter_map(|line| line.split_once(": ")) {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse::<HeaderValue>()) {
            response.headers_mut().append(name, value);
        }
    }
    response.headers_mut().insert(&REPLAYED, HeaderValue::from_static("true"));
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::fixture::snapshot;
    use crate::snapshot::{Glimpse, SealingKey};

    #[test]
    fn keys() {
        let head = |values: &[&'static [u8]]| -> HeaderMap {
            values.iter().map(|value| (KEY.clone(), HeaderValue::from_bytes(value).unwrap())).collect()
        };
        assert_eq!(key(&head(&[])).unwrap(), None);
        assert_eq!(key(&head(&[b"8e03978e-40d5-43dd-bc93-6894a57f9324"])).unwrap().map(str::len), Some(36));
        for bad in [&[b"".as_slice()][..], &[b"a", b"a"], &[b"\xff"], &[&[b'x'; IDEMPOTENCY_KEY_BYTES_MAX + 1]]] {
            assert_eq!(key(&head(bad)).unwrap_err().code, "invalid_idempotency_key", "{bad:?}");
        }
    }

    #[tokio::test]
    async fn an_answer_is_kept_whole_and_a_secret_sealed() {
        let dir = tempfile::tempdir().unwrap();
        let mut world = snapshot(vec![]);
        world.sealing_key = SealingKey::Own { file: SealingKey::file_in(dir.path()) };
        let answer = |secret: bool| {
            let mut response = Response::new(Bytes::from_static(b"{\"key\": \"mlx_sk_shown-once\"}\n"));
            *response.status_mut() = StatusCode::CREATED;
            response.headers_mut().insert("etag", HeaderValue::from_static("\"a: b\""));
            if secret {
                response.extensions_mut().insert(ShowsSecret);
            }
            response
        };
        for secret in [false, true] {
            let response = answer(secret);
            let stored = kept(&response, &world).await;
            let shows = memchr::memmem::find(&stored.body, b"shown-once").is_some();
            assert_eq!(shows, !secret, "{}", String::from_utf8_lossy(&stored.body));
            let given = again(stored, &world).await.unwrap();
            assert_eq!((given.status(), given.body()), (response.status(), response.body()));
            assert_eq!(given.headers()["etag"], "\"a: b\"");
            assert_eq!(given.headers()[&REPLAYED], "true");
        }
        // Without its key it is lost, and says so.
        let stored = kept(&answer(true), &world).await;
        std::fs::remove_dir_all(dir.path()).unwrap();
        assert_eq!(again(stored, &world).await.unwrap_err().code, "idempotent_answer_lost");
        // Nor is a new one made while the config needs the old.
        world
            .masks
            .insert("/providers/a/keys/0/value".into(), Glimpse { mask: "********".into(), ..Glimpse::default() });
        let stored = kept(&answer(true), &world).await;
        assert!(stored.body.is_empty() && !SealingKey::file_in(dir.path()).exists());
        assert_eq!(again(stored, &world).await.unwrap_err().code, "idempotent_answer_lost");
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        let of = |parts: &[&str]| digest(SCOPE_DOMAIN, parts);
        assert_ne!(of(&["ab", "c"]), of(&["a", "bc"]));
        assert_ne!(of(&["ab"]), digest(BODY_DOMAIN, &["ab"]));
        assert_eq!(of(&["ab", "c"]), of(&["ab", "c"]));
    }
}
