//! `keys[]`: who a key is, what it may serve, where it goes and with what.
//!
//! A key that lacks its secret is compiled all the same and says why it is not ready: one missing
//! variable must not stop the others.

use std::collections::HashMap;
use std::sync::Arc;

use http::{HeaderName, HeaderValue};

use super::cloud::{self, Site};
use super::provider::Host;
use super::{Compiler, alias, model_rule, secrets};
use crate::config::file::KeyFile;
use crate::config::problem::pointer_to;
use crate::config::{Code, SecretRef};
use crate::dialect::Dialect;
use crate::hash::{Canon, ConfigHash};
use crate::id::{KeyId, KeyName, ProviderName, TransportId};
use crate::limits::{KEY_ID_CHARS_MAX, KEY_NAME_CHARS_MAX, MODEL_NAME_BYTES_MAX};
use crate::provider::credential::Source;
use crate::provider::{BaseUrl, Place, ProviderRow, UpstreamAuth};
use crate::secret::Secret;
use crate::snapshot::{
    Aliases, Allow, IssuerWay, Key, ModelRule, ProxyServer, Reach, Ready, Through, Transport, Unready, Wire,
};
use crate::weight::{Priority, Weight};

/// Name of the one key that has none (CONTRACT 2.3).
pub(in crate::snapshot) const DEFAULT_NAME: &str = "default";
const ID_DOMAIN: &str = "keyway 2026 derived key id v1";
const TRANSPORT_DOMAIN: &str = "keyway 2026 transport id v1";
const ISSUERS_DOMAIN: &str = "keyway 2026 way to issuers v1";
/// `<provider>_key_config` belongs to the provider of that name.
const CONFIG_SUFFIX: &str = "_key_config";

/// What a key is called.
pub(super) struct Identity {
    name: String,
    id: String,
}

/// Names and ids of a provider's keys; both are checked to be one of a kind.
pub(super) fn identities(cx: &mut Compiler<'_>, provider: &str, keys: &[KeyFile], pointer: &str) -> Vec<Identity> {
    let mut names: HashMap<&str, usize> = HashMap::new();
    let mut identities = Vec::with_capacity(keys.len());
    for (i, key) in keys.iter().enumerate() {
        let pointer = pointer_to(pointer, &i.to_string());
        let name = key.name.as_deref().unwrap_or(DEFAULT_NAME);
        let name_pointer = if key.name.is_some() { pointer_to(&pointer, "name") } else { pointer.clone() };
        if let Some(first) = names.insert(name, i) {
            let text = format!("key {first} of this provider has the same name");
            let problem = cx.problems.error(Code::Duplicate, name_pointer, text);
            if key.name.is_none() {
                problem.hint(format!("only one key may go without a name, it is called `{DEFAULT_NAME}`"));
            }
        } else if !is_key_name(name) {
            let text = format!("a name has 1 to {KEY_NAME_CHARS_MAX} characters, none of them a control character");
            cx.problems.error(Code::BadValue, name_pointer, text);
        }
        identities.push(Identity { name: name.to_owned(), id: id(cx, provider, name, key.id.as_deref(), &pointer) });
    }
    identities
}

fn is_key_name(name: &str) -> bool {
    (1..=KEY_NAME_CHARS_MAX).contains(&name.chars().count())
        && name.trim() == name
        && !name.chars().any(char::is_control)
}

fn id(cx: &mut Compiler<'_>, provider: &str, name: &str, written: Option<&str>, pointer: &str) -> String {
    let id = written.map_or_else(|| derived_id(provider, name), str::to_owned);
    let at = if written.is_some() { pointer_to(pointer, "id") } else { pointer.to_owned() };
    // It stands in a path segment, in a header and in a query.
    let plain = id.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:@-".contains(&b));
    if !plain || !(1..=KEY_ID_CHARS_MAX).contains(&id.len()) {
        let text = format!("an id has 1 to {KEY_ID_CHARS_MAX} letters, digits, `.`, `_`, `:`, `@` or `-`");
        cx.problems.error(Code::BadValue, at, text);
    } else if let Some(first) = cx.key_ids.get(&id) {
        let text = format!("the key at {first} has the same id");
        cx.problems.error(Code::Duplicate, at, text);
    } else {
        cx.key_ids.insert(id.clone(), pointer.to_owned());
    }
    id
}

