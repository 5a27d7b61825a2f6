//! Model lists: what the config names, and what the upstreams last said.
//!
//! An upstream is asked when a list is wanted and the last one is too old, never in a loop; one that
//! hangs or fails only lacks its own names. What was learnt also goes to the writer, so that a bare
//! model name finds its provider.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;
use http::header::{self, HeaderValue};
use http::{Method, Request, Response, Uri};
use serde_json::{Value, json};

use super::guard::RequestGuard;
use super::headers::{self, Encoding};
use super::{Call, Proxy, credential, error_body};
use crate::dialect::{Dialect, Endpoint, Operation, gemini};
use crate::error::{FaultClass, GatewayError, Kind};
use crate::hash::ConfigHash;
use crate::health::ListFault;
use crate::id::{KeyId, ModelName, ProviderName};
use crate::limits::{
    MODEL_LIST_BYTES_MAX, MODEL_LIST_ENTRIES_MAX, MODEL_LIST_TIMEOUT, MODEL_LIST_TTL, MODEL_NAME_BYTES_MAX,
};
use crate::project::Grant;
use crate::provider::{classify, error_code, path_and_query};
use crate::snapshot::{Allow, Key, Provider, Ready};
use crate::ticks::Ticks;
use crate::upstream::{SendFault, UpstreamBody};

/// Called with each list that arrives; must not block.
pub type ModelsListed = Arc<dyn Fn(ProviderName, Arc<[Box<str>]>) + Send + Sync>;

/// A worker's memory of upstream lists. The lock is held while asking: whoever comes meanwhile
/// waits for the same answer instead of asking again.
pub struct ModelLists {
    known: tokio::sync::Mutex<HashMap<ProviderName, Known>>,
    learnt: ModelsListed,
}

struct Known {
    key: (KeyId, ConfigHash),
    at: Ticks,
    models: Arc<[Box<str>]>,
}

impl ModelLists {
    pub fn new(learnt: ModelsListed) -> Self {
        Self { known: tokio::sync::Mutex::new(HashMap::new()), learnt }
    }

    /// Lets the writer know what an upstream lists.
    pub fn tell(&self, provider: &ProviderName, models: &Arc<[Box<str>]>) {
        (self.learnt)(provider.clone(), Arc::clone(models));
    }

    /// The upstream's list for each of `providers`, in the same order.
    async fn of(&self, proxy: &Proxy, providers: &[&Arc<Provider>]) -> Vec<Arc<[Box<str>]>> {
        let mut known = self.known.lock().await;
        let now = proxy.clock.now();
        let stale: Vec<(&Arc<Provider>, &Arc<Key>)> = providers
            .iter()
            .filter_map(|provider| Some((*provider, lister(provider)?)))
            .filter(|(provider, key)| {
                !known
                    .get(&provider.name)
                    .is_some_and(|k| k.key == (key.id.clone(), key.hash) && now.since(k.at) < MODEL_LIST_TTL)
            })
            .collect();
        let asked: Vec<_> = stale.iter().map(|(_, key)| ask(proxy, key)).collect();
        for ((provider, key), models) in stale.iter().zip(join_all(asked).await) {
            let Some(models) = models else { continue };
            self.tell(&provider.name, &models);
            known.insert(provider.name.clone(), Known { key: (key.id.clone(), key.hash), at: now, models });
        }
        providers.iter().map(|p| known.get(&p.name).map_or_else(|| Arc::from([]), |k| Arc::clone(&k.models))).collect()
    }
}

/// `GET /models` and `GET /models/{id}`.
pub async fn answer(call: &Call<'_>, guard: &mut RequestGuard) -> Result<Response<Bytes>, GatewayError> {
    let proxy = Arc::clone(guard.proxy());
    let native = native(call);
    let providers: Vec<&Arc<Provider>> = match native {
        Some(provider) => vec![provider],
        None => call.snapshot.providers.iter().filter(|p| is_callable(call, p)).collect(),
    };
    let grant = Grant::of(call.caller, call.snapshot);
    let lists = proxy.models.of(&proxy, &providers).await;
    let mut entries = Vec::new();
    for (provider, listed) in providers.iter().zip(&lists) {
        for name in names(provider, listed) {
            if grant.admits(provider.name.as_str(), &name, None) {
                let id = if native.is_some() { name } else { format!("{}/{name}", provider.name) };
                entries.push((id, provider.name.as_str().to_owned()));
            }
        }
    }
    if native.is_none() {
        let mut routes: Vec<_> = call.snapshot.routes.keys().collect();
        routes.sort();
        for route in routes {
            if grant.admits("", route, Some(route)) {
                entries.push((route.to_string(), "keyway".to_owned()));
            }
        }
    }
    let dialect = call.matched.endpoint.dialect;
    match (&call.matched.endpoint.operation, &call.matched.model) {
        (Operation::Model, Some(asked)) => one(dialect, &entries, asked),
        _ => Ok(json(&list(dialect, &entries))),
    }
}

