//! The management paths: one row each, with method, pattern, scope and route.
//!
//! Router, handlers, OpenAPI document and the walk of the authentication test all read this table,
//! so that none of them can know a path that the others do not. Decodes a captured segment once.

use std::borrow::Cow;

use http::Method;
use percent_encoding::percent_decode_str;

use super::{Matched, Side};
use crate::project::Scope;

/// One per row of [`ADMIN`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum AdminRoute {
    ConfigStatus,
    ConfigReload,
    ConfigCheck,
    Explain,
    OpenApi,
    AllKeys,
    Providers,
    ProviderCreate,
    Provider,
    ProviderPut,
    ProviderDelete,
    ProviderRefresh,
    Keys,
    KeyCreate,
    Key,
    KeyPut,
    KeyDelete,
    KeyRefresh,
    Catalogue,
    Connections,
    ConnectionPut,
    ConnectionPatch,
    ConnectionDelete,
    Credentials,
    CredentialCreate,
    Credential,
    CredentialPatch,
    CredentialDelete,
    CredentialHealth,
    Mcp,
}

impl AdminRoute {
    /// Whether a request has a body that is read.
    pub fn takes_body(self) -> bool {
        match self {
            Self::ConfigCheck
            | Self::ProviderCreate
            | Self::ProviderPut
            | Self::KeyCreate
            | Self::KeyPut
            | Self::ConnectionPut
            | Self::ConnectionPatch
            | Self::CredentialCreate
            | Self::CredentialPatch
            | Self::Mcp => true,
            Self::ConfigStatus
            | Self::ConfigReload
            | Self::Explain
            | Self::OpenApi
            | Self::AllKeys
            | Self::Providers
            | Self::Provider
            | Self::ProviderDelete
            | Self::ProviderRefresh
            | Self::Keys
            | Self::Key
            | Self::KeyDelete
            | Self::KeyRefresh
            | Self::Catalogue
            | Self::Connections
            | Self::ConnectionDelete
            | Self::Credentials
            | Self::Credential
            | Self::CredentialDelete
            | Self::CredentialHealth => false,
        }
    }
}

/// A path of the management APIs.
#[derive(Clone, Copy, Debug)]
pub struct AdminRow {
    pub method: &'static str,
    /// Segments; `{provider}` and `{key_id}` stand for any one.
    pub path: &'static str,
    /// What it asks of its caller.
    pub scope: Scope,
    pub route: AdminRoute,
}

const fn row(method: &'static str, path: &'static str, route: AdminRoute) -> AdminRow {
    AdminRow { method, path, scope: Scope::Management, route }
}

const PROVIDER: &str = "{provider}";
const KEY_ID: &str = "{key_id}";

/// Which of the management APIs is spoken on a path: its errors have that one's shape.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Face {
    Bifrost,
    Modelux,
    Redeo,
}

/// First segments that belong to management, whether or not something answers there yet.
const ROOTS: [(&str, Face); 3] = [("/api", Face::Bifrost), ("/manage", Face::Modelux), ("/mcp", Face::Modelux)];

/// The one root below another's.
const REDEO_ROOT: &str = "/v1/providers";

/// The face that a path belongs to, whether or not something answers there. What is glued to Redeo's
/// root counts as well, in any case: better one path too many that is never relayed.
pub fn face(path: &str) -> Option<Face> {
    if path.get(..REDEO_ROOT.len()).is_some_and(|head| head.eq_ignore_ascii_case(REDEO_ROOT)) {
        return Some(Face::Redeo);
    }
    ROOTS.iter().find(|(root, _)| super::is_at_or_below(path, root)).map(|(_, face)| *face)
}