/// Stable over restarts and machines: pins, health and dashboards follow it. Shaped like a UUID of
/// version 8 (made by a scheme of one's own), because clients expect one.
pub(in crate::snapshot) fn derived_id(provider: &str, name: &str) -> String {
    let mut hasher = blake3::Hasher::new_derive_key(ID_DOMAIN);
    for part in [provider, name] {
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
    }
    let mut number = [0; 16];
    hasher.finalize_xof().fill(&mut number);
    let number = u128::from_be_bytes(number);
    let number = number & !(0xf << 76) & !(0x3 << 62) | (0x8 << 76) | (0x2 << 62);
    let hex = format!("{number:032x}");
    let mut id = String::with_capacity(36);
    for (at, digit) in hex.chars().enumerate() {
        if matches!(at, 8 | 12 | 16 | 20) {
            id.push('-');
        }
        id.push(digit);
    }
    id
}

/// The key without credential of a provider that takes none.
pub(super) fn implicit(cx: &mut Compiler<'_>, host: &Host<'_>, pointer: &str) -> Option<Key> {
    let id = id(cx, host.name, DEFAULT_NAME, None, pointer);
    let base = base(cx, host, None, &Site::default(), pointer);
    let row = host.row?;
    let ready = ready(cx, host, base, Ok(None), Place::Plain);
    let fingerprint = fingerprint(cx, None, &ready);
    Some(Key {
        id: KeyId::new(id.as_str()),
        name: KeyName::from(DEFAULT_NAME),
        provider: ProviderName::from(host.name),
        row,
        pointer: String::new(),
        hash: ConfigHash::of(&Canon::Null),
        fingerprint,
        rule: ModelRule { allow: Allow::All, deny: Allow::Set(Vec::new()) },
        aliases: Aliases::default(),
        weight: Weight::DEFAULT,
        priority: Priority::DEFAULT,
        enabled: true,
        for_batch: true,
        ready,
        timeouts: host.network.timeouts,
        health: Arc::default(),
        origin: Arc::default(),
        provider_header: header(host.name),
        key_header: header(&id),
    })
}

pub(super) fn one(
    cx: &mut Compiler<'_>,
    host: &Host<'_>,
    file: &KeyFile,
    identity: Identity,
    pointer: String,
) -> Option<Key> {
    let rule = model_rule::of(cx, host.name, file, &pointer);
    let aliases = alias::of(cx, file, &rule, &pointer);
    dates(cx, file, &pointer);
    let only_model = provider_config(cx, host, file, &pointer);
    // Claude is always reached by the endpoint of its own, where there is one.
    if file.use_anthropic_endpoints == Some(true) && !host.row.is_some_and(|row| row.speaks(Dialect::Anthropic)) {
        cx.not_yet(pointer_to(&pointer, "use_anthropic_endpoints"), "`use_anthropic_endpoints`");
    }
    let value = value(cx, host, file.value.as_ref(), &pointer);
    let row = host.row?;
    let secret = value.clone().ok().flatten();
    let ready = match cloud::site(cx, host, file, &pointer) {
        Ok(site) => {
            let site = site.unwrap_or_default();
            let base = base(cx, host, Some(file), &site, &pointer);
            let deployed = file.replicate_key_config.as_ref().and_then(|config| config.use_deployments_endpoint);
            let place = if deployed == Some(true) { Place::Deployed } else { site.place.clone() };
            let auth = match auth(cx, row, file.value.as_ref(), value, &pointer) {
                Ok(None) => cloud::auth(cx, host, file, site, base.0.as_ref().ok(), (&identity.name, &pointer)),
                by_value => by_value,
            };
            ready(cx, host, base, auth, place).map(|ready| Ready { only_model, ..ready })
        }
        Err(unready) => Err(unready),
    };
    let fingerprint = fingerprint(cx, secret.as_ref(), &ready);
    Some(Key {
        id: KeyId::new(identity.id.as_str()),
        name: KeyName::new(identity.name),
        provider: ProviderName::from(host.name),
        row,
        pointer,
        hash: file.hash,
        fingerprint,
        rule,
        aliases,
        weight: file.weight.unwrap_or(Weight::DEFAULT),
        priority: file.priority.unwrap_or(Priority::DEFAULT),
        enabled: file.enabled.unwrap_or(true),
        for_batch: file.use_for_batch_api.unwrap_or(false),
        ready,
        timeouts: host.network.timeouts,
        health: Arc::default(),
        origin: Arc::default(),
        provider_header: header(host.name),
        key_header: header(&identity.id),
    })
}

