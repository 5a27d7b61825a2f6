//! From a head to a [`Caller`] (CONTRACT 3.1 and 4).
//!
//! Tokens are compared as digests: what is compared is not what is secret, and blake3's comparison
//! takes constant time. A token of the other kind is told apart from a wrong one (403, not 401),
//! because whoever holds it has proved something. Holds no state and counts nothing.

use http::header::AUTHORIZATION;

use super::credential::{self, TwoCredentials};
use super::loopback::{self, Foreign};
use super::{Caller, Peer, Scope, Visit};
use crate::error::{GatewayError, Kind};
use crate::hash::token_digest;
use crate::snapshot::{AccessKey, Management, Project, Snapshot};
use crate::token::is_well_formed;

/// Why nobody was let in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AuthError {
    /// No credential where one is needed.
    Missing,
    /// One that nothing here knows.
    Unknown,
    /// Two that differ.
    Two,
    /// A project's key on a management route.
    ProjectKey,
    /// A management key on the data plane.
    ManagementKey,
    /// No keys are configured, and the caller is not on this machine or not alone on it.
    Foreign(Foreign),
    /// Another user of this machine, on the Unix socket of a keyless management.
    OtherUser,
}

/// Lets a caller in, or says why not.
pub fn authenticate(snapshot: &Snapshot, visit: &Visit<'_>, scope: Scope) -> Result<Caller, AuthError> {
    let doors = Doors {
        projects: snapshot.projects.as_deref(),
        management: &snapshot.management,
        open_data_plane: snapshot.server.open_data_plane,
    };
    doors.enter(visit, scope)
}

/// The part of a snapshot that decides who may come in.
struct Doors<'s> {
    projects: Option<&'s [Project]>,
    management: &'s Management,
    open_data_plane: bool,
}

impl Doors<'_> {
    fn enter(&self, visit: &Visit<'_>, scope: Scope) -> Result<Caller, AuthError> {
        match scope {
            Scope::Open => Ok(Caller::Open),
            Scope::Data => self.data(visit),
            Scope::Management | Scope::Status => self.management(visit),
        }
    }

    fn data(&self, visit: &Visit<'_>) -> Result<Caller, AuthError> {
        let token = credential::find(visit.headers, visit.query).map_err(|TwoCredentials| AuthError::Two)?;
        let digest = token.as_deref().and_then(digest);
        let known = digest.and_then(|digest| self.project_of(&digest));
        let is_management = digest.is_some_and(|digest| self.management_of(&digest).is_some());
        match (self.projects, known) {
            (_, None) if is_management => Err(AuthError::ManagementKey),
            (Some(_), Some(caller)) => Ok(caller),
            (Some(_), None) if token.is_none() => Err(AuthError::Missing),
            (Some(_), None) => Err(AuthError::Unknown),
            // What an SDK sends because it must send something is not looked at.
            (None, _) if self.open_data_plane => Ok(Caller::Open),
            (None, _) => loopback::check(visit).map(|()| Caller::Open).map_err(AuthError::Foreign),
        }
    }

    /// Only a Bearer token counts here; whatever else is shown is refused as if nothing were.
    fn management(&self, visit: &Visit<'_>) -> Result<Caller, AuthError> {
        credential::find(visit.headers, visit.query).map_err(|TwoCredentials| AuthError::Two)?;
        let token = visit.headers.get(AUTHORIZATION).and_then(|value| credential::bearer(value.as_bytes()));
        let digest = token.and_then(digest);
        if let Some(key) = digest.and_then(|digest| self.management_of(&digest)) {
            return Ok(Caller::Management { name: key.name.clone() });
        }
        if digest.is_some_and(|digest| self.project_of(&digest).is_some()) {
            return Err(AuthError::ProjectKey);
        }
        match (&self.management.keys, token) {
            (Some(_), None) => Err(AuthError::Missing),
            (Some(_), Some(_)) => Err(AuthError::Unknown),
            (None, _) => keyless(visit),
        }
    }

    fn project_of(&self, digest: &blake3::Hash) -> Option<Caller> {
        let projects = self.projects.unwrap_or_default().iter().enumerate();
        projects
            .filter_map(|(project, it)| position(&it.keys, digest).map(|key| Caller::Project { project, key }))
            .next()
    }

    fn management_of(&self, digest: &blake3::Hash) -> Option<&AccessKey> {
        let keys = self.management.keys.as_deref().unwrap_or_default();
        keys.iter().find(|key| key.digest.as_ref() == Some(digest))
    }
}

fn position(keys: &[AccessKey], digest: &blake3::Hash) -> Option<usize> {
    keys.iter().position(|key| key.digest.as_ref() == Some(digest))
}