/// The one model that was asked for, by its listed id or by its bare name.
fn one(dialect: Dialect, entries: &[(String, String)], asked: &ModelName) -> Result<Response<Bytes>, GatewayError> {
    let wanted = asked.as_str();
    let bare = |id: &str| id.split_once('/').is_some_and(|(_, name)| name.eq_ignore_ascii_case(wanted));
    let found = entries
        .iter()
        .find(|(id, _)| id.eq_ignore_ascii_case(wanted))
        .or_else(|| entries.iter().find(|(id, _)| bare(id)));
    match found {
        Some((id, owner)) => Ok(json(&entry(dialect, id, owner))),
        None => {
            let message = format!("the model '{wanted}' does not exist or is not served here");
            Err(GatewayError::caller(Kind::ModelNotFound, "model_not_found", message).param("model"))
        }
    }
}

/// A whole list in one page (wire.md B, C).
fn list(dialect: Dialect, entries: &[(String, String)]) -> Value {
    let models: Vec<Value> = entries.iter().map(|(id, owner)| entry(dialect, id, owner)).collect();
    match dialect {
        Dialect::Anthropic => json!({
            "first_id": entries.first().map(|(id, _)| id),
            "last_id": entries.last().map(|(id, _)| id),
            "has_more": false,
            "data": models,
        }),
        Dialect::Gemini => json!({"models": models}),
        Dialect::OpenAi | Dialect::Bedrock | Dialect::Cohere => json!({"object": "list", "data": models}),
    }
}

/// Members of a model object that clients count on. When it was made is unknown, and said so by the
/// first second of time.
fn entry(dialect: Dialect, id: &str, owner: &str) -> Value {
    match dialect {
        Dialect::Anthropic => {
            json!({"type": "model", "id": id, "display_name": id, "created_at": "1970-01-01T00:00:00Z"})
        }
        Dialect::Gemini if id.starts_with("tunedModels/") => json!({"name": id, "displayName": id}),
        Dialect::Gemini => json!({"name": format!("models/{id}"), "displayName": id}),
        Dialect::OpenAi | Dialect::Bedrock | Dialect::Cohere => {
            json!({"id": id, "object": "model", "created": 0, "owned_by": owner})
        }
    }
}

fn json(value: &Value) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(value.to_string()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The provider that a native path means, when it is configured.
fn native<'a>(call: &Call<'a>) -> Option<&'a Arc<Provider>> {
    call.matched.native.iter().find_map(|row| call.snapshot.providers.iter().find(|p| p.name.as_str() == *row))
}

/// A list holds what can be had in the dialect in which it was asked for.
fn is_callable(call: &Call<'_>, provider: &Provider) -> bool {
    provider.row.speaks(call.matched.endpoint.dialect)
}

/// Names that some key of the provider serves: whitelists, aliases, and the upstream's list as far
/// as the keys let it through.
fn names(provider: &Provider, listed: &[Box<str>]) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for key in provider.keys.iter().filter(|key| key.enabled && key.ready.is_ok() && key.row.lists_models) {
        let mut offer = |name: &str| {
            if key.rule.allows(&name.to_ascii_lowercase()) {
                names.insert(name.to_owned());
            }
        };
        if let Allow::Set(allowed) = &key.rule.allow {
            allowed.iter().for_each(|name| offer(name));
        }
        key.aliases.names.iter().for_each(|name| offer(name));
        listed.iter().for_each(|name| offer(name));
    }
    names
}

/// The key whose list stands for the provider: the first that could be used.
fn lister(provider: &Provider) -> Option<&Arc<Key>> {
    let row = provider.row;
    let tells = row.lists_models && !row.lists_more_than_it_serves;
    provider.keys.iter().find(|key| tells && key.enabled && key.ready.is_ok())
}

/// One upstream's list, or `None` when it cannot be had now.
async fn ask(proxy: &Proxy, key: &Key) -> Option<Arc<[Box<str>]>> {
    list_models(proxy, key).await.ok()
}

/// What an upstream lists for a key. Of a failure nothing is told but its class: text, status and
/// address stay here.
pub async fn list_models(proxy: &Proxy, key: &Key) -> Result<Arc<[Box<str>]>, ListFault> {
    tokio::time::timeout(MODEL_LIST_TIMEOUT, fetch(proxy, key)).await.unwrap_or(Err(ListFault::Timeout))
}