/// The secret of a key; `None` where the provider can do without and none is given.
fn value(
    cx: &mut Compiler<'_>,
    host: &Host<'_>,
    written: Option<&SecretRef>,
    pointer: &str,
) -> Result<Option<Secret>, Unready> {
    let optional = host.row.is_none_or(|row| row.value_optional);
    match written {
        Some(reference) if !secrets::is_empty_literal(reference) => {
            cx.look(reference, &pointer_to(pointer, "value")).map(Some)
        }
        _ if optional => Ok(None),
        Some(_) => {
            let problem = cx.problems.error(Code::BadValue, pointer_to(pointer, "value"), "the value is empty");
            problem.hint("write a reference like `\"env.NAME\"`");
            Err(Unready::Incomplete { what: "the value is empty".to_owned() })
        }
        None => {
            cx.missing(pointer, "value", "write a reference like `\"value\": \"env.NAME\"`");
            Err(Unready::Incomplete { what: "the value is missing".to_owned() })
        }
    }
}

fn auth(
    cx: &mut Compiler<'_>,
    row: &ProviderRow,
    written: Option<&SecretRef>,
    value: Result<Option<Secret>, Unready>,
    pointer: &str,
) -> Result<Option<UpstreamAuth>, Unready> {
    let (Some(secret), Some(written)) = (value?, written) else { return Ok(None) };
    UpstreamAuth::for_value(row.auth, &secret)
        .map(Some)
        .map_err(|what| cx.unusable(written, &pointer_to(pointer, "value"), format!("the value {what}")))
}

/// `*_key_config`: only the one of the provider is allowed. Returns the only model that is served.
fn provider_config(cx: &mut Compiler<'_>, host: &Host<'_>, file: &KeyFile, pointer: &str) -> Option<Box<str>> {
    let written = [
        ("azure_key_config", file.azure_key_config.is_some()),
        ("vertex_key_config", file.vertex_key_config.is_some()),
        ("bedrock_key_config", file.bedrock_key_config.is_some()),
        ("replicate_key_config", file.replicate_key_config.is_some()),
        ("vllm_key_config", file.vllm_key_config.is_some()),
        ("ollama_key_config", file.ollama_key_config.is_some()),
        ("sgl_key_config", file.sgl_key_config.is_some()),
    ];
    for (member, _) in written.iter().filter(|(_, is_there)| *is_there) {
        let fits = |row: &ProviderRow| member.strip_suffix(CONFIG_SUFFIX) == Some(row.id);
        if host.row.is_some_and(|row| !fits(row)) {
            let text = "this member belongs to keys of another provider";
            cx.problems.error(Code::Conflict, pointer_to(pointer, member), text).hint("remove the member");
        }
    }
    let model = file.vllm_key_config.as_ref()?.model_name.as_deref()?;
    if model.is_empty() || model.trim() != model || model.len() > MODEL_NAME_BYTES_MAX {
        let at = pointer_to(&pointer_to(pointer, "vllm_key_config"), "model_name");
        cx.problems.error(Code::BadValue, at, "not the name of a model");
    }
    Some(model.to_ascii_lowercase().into())
}

/// Where the key's requests go: its own address, else its provider's, else its region's, else the
/// catalogue's. And what kind of place that must be, which is said where the address is written.
fn base(
    cx: &mut Compiler<'_>,
    host: &Host<'_>,
    file: Option<&KeyFile>,
    site: &Site,
    pointer: &str,
) -> (Result<BaseUrl, Unready>, Reach) {
    let prefix = host.row.map_or("", |row| row.version_prefix);
    let marked = |public_only: bool| if public_only { Reach::Public } else { Reach::Anywhere };
    let own = file.and_then(|file| own_address(cx, host, file, pointer));
    let mut reach = marked(file.and_then(|file| file.public_address_only).unwrap_or(false));
    let base = if let Some((reference, at)) = own {
        cx.base_url(reference, &at, prefix)
    } else if let Some(base) = &host.network.base_url {
        reach = marked(host.network.public_only);
        base.clone()
    } else {
        let known = site.base_url.as_deref().or(host.row.map(|row| row.base_url)).unwrap_or_default();
        if (host.custom && site.base_url.is_none()) || (known.is_empty() && host.row.is_some()) {
            // Looked for at the provider: that is where it is written once.
            let provider = pointer_to("/providers", host.name);
            cx.missing(&pointer_to(&provider, "network_config"), "base_url", "or set it at each key");
        }
        BaseUrl::parse(known, prefix).map_err(|_| Unready::Incomplete { what: "no address".to_owned() })
    };
    let base = base.map(|base| match &site.below {
        Some(below) => base.with_path_below(below),
        // A prefix of two words may be written by half.
        None => base.without_half_of(prefix),
    });
    (base, reach)
}

