//! The credential that a caller shows, wherever its SDK puts it (CONTRACT 3.1).
//!
//! Finds it and says nothing about whether it is good. Two different ones are an error: whoever
//! checks one and serves under the other has a hole.

use std::borrow::Cow;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName};

/// Headers that hold a credential as such.
static PLAIN_HEADERS: [HeaderName; 3] = [
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("api-key"),
    HeaderName::from_static("x-goog-api-key"),
];
/// Query parameter that holds one.
const QUERY_NAME: &str = "key";
const SIGV4_SCHEME: &str = "AWS4-HMAC-SHA256";

/// More than one credential, and they differ.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TwoCredentials;

/// The one credential of a head, or `None`. The same value in several places counts once; an empty
/// one and an `Authorization` of another scheme count as none.
pub fn find<'a>(headers: &'a HeaderMap, query: Option<&'a str>) -> Result<Option<Cow<'a, [u8]>>, TwoCredentials> {
    let mut found: Option<Cow<'a, [u8]>> = None;
    // Once through the head of every request: a lookup for each name costs several times that.
    let in_head = headers.iter().filter_map(|(name, value)| match name {
        name if *name == AUTHORIZATION => from_authorization(value.as_bytes()),
        name if PLAIN_HEADERS.contains(name) => Some(value.as_bytes().trim_ascii()),
        _ => None,
    });
    let from_query = query.into_iter().flat_map(query_keys);
    for one in in_head.map(Cow::Borrowed).chain(from_query).filter(|c| !c.is_empty()) {
        match &found {
            Some(first) if *first != one => return Err(TwoCredentials),
            Some(_) => {}
            None => found = Some(one),
        }
    }
    Ok(found)
}

/// What stands behind `Bearer`; the scheme's case does not matter (RFC 9110 11.1).
pub fn bearer(value: &[u8]) -> Option<&[u8]> {
    after_scheme(value, "Bearer").filter(|token| !token.is_empty())
}

/// The query without its credential, to be sent on or logged; `None` when nothing is left.
pub fn query_without_key(query: &str) -> Option<Cow<'_, str>> {
    let is_key = |pair: &str| form_urlencoded::parse(pair.as_bytes()).any(|(name, _)| name == QUERY_NAME);
    if !query.split('&').any(is_key) {
        return (!query.is_empty()).then_some(Cow::Borrowed(query));
    }
    let rest: Vec<&str> = query.split('&').filter(|pair| !is_key(pair)).collect();
    (!rest.is_empty()).then(|| Cow::Owned(rest.join("&")))
}

fn query_keys(query: &str) -> impl Iterator<Item = Cow<'_, [u8]>> {
    form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name == QUERY_NAME).map(|(_, value)| match value {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    })
}

fn from_authorization(value: &[u8]) -> Option<&[u8]> {
    bearer(value).or_else(|| access_key_id(after_scheme(value, SIGV4_SCHEME)?))
}

/// `Credential=<access key id>/<date>/…` among comma-separated parts: the id is the project key,
/// the signature is not checked (CONTRACT 3.1).
fn access_key_id(parameters: &[u8]) -> Option<&[u8]> {
    let parts = parameters.split(|b| *b == b',').map(<[u8]>::trim_ascii);
    let credential = parts.filter_map(|part| part.strip_prefix(b"Credential=")).next()?;
    credential.split(|b| *b == b'/').next()
}

fn after_scheme<'a>(value: &'a [u8], scheme: &str) -> Option<&'a [u8]> {
    let value = value.trim_ascii();
    let (head, rest) = value.split_at_checked(scheme.len())?;
    let separated = rest.first().is_none_or(u8::is_ascii_whitespace);
    (head.eq_ignore_ascii_case(scheme.as_bytes()) && separated).then(|| rest.trim_ascii())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_bytes(value.as_bytes()).unwrap(),
            );
        }
        map
    }

    fn look(pairs: &[(&str, &str)], query: Option<&str>) -> Result<Option<String>, TwoCredentials> {
        find(&headers(pairs), query).map(|c| c.map(|c| String::from_utf8(c.into_owned()).unwrap()))
    }

    #[test]
    fn every_place() {
        let sigv4 =
            "AWS4-HMAC-SHA256 Credential=tok/20260101/us-east-1/bedrock/aws4_request, SignedHeaders=host, Signature=0a";
        for (pairs, query) in [
            (vec![("authorization", "Bearer tok")], None),
            (vec![("authorization", "bearer   tok ")], None),
            (vec![("x-api-key", "tok")], None),
            (vec![("api-key", "tok")], None),
            (vec![("x-goog-api-key", " tok ")], None),
            (vec![("authorization", sigv4)], None),
            (vec![("authorization", &*sigv4.replace(", ", ","))], None),
            (vec![], Some("key=tok")),
            (vec![], Some("alt=sse&k%65y=t%6Fk")),
            (vec![("authorization", "Bearer tok"), ("x-api-key", "tok")], Some("key=tok")),
            (vec![("authorization", "Bearer tok"), ("authorization", "Bearer tok")], None),
            (vec![("authorization", "Basic b3BzOm9wcw=="), ("x-api-key", "tok")], None),
            (vec![("authorization", "Bearer "), ("x-api-key", "tok")], Some("key=")),
        ] {
            assert_eq!(look(&pairs, query), Ok(Some("tok".to_owned())), "{pairs:?} {query:?}");
        }
    }

    #[test]
    fn none() {
        for (pairs, query) in [
            (vec![], None),
            (vec![("authorization", "Bearer")], None),
            (vec![("authorization", "Bearertok")], None),
            (vec![("authorization", "Basic dG9r")], None),
            (vec![("authorization", "tok")], None),
            (vec![("authorization", "AWS4-HMAC-SHA256 Signature=0a")], None),
            (vec![("authorization", "AWS4-HMAC-SHA256 Credential=/2026")], None),
            (vec![("x-api-key", "")], Some("")),
            (vec![("cookie", "key=tok")], Some("keys=tok&xkey=tok&model=key")),
        ] {
            assert_eq!(look(&pairs, query), Ok(None), "{pairs:?} {query:?}");
        }
    }

    #[test]
    fn two_different_ones() {
        for (pairs, query) in [
            (vec![("authorization", "Bearer a"), ("x-api-key", "b")], None),
            (vec![("authorization", "Bearer a"), ("authorization", "Bearer b")], None),
            (vec![("api-key", "a"), ("api-key", "b")], None),
            (vec![("api-key", "a")], Some("key=b")),
            (vec![], Some("key=a&key=b")),
            (vec![("authorization", "AWS4-HMAC-SHA256 Credential=a/1"), ("x-api-key", "b")], None),
        ] {
            assert_eq!(look(&pairs, query), Err(TwoCredentials), "{pairs:?} {query:?}");
        }
    }

    #[test]
    fn the_query_is_stripped() {
        for (query, left) in [
            ("key=a", None),
            ("", None),
            ("alt=sse", Some("alt=sse")),
            ("key=a&alt=sse", Some("alt=sse")),
            ("alt=sse&k%65y=a&x=%20+", Some("alt=sse&x=%20+")),
            ("key=a&key=b", None),
            ("key", None),
            ("monkey=a", Some("monkey=a")),
        ] {
            assert_eq!(query_without_key(query).as_deref(), left, "{query}");
        }
    }
}
