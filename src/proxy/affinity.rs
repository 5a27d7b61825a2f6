//! Things that an upstream keeps — files, batches, stored responses, conversations — and the key that
//! made each: a call that names one goes back to that key, and under projects to nobody else's project.
//!
//! Ids are learnt from the beginning of a good answer as it passes and remembered by `state/`; a call
//! waits for that memory only when it names an id. Without an answer from there a call is routed as if
//! the id were unknown, but under projects it is refused.

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderMap, Method};
use smallvec::SmallVec;

use super::error_body;
use super::peek::Opened;
use super::{Call, Proxy, query_value};
use crate::chunks::Chunks;
use crate::dialect::kept::{self, List, Spot, UPLOAD, files_named, ids_named, text_of};
use crate::dispatch::{ModelRequest, Pin};
use crate::error::{GatewayError, Kind, Sent};
use crate::id::ProjectId;
use crate::limits::{FILES_NAMED_MAX, ID_LIST_BYTES_MAX, ID_SOUGHT_BYTES_MAX, ID_WAIT_MAX};
use crate::project::Caller;
use crate::snapshot::{Key, Snapshot};
use crate::state::{Owner, State};

/// Where the pieces of an upload of Gemini's go.
const UPLOAD_URL: &str = "x-goog-upload-url";

/// Whether anything would be gained by looking: with one key and no projects every id is that key's.
pub fn matters(snapshot: &Snapshot) -> bool {
    snapshot.projects.is_some() || snapshot.providers.iter().map(|provider| provider.keys.len()).sum::<usize>() > 1
}

/// What a call has to do with things that are kept.
#[derive(Debug, Default)]
pub struct Kept {
    /// Members of the answer that name things which the key made.
    learn: &'static [&'static str],
    /// The caller's, if there are projects.
    project: Option<ProjectId>,
    /// Goes with a good answer.
    forget: Option<Box<str>>,
    /// The answer lists things of all projects.
    lists_all: bool,
    /// An id in the body chose the key.
    pub led: bool,
}

impl Kept {
    pub fn is_filtered(&self) -> bool {
        self.lists_all && self.project.is_some()
    }
}

/// Sends the request to the key that made what it names, and says what its answer will tell.
pub async fn settle(
    call: &Call<'_>,
    spot: Spot<'_>,
    method: &Method,
    body: Option<&Chunks>,
    request: &mut ModelRequest,
    proxy: &Proxy,
) -> Result<Kept, GatewayError> {
    let Some(state) = &proxy.state else { return Ok(Kept::default()) };
    let project = project_of(call);
    let matters = matters(call.snapshot);
    // Stored responses come by the thousand; where one key makes them all there is nothing to tell apart.
    let learn =
        if matters || spot.root != "/responses" { spot.told(method, call.matched.endpoint.dialect) } else { &[] };
    let mut kept = Kept { learn, project: project.cloned(), ..Kept::default() };
    if !matters {
        return Ok(kept);
    }
    let is_read = method == Method::GET || method == Method::HEAD;
    let upload = (spot.root == UPLOAD).then(|| query_value(call.query, "upload_id")).flatten();
    let ids: Vec<Box<str>> = match (spot.id, upload) {
        (Some(id), _) => vec![decoded(id).into()],
        (None, Some(upload)) => vec![upload_name(&upload)],
        (None, None) if is_read => {
            kept.lists_all = true;
            // A page behind an id is the page of that id's key, whoever made it.
            return Ok(paged(call, request, state, kept).await);
        }
        (None, None) => body.map(|body| named(&joined(body), project.is_some())).unwrap_or_default(),
    };
    if spot.is_whole && method == Method::DELETE {
        kept.forget = ids.first().cloned();
    }
    led(call, ids, request, state, kept).await
}

/// Whether the body of a call that keeps nothing may name files. Pieces are looked at where they lie, and
/// where they meet.
pub fn may_name_files(call: &Call<'_>, body: &Chunks) -> bool {
    /// No name is longer.
    const SEAM: usize = 16;
    if !matters(call.snapshot) {
        return false;
    }
    let thoroughly = project_of(call).is_some();
    let mut seam: SmallVec<[u8; 2 * SEAM]> = SmallVec::new();
    body.iter().any(|piece| {
        let (begin, end) = (piece.len().min(SEAM), piece.len().saturating_sub(SEAM));
        seam.extend_from_slice(piece.get(..begin).unwrap_or_default());
        let found = kept::may_name_files(&seam, thoroughly) || kept::may_name_files(piece, thoroughly);
        if end > 0 {
            seam.clear();
            seam.extend_from_slice(piece.get(end..).unwrap_or_default());
        } else {
            let past = seam.len().saturating_sub(SEAM);
            seam.drain(..past);
        }
        found
    })
}