/// `base_url` of the key or the address in its provider config, with its pointer.
fn own_address<'f>(
    cx: &mut Compiler<'_>,
    host: &Host<'_>,
    file: &'f KeyFile,
    pointer: &str,
) -> Option<(&'f SecretRef, String)> {
    let configs = [
        ("vllm_key_config", "url", file.vllm_key_config.as_ref().and_then(|config| config.url.as_ref())),
        ("ollama_key_config", "url", file.ollama_key_config.as_ref().and_then(|config| config.url.as_ref())),
        ("sgl_key_config", "url", file.sgl_key_config.as_ref().and_then(|config| config.url.as_ref())),
        ("azure_key_config", "endpoint", file.azure_key_config.as_ref().and_then(|config| config.endpoint.as_ref())),
    ];
    let of_config = configs.into_iter().find_map(|(config, member, url)| {
        url.filter(|url| !secrets::is_empty_literal(url))
            .map(|url| (url, pointer_to(&pointer_to(pointer, config), member)))
    });
    let of_key = file.base_url.as_ref().map(|url| (url, pointer_to(pointer, "base_url")));
    if let (Some((_, at)), Some(_)) = (&of_key, &of_config) {
        cx.problems.error(Code::Conflict, at, "the key names two addresses").hint("keep one of the two");
    }
    if let Some((_, at)) = &of_key
        && host.row.is_some_and(|row| row.in_process)
    {
        cx.problems.error(Code::Conflict, at, "this provider is served inside the process and has no address");
    }
    of_key.or(of_config)
}

fn ready(
    cx: &mut Compiler<'_>,
    host: &Host<'_>,
    (base, reach): (Result<BaseUrl, Unready>, Reach),
    auth: Result<Option<UpstreamAuth>, Unready>,
    place: Place,
) -> Result<Ready, Unready> {
    let auth = auth?.unwrap_or(UpstreamAuth::None);
    let base = base?;
    let ca_pem = host.network.ca_pem.clone()?;
    let mut extra_headers = host.network.extra_headers.clone()?;
    extra_headers.extend(billed_project(&auth).filter(|(name, _)| !extra_headers.iter().any(|(it, _)| it == name)));
    let base_path = base.base_path.clone();
    let root_path = base.root_path.clone();
    let in_process = host.row.is_some_and(|row| row.in_process);
    let wire = wire(cx, host, &base, reach)?;
    let issuers = Arc::new(issuers(host, ca_pem.clone())?);
    let transport = transport(cx, host, base, ca_pem, in_process, wire);
    let betas = Arc::clone(&host.network.betas);
    Ok(Ready { transport, base_path, root_path, place, auth, issuers, extra_headers, only_model: None, betas })
}

/// A user has no project of his own: the one that pays is named with each call.
fn billed_project(auth: &UpstreamAuth) -> Option<(HeaderName, HeaderValue)> {
    let Source::Google(google) = &auth.credential()?.source else { return None };
    let value = HeaderValue::from_str(google.quota_project()?).ok()?;
    Some((HeaderName::from_static("x-goog-user-project"), value))
}

fn wire(cx: &Compiler<'_>, host: &Host<'_>, base: &BaseUrl, reach: Reach) -> Result<Wire, Unready> {
    let network = host.network;
    let is_allowed = network.private_allowed || cx.is_allowed_origin(&base.host, base.port);
    Ok(Wire {
        proxy: network.proxy.clone()?.towards(base),
        http2: network.http2,
        connections_max: network.connections_max,
        reach: if is_allowed { Reach::Anywhere } else { reach },
    })
}