async fn fetch(proxy: &Proxy, key: &Key) -> Result<Arc<[Box<str>]>, ListFault> {
    let ready = key.ready.as_ref().map_err(|_| ListFault::Unexpected)?;
    let elsewhere = Endpoint { dialect: Dialect::OpenAi, operation: Operation::ListModels };
    let (base, path) = match key.row.elsewhere(elsewhere) {
        Some(path) => (&ready.root_path, path),
        None => (&ready.base_path, key.row.models_path),
    };
    parse(&get(proxy, key, ready, (base, path)).await?).ok_or(ListFault::Unexpected)
}

/// Makes the one call of a row that lists nothing and vouches for its key.
pub async fn vouch(proxy: &Proxy, key: &Key, path: &str) -> Result<(), ListFault> {
    let asked = async {
        let ready = key.ready.as_ref().map_err(|_| ListFault::Unexpected)?;
        get(proxy, key, ready, (&ready.base_path, path)).await.map(drop)
    };
    tokio::time::timeout(MODEL_LIST_TIMEOUT, asked).await.unwrap_or(Err(ListFault::Timeout))
}

async fn get(proxy: &Proxy, key: &Key, ready: &Ready, (base, path): (&str, &str)) -> Result<Bytes, ListFault> {
    let mut request = Request::new(UpstreamBody::Empty);
    *request.method_mut() = Method::GET;
    let (path, query) = match path.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (path, None),
    };
    let path = path_and_query(base, path, query).map_err(|_| ListFault::Unexpected)?;
    *request.uri_mut() = Uri::from(path);
    let mut head = headers::to_upstream(http::HeaderMap::new(), ready, Encoding::Identity);
    if let Some(dialect) = key.row.speaks.first() {
        headers::complete(&mut head, *dialect);
    }
    head.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    *request.headers_mut() = head;
    let identified = Box::pin(credential::put(proxy, ready, request)).await.map_err(|error| match error.kind {
        Kind::Answer(FaultClass::Credential) => ListFault::Unauthorized,
        _ => ListFault::Unreachable,
    })?;
    let answer =
        proxy.upstream.send(&ready.transport, &key.timeouts, identified.request).await.map_err(|e| fault(e.what))?;
    let status = answer.parts.status;
    let body = error_body::read(answer.body, MODEL_LIST_BYTES_MAX).await.map_err(|_| ListFault::Unexpected)?;
    if status.is_success() {
        return Ok(body);
    }
    // A bad key is a 400 here and a 498 there: the row knows.
    match classify(key.row, status.as_u16(), &error_code(&body).unwrap_or_default()) {
        FaultClass::Credential | FaultClass::ModelAccess => Err(ListFault::Unauthorized),
        FaultClass::Rate | FaultClass::Content | FaultClass::Caller | FaultClass::Server | FaultClass::ClockSkew => {
            Err(ListFault::Unexpected)
        }
    }
}

fn fault(what: SendFault) -> ListFault {
    match what {
        SendFault::Connect | SendFault::NoDescriptor => ListFault::Unreachable,
        SendFault::ConnectTimeout | SendFault::FirstByteTimeout | SendFault::Saturated => ListFault::Timeout,
        SendFault::RequestBody | SendFault::Broken => ListFault::Unexpected,
    }
}

/// `{"data": [{"id"}]}` of most, a bare array of some, `{"models": [{"name"}]}` of Google (wire.md C).
fn parse(body: &[u8]) -> Option<Arc<[Box<str>]>> {
    let value: Value = serde_json::from_slice(body).ok()?;
    let under = |name: &str| value.get(name).and_then(Value::as_array);
    let list = under("data").or_else(|| under("models")).or_else(|| value.as_array())?;
    let name = |entry: &Value| -> Option<Box<str>> {
        match entry.get("id") {
            Some(id) => id.as_str().map(Box::from),
            None => Some(Box::from(gemini::plain_name(entry.get("name")?.as_str()?))),
        }
    };
    let is_name = |id: &str| !id.is_empty() && id.len() <= MODEL_NAME_BYTES_MAX && !id.chars().any(char::is_control);
    let names = list.iter().filter_map(name).filter(|id| is_name(id));
    Some(names.take(MODEL_LIST_ENTRIES_MAX).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_all_shapes() {
        for body in [
            r#"{"object":"list","data":[{"id":"a"},{"id":"b","x":1},{"no":1},{"id":""}]}"#,
            r#"[{"id":"a"},{"id":"b"}]"#,
            r#"{"models":[{"name":"models/a","displayName":"A"},{"name":"b"},{"name":7}],"nextPageToken":""}"#,
            r#"{"models":[{"name":"a","endpoints":["chat"]},{"name":"b"}],"next_page_token":null}"#,
        ] {
            let models = parse(body.as_bytes()).expect("a list");
            assert_eq!(models.iter().map(|m| &**m).collect::<Vec<_>>(), ["a", "b"], "{body}");
        }
        for body in ["", "{}", "null", "{\"data\":{}}", "<html>"] {
            assert!(parse(body.as_bytes()).is_none(), "{body}");
        }
    }
}