/// The same for a call that keeps nothing: to the key that made a file which the model is to read.
pub async fn settle_content(
    call: &Call<'_>,
    body: &Chunks,
    request: &mut ModelRequest,
    proxy: &Proxy,
) -> Result<Kept, GatewayError> {
    let Some(state) = &proxy.state else { return Ok(Kept::default()) };
    let ids = files_named(&joined(body), project_of(call).is_some());
    led(call, ids, request, state, Kept::default()).await
}

fn named(body: &[u8], thoroughly: bool) -> Vec<Box<str>> {
    let mut ids = ids_named(body, thoroughly);
    ids.extend(files_named(body, thoroughly));
    ids
}

/// An upload of Gemini's among the ids: its name is long, and is a secret of sorts.
fn upload_name(id: &str) -> Box<str> {
    format!("upload:{}", blake3::hash(id.as_bytes()).to_hex()).into()
}

async fn led(
    call: &Call<'_>,
    ids: Vec<Box<str>>,
    request: &mut ModelRequest,
    state: &State,
    mut kept: Kept,
) -> Result<Kept, GatewayError> {
    let project = project_of(call);
    if project.is_some() && ids.len() > FILES_NAMED_MAX {
        let message = format!("the request names more than {FILES_NAMED_MAX} files");
        return Err(GatewayError::caller(Kind::BadRequest, "too_many_files", message));
    }
    if ids.is_empty() {
        return Ok(kept);
    }
    let owners = owners(state, ids.clone()).await;
    for (at, id) in ids.iter().enumerate() {
        let owner = owners.as_ref().ok().and_then(|owners| owners.get(at)?.as_ref());
        match (&owners, project) {
            (Err(Silent), Some(_)) => return Err(forgetful()),
            (Ok(_), Some(project)) if owner.and_then(|owner| owner.project.as_ref()) != Some(project) => {
                return Err(not_found(id));
            }
            _ => {}
        }
        if let Some(owner) = owner {
            kept.led |= lead(request, owner, call.snapshot);
        }
    }
    Ok(kept)
}

async fn paged(call: &Call<'_>, request: &mut ModelRequest, state: &State, mut kept: Kept) -> Kept {
    if let Some(id) = cursor(call.query)
        && let Ok(owners) = owners(state, vec![id]).await
        && let Some(Some(owner)) = owners.first()
    {
        kept.led = lead(request, owner, call.snapshot);
    }
    kept
}

/// The state does not answer in time.
struct Silent;

/// To the provider and key of an owner, unless the caller or an id before it said otherwise. Returns
/// whether it was this one that chose.
fn lead(request: &mut ModelRequest, owner: &Owner, snapshot: &Snapshot) -> bool {
    if request.pin.is_some() {
        return false;
    }
    let provider = snapshot.providers.iter().find(|provider| provider.name == owner.provider);
    // A key that is gone leaves its things to whoever holds its account now.
    let Some(provider) = provider.filter(|provider| provider.keys.iter().any(|key| key.id == owner.key)) else {
        return false;
    };
    if request.model.is_none() && request.provider.is_none() {
        request.provider = Some(provider.name.clone());
    }
    let chosen = request.model.is_some() || request.provider.as_ref() == Some(&provider.name);
    if chosen {
        request.pin = Some(Pin::Id(owner.key.as_str().to_owned()));
    }
    chosen
}

async fn owners(state: &State, ids: Vec<Box<str>>) -> Result<Vec<Option<Owner>>, Silent> {
    match tokio::time::timeout(ID_WAIT_MAX, state.owners(ids)).await {
        Ok(Ok(owners)) => Ok(owners),
        Ok(Err(_)) | Err(_) => Err(Silent),
    }
}

fn project_of<'a>(call: &Call<'a>) -> Option<&'a ProjectId> {
    match call.caller {
        Caller::Project { project, .. } => call.snapshot.projects.as_ref()?.get(*project).map(|project| &project.id),
        Caller::Open | Caller::Loopback | Caller::Management { .. } => None,
    }
}