/// Tokens come the way that calls go. A certificate is always asked for: what is shown there can be used
/// elsewhere.
fn issuers(host: &Host<'_>, ca_pem: Option<Arc<str>>) -> Result<IssuerWay, Unready> {
    let through = host.network.proxy.clone()?;
    let mut hasher = blake3::Hasher::new_derive_key(ISSUERS_DOMAIN);
    let pem = ca_pem.as_deref().unwrap_or_default();
    hasher.update(&(pem.len() as u64).to_le_bytes()).update(pem.as_bytes());
    let mut add = |what: &[u8], server: Option<&Arc<ProxyServer>>| {
        hasher.update(what).update(&[u8::from(server.is_some())]);
        if let Some(server) = server {
            secrets::hash_proxy(&mut hasher, server);
        }
    };
    match &through {
        Through::Nothing if ca_pem.is_none() => return Ok(IssuerWay::default()),
        Through::Nothing => add(b"nothing", None),
        Through::Server(server) => add(b"server", Some(server)),
        Through::Environment(env) => {
            add(b"https", env.https.as_ref());
            add(b"http", env.http.as_ref());
            add(env.exempt.as_bytes(), None);
        }
    }
    let mut number = [0; 8];
    hasher.finalize_xof().fill(&mut number);
    Ok(IssuerWay { id: u64::from_le_bytes(number), through, ca_pem })
}

/// One per destination and trust, shared by all keys that go there.
fn transport(
    cx: &mut Compiler<'_>,
    host: &Host<'_>,
    base: BaseUrl,
    ca_pem: Option<Arc<str>>,
    in_process: bool,
    wire: Wire,
) -> Arc<Transport> {
    let (skip_verify, keep_alive) = (host.network.skip_verify, host.network.keep_alive);
    let mut hasher = blake3::Hasher::new_derive_key(TRANSPORT_DOMAIN);
    for part in [base.scheme.as_str(), base.authority.as_str(), ca_pem.as_deref().unwrap_or_default()] {
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
    }
    hasher.update(&[u8::from(skip_verify), u8::from(in_process)]).update(&keep_alive.as_millis().to_le_bytes());
    let Wire { proxy, http2, connections_max, reach } = &wire;
    hasher.update(format!("{http2} {connections_max:?} {reach:?} {}", proxy.is_some()).as_bytes());
    if let Some(proxy) = proxy {
        secrets::hash_proxy(&mut hasher, proxy);
    }
    let mut number = [0; 8];
    hasher.finalize_xof().fill(&mut number);
    let id = TransportId(u64::from_le_bytes(number));
    let BaseUrl { scheme, authority, host, port, .. } = base;
    let make = || Transport { id, scheme, authority, host, port, ca_pem, skip_verify, keep_alive, in_process, wire };
    Arc::clone(cx.transports.entry(id).or_insert_with(|| Arc::new(make())))
}

/// Over the secret, where it goes and what goes along: a change of any of them makes it another key
/// as far as health is concerned, also where it comes from the provider's settings.
fn fingerprint(cx: &Compiler<'_>, secret: Option<&Secret>, ready: &Result<Ready, Unready>) -> crate::hash::Fingerprint {
    let ready = ready.as_ref().ok();
    let credential = ready.and_then(|ready| ready.auth.credential());
    let credential = credential.map(|credential| format!("{:?}", credential.fingerprint)).unwrap_or_default();
    let destination = ready.map(|ready| format!("{:016x}{}{credential}", ready.transport.id.0, ready.base_path));
    let headers = ready.map(|ready| ready.extra_headers.as_slice()).unwrap_or_default();
    secrets::fingerprint_of(cx.fingerprint_key, secret, destination.as_deref(), headers)
}

/// RFC 3339; written by APIs, but a hand may have touched them.
fn dates(cx: &mut Compiler<'_>, file: &KeyFile, pointer: &str) {
    for (member, text) in [("created_at", &file.created_at), ("updated_at", &file.updated_at)] {
        let good =
            |text: &String| time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).is_ok();
        if text.as_ref().is_some_and(|text| !good(text)) {
            cx.problems
                .error(Code::BadValue, pointer_to(pointer, member), "not a date and time in RFC 3339 form")
                .hint("like `2026-01-31T12:00:00Z`");
        }
    }
}

/// Names and ids are checked to be plain ASCII; one that is not has been reported.
fn header(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static("-"))
}