/// A path that names what another captures stands before it.
pub const ADMIN: &[AdminRow] = &[
    row("GET", "/api/config/status", AdminRoute::ConfigStatus),
    row("POST", "/api/config/reload", AdminRoute::ConfigReload),
    row("POST", "/api/config/check", AdminRoute::ConfigCheck),
    row("GET", "/api/explain", AdminRoute::Explain),
    row("GET", "/api/openapi.json", AdminRoute::OpenApi),
    row("GET", "/api/keys", AdminRoute::AllKeys),
    row("GET", "/api/providers", AdminRoute::Providers),
    row("POST", "/api/providers", AdminRoute::ProviderCreate),
    row("GET", "/api/providers/{provider}", AdminRoute::Provider),
    row("PUT", "/api/providers/{provider}", AdminRoute::ProviderPut),
    row("DELETE", "/api/providers/{provider}", AdminRoute::ProviderDelete),
    row("POST", "/api/providers/{provider}/refresh-models", AdminRoute::ProviderRefresh),
    row("GET", "/api/providers/{provider}/keys", AdminRoute::Keys),
    row("POST", "/api/providers/{provider}/keys", AdminRoute::KeyCreate),
    row("GET", "/api/providers/{provider}/keys/{key_id}", AdminRoute::Key),
    row("PUT", "/api/providers/{provider}/keys/{key_id}", AdminRoute::KeyPut),
    row("DELETE", "/api/providers/{provider}/keys/{key_id}", AdminRoute::KeyDelete),
    row("POST", "/api/providers/{provider}/keys/{key_id}/refresh-models", AdminRoute::KeyRefresh),
    AdminRow { scope: Scope::Open, ..row("GET", "/v1/providers/catalog", AdminRoute::Catalogue) },
    row("GET", "/v1/providers", AdminRoute::Connections),
    row("POST", "/v1/providers", AdminRoute::ConnectionPut),
    row("PATCH", "/v1/providers/{provider}", AdminRoute::ConnectionPatch),
    row("DELETE", "/v1/providers/{provider}", AdminRoute::ConnectionDelete),
    row("GET", "/manage/v1/providers", AdminRoute::Credentials),
    row("POST", "/manage/v1/providers", AdminRoute::CredentialCreate),
    row("GET", "/manage/v1/providers/{key_id}", AdminRoute::Credential),
    row("PATCH", "/manage/v1/providers/{key_id}", AdminRoute::CredentialPatch),
    row("DELETE", "/manage/v1/providers/{key_id}", AdminRoute::CredentialDelete),
    row("GET", "/manage/v1/providers/{key_id}/health", AdminRoute::CredentialHealth),
    row("POST", "/mcp", AdminRoute::Mcp),
];

/// A management call: its row, and what its path names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AdminMatch<'p> {
    pub route: AdminRoute,
    pub scope: Scope,
    /// Decoded once; empty where the row captures none.
    pub provider: Cow<'p, str>,
    pub key_id: Cow<'p, str>,
}

impl AdminMatch<'_> {
    pub fn into_owned(self) -> AdminMatch<'static> {
        AdminMatch {
            route: self.route,
            scope: self.scope,
            provider: self.provider.into_owned().into(),
            key_id: self.key_id.into_owned().into(),
        }
    }
}

/// Matches a path below one of the management roots.
pub(super) fn find<'p>(method: &Method, text: &'p str) -> Matched<'p> {
    let wanted = if method == Method::HEAD { "GET" } else { method.as_str() };
    let mut pattern = None;
    for row in ADMIN {
        let Some(captures) = fits(row.path, text) else { continue };
        if row.method == wanted {
            let Some((provider, key_id)) = captures.decoded() else { return Matched::NotFound { side: Side::Admin } };
            return Matched::Admin(AdminMatch { route: row.route, scope: row.scope, provider, key_id });
        }
        pattern = pattern.or(Some(row.path));
    }
    match pattern {
        Some(pattern) => Matched::MethodNotAllowed { side: Side::Admin, allow: allowed(pattern).into() },
        None => Matched::NotFound { side: Side::Admin },
    }
}

/// The captured segments as they were sent.
#[derive(Default)]
struct Captures<'p> {
    provider: &'p str,
    key_id: &'p str,
}

impl<'p> Captures<'p> {
    /// `None` where a segment is no text: nothing has such a name.
    fn decoded(&self) -> Option<(Cow<'p, str>, Cow<'p, str>)> {
        let decode = |raw: &'p str| percent_decode_str(raw).decode_utf8().ok();
        Some((decode(self.provider)?, decode(self.key_id)?))
    }
}

/// Segment by segment; neither side has an empty one.
fn fits<'p>(pattern: &str, text: &'p str) -> Option<Captures<'p>> {
    let (mut wanted, mut given) = (pattern.split('/'), text.split('/'));
    let mut captures = Captures::default();
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return Some(captures),
            (Some(PROVIDER), Some(segment)) if !segment.is_empty() => captures.provider = segment,
            (Some(KEY_ID), Some(segment)) if !segment.is_empty() => captures.key_id = segment,
            (Some(word), Some(segment)) if word == segment => {}
            _ => return None,
        }
    }
}

/// The value of `allow` for the rows of one pattern.
fn allowed(pattern: &str) -> String {
    let mut methods = Vec::new();
    for row in ADMIN.iter().filter(|row| row.path == pattern) {
        methods.push(row.method);
        if row.method == "GET" {
            methods.push("HEAD");
        }
    }
    methods.join(", ")
}