fn not_found(id: &str) -> GatewayError {
    let shown: String = id.chars().filter(|c| !c.is_control()).take(128).collect();
    GatewayError::caller(Kind::NotFound, "not_found", format!("there is nothing with the id '{shown}'"))
}

fn forgetful() -> GatewayError {
    let message = "whose this is cannot be told at the moment; come back in a moment";
    GatewayError::gateway(Kind::Overloaded, "state_unavailable", message).retry_after(ID_WAIT_MAX)
}

fn decoded(id: &str) -> Cow<'_, str> {
    percent_encoding::percent_decode_str(id).decode_utf8_lossy()
}

/// `after` of a list.
fn cursor(query: Option<&str>) -> Option<Box<str>> {
    let pairs = form_urlencoded::parse(query?.as_bytes());
    let mut after = pairs.filter(|(name, _)| matches!(&**name, "after" | "after_id"));
    after.next().map(|(_, id)| id).filter(|id| !id.is_empty()).map(Box::from)
}

/// One piece is how most bodies come.
fn joined(body: &Chunks) -> Bytes {
    match body.get(0) {
        Some(first) if body.get(1).is_none() => first.clone(),
        _ => body.flatten(),
    }
}

/// Listens at the beginning of an answer for the ids of what was made.
pub struct Learner {
    state: State,
    owner: Owner,
    /// Members that have not been met yet.
    names: SmallVec<[&'static str; 3]>,
    read: Vec<u8>,
}

impl Learner {
    /// `None` where there is nothing to learn. What was deleted is forgotten here.
    pub fn of(kept: &Kept, head: &HeaderMap, key: &Key, proxy: &Proxy) -> Option<Box<Self>> {
        let state = proxy.state.as_ref()?;
        if let Some(id) = &kept.forget {
            let _ = state.forget(id);
        }
        if kept.learn.is_empty() {
            return None;
        }
        let owner = Owner { provider: key.provider.clone(), key: key.id.clone(), project: kept.project.clone() };
        let begun =
            head.get(UPLOAD_URL).and_then(|url| query_value(url.to_str().ok()?.split_once('?')?.1.into(), "upload_id"));
        if let Some(id) = begun {
            told(state, &upload_name(&id), &owner, proxy);
        }
        Some(Box::new(Self { state: state.clone(), owner, names: kept.learn.into(), read: Vec::new() }))
    }

    /// A piece of the answer, before it goes to the caller: who asks for the id finds it remembered.
    pub fn hear(&mut self, chunk: &[u8], proxy: &Proxy) {
        if self.names.is_empty() {
            return;
        }
        let room = ID_SOUGHT_BYTES_MAX.saturating_sub(self.read.len());
        self.read.extend_from_slice(chunk.get(..room).unwrap_or(chunk));
        let (state, owner, read) = (&self.state, &self.owner, &self.read);
        self.names.retain(|name| match text_of(read, name) {
            None => true,
            Some(id) => {
                // Google's names are paths; calls name the last word.
                let id = if *name == "name" { id.rsplit('/').next().unwrap_or(id) } else { id };
                told(state, id, owner, proxy);
                false
            }
        });
        if self.read.len() >= ID_SOUGHT_BYTES_MAX {
            self.names.clear();
        }
        if self.names.is_empty() {
            self.read = Vec::new();
        }
    }
}

fn told(state: &State, id: &str, owner: &Owner, proxy: &Proxy) {
    if state.remember(id, owner.clone(), proxy.clock.wall()).is_err() {
        tracing::warn!(event = "id_not_remembered", "the state has no room for the key of what was made");
    }
}

/// The list without what other projects made.
pub async fn filtered(body: Opened, kept: &Kept, proxy: &Proxy) -> Result<Bytes, GatewayError> {
    let unreadable = || {
        let message = "the upstream's list could not be read, and is not shown unread under projects";
        GatewayError::upstream(Kind::Broken, Sent::Maybe, "upstream_unreadable", message)
    };
    let bytes = error_body::read(body, ID_LIST_BYTES_MAX).await.map_err(|_| unreadable())?;
    let list = List::read(&bytes).ok_or_else(unreadable)?;
    let Some(state) = &proxy.state else { return Err(forgetful()) };
    let owners = owners(state, list.ids()).await.map_err(|Silent| forgetful())?;
    let is_own = |at: usize| {
        let owner = owners.get(at).and_then(Option::as_ref);
        owner.is_some_and(|owner| owner.project.is_some() && owner.project == kept.project)
    };
    list.only(is_own).map(Bytes::from).ok_or_else(unreadable)
}