/// What has not the form of a token is none, hence it is not hashed either.
fn digest(token: &[u8]) -> Option<blake3::Hash> {
    is_well_formed(token).then(|| token_digest(token))
}

fn keyless(visit: &Visit<'_>) -> Result<Caller, AuthError> {
    if let Peer::Unix { uid } = visit.peer
        && uid != 0
        && uid != visit.own_uid
    {
        return Err(AuthError::OtherUser);
    }
    loopback::check(visit).map(|()| Caller::Loopback).map_err(AuthError::Foreign)
}

impl From<AuthError> for GatewayError {
    fn from(error: AuthError) -> Self {
        let unauthorized = |code, message: &str| Self::caller(Kind::Unauthorized, code, message);
        let forbidden = |code, message: &str| Self::caller(Kind::Forbidden, code, message);
        match error {
            AuthError::Missing => {
                unauthorized("missing_api_key", "no API key was sent; send one as `Authorization: Bearer <key>`")
            }
            AuthError::Unknown => unauthorized("invalid_api_key", "the API key is not valid here"),
            AuthError::Two => unauthorized("conflicting_api_keys", "two different API keys were sent"),
            AuthError::ProjectKey => {
                forbidden("project_key_not_allowed", "this is a project's key; the route needs a management key")
            }
            AuthError::ManagementKey => {
                forbidden("management_key_not_allowed", "this is a management key; the route needs a project's key")
            }
            AuthError::Foreign(Foreign::Peer) => {
                forbidden("loopback_only", "no keys are configured, hence only this machine may call")
            }
            AuthError::Foreign(Foreign::Host) => {
                forbidden("foreign_host", "without configured keys, Host must name this machine's loopback")
            }
            AuthError::Foreign(Foreign::Origin) => {
                forbidden("foreign_origin", "without configured keys, pages of other origins may not call")
            }
            AuthError::Foreign(Foreign::Forwarded) => {
                forbidden("forwarded_request", "without configured keys, requests through a proxy are not taken")
            }
            AuthError::OtherUser => {
                forbidden("other_user", "without management keys, only the user that runs the gateway may call")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName, HeaderValue};

    use super::*;
    use crate::id::ProjectId;
    use crate::limits::TOKEN_BYTES_MAX;

    const PROJECT: &str = "mlx_sk_00000000000000000000000000000000000001LhBG1";
    const OTHER: &str = "mlx_sk_111111111111111111111111111111111111142sDtC";
    const OPS: &str = "mlx_mk_22222222222222222222222222222222222224AToLi";
    const WRONG: &str = "mlx_sk_99999999999999999999999999999999999994LDCO9";

    fn key(name: &str, token: Option<&str>) -> AccessKey {
        AccessKey {
            name: name.into(),
            digest: token.map(|t| token_digest(t.as_bytes())),
            rate_limit: 1,
            rate: std::sync::Arc::default(),
        }
    }

    fn project(id: &str, keys: Vec<AccessKey>) -> Project {
        Project {
            id: ProjectId::from(id),
            keys,
            models: vec!["*".into()],
            passthrough: false,
            pin: false,
            budgets: vec![],
            spend: std::sync::Arc::default(),
            closed_on_outage: false,
        }
    }

    fn projects() -> Vec<Project> {
        vec![
            project("a", vec![key("unresolved", None), key("ci", Some(PROJECT))]),
            project("b", vec![key("ci", Some(OTHER))]),
        ]
    }

    struct World {
        projects: Option<Vec<Project>>,
        management: Management,
        open: bool,
    }

    impl World {
        fn new(projects: Option<Vec<Project>>, keys: Option<Vec<AccessKey>>) -> Self {
            Self { projects, management: Management { keys, ..Management::default() }, open: false }
        }

        fn ask(
            &self,
            scope: Scope,
            peer: Peer,
            pairs: &[(&str, &str)],
            query: Option<&str>,
        ) -> Result<Caller, AuthError> {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.append(
                    HeaderName::from_bytes(name.as_bytes()).unwrap(),
                    HeaderValue::from_bytes(value.as_bytes()).unwrap(),
                );
            }
            let visit = Visit { headers: &headers, authority: Some("localhost:8080"), query, peer, own_uid: 1000 };
            let doors =
                Doors { projects: self.projects.as_deref(), management: &self.management, open_data_plane: self.open };
            doors.enter(&visit, scope)
        }

        fn bearer(&self, scope: Scope, peer: Peer, token: &str) -> Result<Caller, AuthError> {
            self.ask(scope, peer, &[("authorization", &format!("Bearer {token}"))], None)
        }
    }

    #[test]
    fn data_plane_under_projects() {
        let world = World::new(Some(projects()), Some(vec![key("ops", Some(OPS))]));
        for peer in [Peer::Loopback, Peer::Unix { uid: 1000 }, Peer::Remote] {
            let of_a = Ok(Caller::Project { project: 0, key: 1 });
            assert_eq!(world.bearer(Scope::Data, peer, PROJECT), of_a);
            for name in ["x-api-key", "api-key", "x-goog-api-key"] {
                assert_eq!(world.ask(Scope::Data, peer, &[(name, PROJECT)], None), of_a, "{name}");
            }
            let sigv4 = format!("AWS4-HMAC-SHA256 Credential={PROJECT}/20260101/x/bedrock/aws4_request, Signature=0");
            assert_eq!(world.ask(Scope::Data, peer, &[("authorization", &sigv4)], None), of_a);
            assert_eq!(world.ask(Scope::Data, peer, &[], Some(&format!("key={PROJECT}"))), of_a);
            assert_eq!(world.bearer(Scope::Data, peer, OTHER), Ok(Caller::Project { project: 1, key: 0 }));
            assert_eq!(world.ask(Scope::Data, peer, &[], None), Err(AuthError::Missing));
            assert_eq!(world.ask(Scope::Data, peer, &[("authorization", "Basic eDp5")], None), Err(AuthError::Missing));
            for wrong in [
                WRONG,
                "short",
                &PROJECT.replace("_0", "_1"),
                &PROJECT[..PROJECT.len() - 1],
                &"x".repeat(TOKEN_BYTES_MAX + 1),
            ] {
                assert_eq!(world.bearer(Scope::Data, peer, wrong), Err(AuthError::Unknown));
            }
            assert_eq!(world.bearer(Scope::Data, peer, OPS), Err(AuthError::ManagementKey));
            assert_eq!(
                world.ask(Scope::Data, peer, &[("x-api-key", OTHER), ("api-key", PROJECT)], None),
                Err(AuthError::Two)
            );
        }
    }

    #[test]
    fn forwarded_requests_with_a_project_key_are_fine() {
        let world = World::new(Some(projects()), None);
        let pairs = [("x-api-key", PROJECT), ("x-forwarded-for", "10.0.0.1"), ("origin", "https://app.example")];
        assert!(world.ask(Scope::Data, Peer::Loopback, &pairs, None).is_ok());
    }

    #[test]
    fn tokens_by_hand_open_doors_too() {
        let by_hand = "correct-horse-battery-staple-and-more!";
        let world = World::new(Some(vec![project("a", vec![key("ci", Some(by_hand))])]), None);
        assert!(world.bearer(Scope::Data, Peer::Remote, by_hand).is_ok());
        // Not a token of ours, whatever the file says: it is not even hashed.
        let torn = "mlx_sk_0000000000000000000000000000000000000000000";
        let world = World::new(Some(vec![project("a", vec![key("ci", Some(torn))])]), None);
        assert_eq!(world.bearer(Scope::Data, Peer::Remote, torn), Err(AuthError::Unknown));
    }

    #[test]
    fn no_projects_in_the_list_means_nobody() {
        let world = World::new(Some(vec![]), None);
        assert_eq!(world.ask(Scope::Data, Peer::Loopback, &[], None), Err(AuthError::Missing));
        assert_eq!(world.bearer(Scope::Data, Peer::Loopback, PROJECT), Err(AuthError::Unknown));
        let unresolved = World::new(Some(vec![project("a", vec![key("k", None)])]), None);
        assert_eq!(unresolved.bearer(Scope::Data, Peer::Loopback, PROJECT), Err(AuthError::Unknown));
    }

    #[test]
    fn open_data_plane() {
        let mut world = World::new(None, Some(vec![key("ops", Some(OPS))]));
        assert_eq!(world.ask(Scope::Data, Peer::Loopback, &[], None), Ok(Caller::Open));
        assert_eq!(world.bearer(Scope::Data, Peer::Loopback, "sk-anything"), Ok(Caller::Open));
        assert_eq!(world.bearer(Scope::Data, Peer::Unix { uid: 77 }, PROJECT), Ok(Caller::Open));
        assert_eq!(world.bearer(Scope::Data, Peer::Loopback, OPS), Err(AuthError::ManagementKey));
        let foreign = AuthError::Foreign(Foreign::Peer);
        assert_eq!(world.ask(Scope::Data, Peer::Remote, &[], None), Err(foreign));
        let through_proxy = [("x-forwarded-for", "10.0.0.1")];
        assert_eq!(
            world.ask(Scope::Data, Peer::Loopback, &through_proxy, None),
            Err(AuthError::Foreign(Foreign::Forwarded))
        );
        world.open = true;
        assert_eq!(world.ask(Scope::Data, Peer::Remote, &through_proxy, None), Ok(Caller::Open));
        assert_eq!(world.bearer(Scope::Data, Peer::Remote, OPS), Err(AuthError::ManagementKey));
    }

    #[test]
    fn management_with_keys() {
        let world = World::new(Some(projects()), Some(vec![key("unresolved", None), key("ops", Some(OPS))]));
        for scope in [Scope::Management, Scope::Status] {
            for peer in [Peer::Loopback, Peer::Unix { uid: 0 }, Peer::Remote] {
                assert_eq!(world.bearer(scope, peer, OPS), Ok(Caller::Management { name: "ops".into() }));
                assert_eq!(world.bearer(scope, peer, PROJECT), Err(AuthError::ProjectKey));
                assert_eq!(world.bearer(scope, peer, WRONG), Err(AuthError::Unknown));
                assert_eq!(world.ask(scope, peer, &[], None), Err(AuthError::Missing));
                for name in ["x-api-key", "api-key", "x-goog-api-key", "cookie"] {
                    assert_eq!(world.ask(scope, peer, &[(name, OPS)], None), Err(AuthError::Missing), "{name}");
                }
                let query = format!("key={OPS}");
                assert_eq!(world.ask(scope, peer, &[], Some(&query)), Err(AuthError::Missing));
                let basic = [("authorization", "Basic b3BzOm9wcw==")];
                assert_eq!(world.ask(scope, peer, &basic, None), Err(AuthError::Missing));
                let sigv4 = format!("AWS4-HMAC-SHA256 Credential={OPS}/1");
                assert_eq!(world.ask(scope, peer, &[("authorization", &sigv4)], None), Err(AuthError::Missing));
                let both = [("authorization", &*format!("Bearer {OPS}")), ("x-api-key", PROJECT)];
                assert_eq!(world.ask(scope, peer, &both, None), Err(AuthError::Two));
            }
        }
    }

    #[test]
    fn unresolved_or_empty_management_keys_are_closed() {
        for keys in [vec![], vec![key("ops", None)]] {
            let world = World::new(None, Some(keys));
            assert_eq!(world.ask(Scope::Management, Peer::Loopback, &[], None), Err(AuthError::Missing));
            assert_eq!(world.bearer(Scope::Management, Peer::Loopback, OPS), Err(AuthError::Unknown));
        }
    }

    #[test]
    fn keyless_management() {
        let world = World::new(Some(projects()), None);
        for scope in [Scope::Management, Scope::Status] {
            assert_eq!(world.ask(scope, Peer::Loopback, &[], None), Ok(Caller::Loopback));
            assert_eq!(world.ask(scope, Peer::Unix { uid: 1000 }, &[], None), Ok(Caller::Loopback));
            assert_eq!(world.ask(scope, Peer::Unix { uid: 0 }, &[], None), Ok(Caller::Loopback));
            assert_eq!(world.ask(scope, Peer::Unix { uid: 1001 }, &[], None), Err(AuthError::OtherUser));
            assert_eq!(world.ask(scope, Peer::Remote, &[], None), Err(AuthError::Foreign(Foreign::Peer)));
            assert_eq!(world.bearer(scope, Peer::Loopback, PROJECT), Err(AuthError::ProjectKey));
            let page = [("origin", "https://evil.example")];
            assert_eq!(world.ask(scope, Peer::Loopback, &page, None), Err(AuthError::Foreign(Foreign::Origin)));
        }
    }

    #[test]
    fn open_routes_ask_nothing() {
        let world = World::new(Some(vec![]), Some(vec![]));
        assert_eq!(world.bearer(Scope::Open, Peer::Remote, WRONG), Ok(Caller::Open));
    }

    #[test]
    fn errors_name_no_token() {
        for error in [AuthError::Missing, AuthError::Unknown, AuthError::Two] {
            assert_eq!(GatewayError::from(error).kind, Kind::Unauthorized);
        }
        let foreign = [Foreign::Peer, Foreign::Host, Foreign::Origin, Foreign::Forwarded].map(AuthError::Foreign);
        for error in [AuthError::ProjectKey, AuthError::ManagementKey, AuthError::OtherUser].into_iter().chain(foreign)
        {
            assert_eq!(GatewayError::from(error).kind, Kind::Forbidden);
        }
    }
}
