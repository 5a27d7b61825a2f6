//! Where an operation lies on an upstream when "base path + operation" is not the whole story.
//!
//! Pure text: a place is decided once, at compile. What a caller or a config gives goes into a path
//! as one encoded segment, and into a host only after a check against a strict set of characters.

use std::borrow::Cow;

use http::uri::{InvalidUri, PathAndQuery};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::url::path_and_query;
use crate::dialect::{Dialect, Endpoint, Operation};

/// What stays as it is in a segment: RFC 3986's unreserved characters. All else is encoded, `:` and
/// `/` of an ARN among it.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// `text` as one segment of a path, whatever it holds.
pub fn segment(text: &str) -> Cow<'_, str> {
    match text {
        // Dots are unreserved, hence the encoder lets them be; as a whole segment they are a step.
        "." => Cow::Borrowed("%2E"),
        ".." => Cow::Borrowed("%2E%2E"),
        _ => utf8_percent_encode(text, SEGMENT).into(),
    }
}

/// How the path of a call is made.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Place {
    /// Base path, operation.
    #[default]
    Plain,
    /// The base path holds the version; a word in the query chooses among its states (`preview`).
    Versioned { api_version: Box<str> },
    /// Azure's first API: the deployment in the path, a dated version in the query.
    Deployments { api_version: Box<str> },
    /// Google Cloud: every path lies below a project and a location.
    Project(Box<Project>),
    /// Replicate: what is asked of a model is asked of the deployment of that name.
    Deployed,
    /// Bedrock: models go by the ARN of an inference profile, to which their id is added.
    Profile { arn: Box<str> },
}

/// A project of Google Cloud, in a location.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Project {
    pub id: Box<str>,
    /// For models that were tuned.
    pub number: Option<Box<str>>,
    pub location: Box<str>,
}

/// One call, as far as its path is concerned.
#[derive(Clone, Copy, Debug)]
pub struct Spot<'a> {
    /// Before the operation, without and with the version prefix.
    pub root_path: &'a str,
    pub base_path: &'a str,
    pub endpoint: Endpoint,
    pub stream: bool,
    /// `/chat/completions`.
    pub suffix: &'a str,
    /// As the upstream knows it.
    pub model: Option<&'a str>,
    pub query: Option<&'a str>,
}

impl Place {
    /// What goes into the request line.
    pub fn path_and_query(&self, spot: &Spot<'_>) -> Result<PathAndQuery, InvalidUri> {
        let Spot { root_path, base_path, endpoint, stream, suffix, model, query } = *spot;
        let Endpoint { dialect, operation } = endpoint;
        match self {
            Self::Project(project) if dialect == Dialect::Anthropic => {
                path_and_query(root_path, &project.of_anthropic(operation, stream, model.unwrap_or_default()), None)
            }
            Self::Project(project) if dialect == Dialect::Gemini => {
                path_and_query(root_path, &project.of_google(suffix), query)
            }
            // What Azure hosts of others has one version.
            Self::Versioned { .. } | Self::Deployments { .. } if dialect != Dialect::OpenAi => {
                path_and_query(base_path, suffix, query)
            }
            Self::Plain | Self::Project(_) | Self::Profile { .. } => path_and_query(base_path, suffix, query),
            Self::Deployed => match prediction_of(suffix) {
                Some(name) => path_and_query(base_path, &format!("/deployments/{name}/predictions"), query),
                None => path_and_query(base_path, suffix, query),
            },
            Self::Versioned { api_version } => {
                path_and_query(base_path, suffix, Some(&with_version(query, api_version)))
            }
            // The first API was dated before responses came; the second has them in every resource.
            Self::Deployments { .. } if matches!(operation, Operation::Responses | Operation::ResponsesItem) => {
                path_and_query(base_path, suffix, query)
            }
            Self::Deployments { api_version } => {
                let below = match model.filter(|_| has_deployment(operation)) {
                    Some(model) => format!("/openai/deployments/{}{suffix}", segment(model)),
                    None => format!("/openai{suffix}"),
                };
                path_and_query(root_path, &below, Some(&with_version(query, api_version)))
            }
        }
    }

    /// The model as one segment of a path.
    pub fn model_segment<'m>(&self, model: &'m str) -> Cow<'m, str> {
        match self {
            Self::Profile { arn } if !model.starts_with("arn:") => {
                segment(&format!("{arn}/{model}")).into_owned().into()
            }
            _ => segment(model),
        }
    }

    /// What stands in the body in place of the model: Google takes Anthropic's version there.
    pub fn instead_of_model(&self, endpoint: Endpoint, version: Option<&str>) -> Option<String> {
        const CLASSIC: [&str; 2] = ["2023-01-01", "2023-06-01"];
        let Endpoint { dialect: Dialect::Anthropic, operation: Operation::ChatCompletion } = endpoint else {
            return None;
        };
        let plain =
            |text: &&str| (1..=32).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit() || b == b'-');
        let newer = version.filter(|version| !CLASSIC.contains(version)).filter(plain);
        matches!(self, Self::Project(_))
            .then(|| format!("\"anthropic_version\":\"{}\"", newer.unwrap_or("vertex-2023-10-16")))
    }

    /// The model as this upstream wants it in the body, where that differs: Google's own models go by
    /// `google/<name>` on its OpenAI-compatible endpoint.
    pub fn model_in_body(&self, endpoint: Endpoint, model: &str) -> Option<String> {
        (matches!(self, Self::Project(_)) && endpoint.dialect == Dialect::OpenAi && !model.contains('/'))
            .then(|| format!("google/{model}"))
    }
}

impl Project {
    /// Models of Anthropic: the path says whether it streams, and counting tokens is a model of its own.
    fn of_anthropic(&self, operation: Operation, stream: bool, model: &str) -> String {
        let Self { id, location, .. } = self;
        let (model, verb) = match (operation, stream) {
            (Operation::CountTokens, _) => ("count-tokens".into(), "rawPredict"),
            (_, true) => (dated(model), "streamRawPredict"),
            (_, false) => (dated(model), "rawPredict"),
        };
        format!("/v1/projects/{id}/locations/{location}/publishers/anthropic/models/{model}:{verb}")
    }

    /// Google's own; a model that was tuned is an endpoint, which goes by its number.
    fn of_google(&self, suffix: &str) -> String {
        let Self { id, number, location } = self;
        let tuned = suffix.strip_prefix("/models/").and_then(|call| call.rsplit_once(':'));
        match tuned.filter(|(name, _)| !name.is_empty() && name.bytes().all(|b| b.is_ascii_digit())) {
            Some((name, verb)) => {
                let project = number.as_deref().unwrap_or(id);
                format!("/v1/projects/{project}/locations/{location}/endpoints/{name}:{verb}")
            }
            None => format!("/v1/projects/{id}/locations/{location}/publishers/google{suffix}"),
        }
    }
}

/// A model of Anthropic as Google spells it: its date behind an `@`.
fn dated(model: &str) -> Cow<'_, str> {
    let is_date = |date: &str| date.len() == 8 && date.bytes().all(|b| b.is_ascii_digit());
    let parted = model.rsplit_once('@').or_else(|| model.rsplit_once('-')).filter(|(_, date)| is_date(date));
    match parted {
        Some((name, date)) => format!("{}@{date}", segment(name)).into(),
        None => segment(model),
    }
}

/// `owner/name` of `/models/{owner}/{name}/predictions`, as it is encoded.
fn prediction_of(suffix: &str) -> Option<&str> {
    let name = suffix.strip_prefix("/models/")?.strip_suffix("/predictions")?;
    (name.split('/').filter(|segment| !segment.is_empty()).count() == 2 && name.matches('/').count() == 1)
        .then_some(name)
}

/// What lies below a deployment (openai-python, lib/azure.py); all else lies beside.
fn has_deployment(operation: Operation) -> bool {
    matches!(
        operation,
        Operation::ChatCompletion
            | Operation::TextCompletion
            | Operation::Embedding
            | Operation::Speech
            | Operation::Transcription
            | Operation::Translation
            | Operation::ImageGeneration
            | Operation::ImageEdit
    )
}

/// The key's version wins: the caller's was meant for whom he believes to call.
fn with_version(query: Option<&str>, api_version: &str) -> String {
    let others = query.unwrap_or_default().split('&');
    let kept = others.filter(|pair| !pair.is_empty() && pair.split('=').next() != Some("api-version"));
    let mut query: String = kept.flat_map(|pair| [pair, "&"]).collect();
    query.push_str("api-version=");
    query.push_str(api_version);
    query
}

/// Checks of what becomes part of a host, a path or a query. An error never quotes the text.
pub mod check {
    /// `us-east-1`, `europe-west4`, `global`.
    pub fn region(text: &str) -> Result<(), &'static str> {
        let plain = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        let edges = text.starts_with(|c: char| c.is_ascii_lowercase()) && !text.ends_with('-');
        if plain && edges && text.len() <= 32 { Ok(()) } else { Err("is not the name of a region") }
    }

    /// A project of Google Cloud by id, old ones with their domain before a colon.
    pub fn project(text: &str) -> Result<(), &'static str> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.' | b':');
        let edges = text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.ends_with(|c: char| c.is_ascii_alphanumeric())
            && !text.contains("..");
        if edges && text.bytes().all(plain) && text.len() <= 64 { Ok(()) } else { Err("is not the id of a project") }
    }

    pub fn project_number(text: &str) -> Result<(), &'static str> {
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        if digits && (1..=20).contains(&text.len()) { Ok(()) } else { Err("is not the number of a project") }
    }

    /// A tenant of Entra: a GUID or a domain.
    pub fn tenant(text: &str) -> Result<(), &'static str> {
        let label = |label: &str| !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if text.split('.').all(label) && text.len() <= 128 { Ok(()) } else { Err("is not the id of a tenant") }
    }

    /// `2024-10-21`, `2025-04-01-preview`, `v1`.
    pub fn api_version(text: &str) -> Result<(), &'static str> {
        let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'));
        if plain && (1..=40).contains(&text.len()) { Ok(()) } else { Err("is not an api-version") }
    }

    /// Of a role that is assumed.
    pub fn role_arn(text: &str) -> Result<(), &'static str> {
        const WRONG: &str = "is not the ARN of a role";
        let mut parts = text.splitn(6, ':');
        let partition = parts.next() == Some("arn") && parts.next().is_some_and(|p| p.starts_with("aws"));
        let service = parts.next() == Some("iam") && parts.next() == Some("");
        let account = parts.next().is_some_and(|id| id.len() == 12 && id.bytes().all(|b| b.is_ascii_digit()));
        let name = parts.next().and_then(|rest| rest.strip_prefix("role/"));
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"_+=,.@-/".contains(&b);
        let named = name.is_some_and(|name| !name.is_empty() && name.bytes().all(plain));
        if partition && service && account && named && text.len() <= 2048 { Ok(()) } else { Err(WRONG) }
    }

    /// Of an inference profile, a provisioned or an imported model: goes into a path as one segment.
    pub fn arn(text: &str) -> Result<(), &'static str> {
        let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b":/._-".contains(&b));
        let begins = text.starts_with("arn:aws");
        if begins && plain && text.len() <= 2048 { Ok(()) } else { Err("is not an ARN") }
    }

    /// Of the session of a role (STS: 2 to 64 characters).
    pub fn session_name(text: &str) -> Result<(), &'static str> {
        let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_+=,.@-".contains(&b));
        if plain && (2..=64).contains(&text.len()) { Ok(()) } else { Err("is not the name of a session") }
    }

    /// Condition of a role (STS: 2 to 1224 characters).
    pub fn external_id(text: &str) -> Result<(), &'static str> {
        let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_+=,.@:/-".contains(&b));
        if plain && (2..=1224).contains(&text.len()) { Ok(()) } else { Err("is not an external id") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments() {
        for (text, encoded) in [
            ("gpt-4o", "gpt-4o"),
            ("a/../b", "a%2F..%2Fb"),
            ("..", "%2E%2E"),
            (".", "%2E"),
            ("a b?c#d%2F", "a%20b%3Fc%23d%252F"),
            ("anthropic.claude-v2:1", "anthropic.claude-v2%3A1"),
            (
                "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-v1:0",
                "arn%3Aaws%3Abedrock%3Aus-east-1%3A123456789012%3Ainference-profile%2Fus.anthropic.claude-v1%3A0",
            ),
            ("é", "%C3%A9"),
        ] {
            assert_eq!(segment(text), encoded);
        }
    }

    fn dated() -> Place {
        Place::Deployments { api_version: "2024-10-21".into() }
    }

    fn project() -> Place {
        Place::Project(Box::new(Project { id: "p".into(), number: None, location: "global".into() }))
    }

    #[test]
    fn publishers() {
        let tuned = || Project { id: "p".into(), number: Some("42".into()), location: "us".into() };
        let below = "/r/v1/projects/p/locations/global/publishers";
        for (place, (dialect, operation, stream), suffix, model, line) in [
            (
                project(),
                (Dialect::Anthropic, Operation::ChatCompletion, false),
                "/messages",
                "claude-x-20260101",
                format!("{below}/anthropic/models/claude-x@20260101:rawPredict"),
            ),
            (
                project(),
                (Dialect::Anthropic, Operation::ChatCompletion, true),
                "/messages",
                "claude-x@20260101",
                format!("{below}/anthropic/models/claude-x@20260101:streamRawPredict"),
            ),
            (
                project(),
                (Dialect::Anthropic, Operation::ChatCompletion, false),
                "/messages",
                "../x",
                format!("{below}/anthropic/models/..%2Fx:rawPredict"),
            ),
            (
                project(),
                (Dialect::Anthropic, Operation::CountTokens, false),
                "/messages/count_tokens",
                "claude-x",
                format!("{below}/anthropic/models/count-tokens:rawPredict"),
            ),
            (
                project(),
                (Dialect::Gemini, Operation::ChatCompletion, false),
                "/models/gemini-x:generateContent",
                "gemini-x",
                format!("{below}/google/models/gemini-x:generateContent?a=1"),
            ),
            (
                Place::Project(Box::new(tuned())),
                (Dialect::Gemini, Operation::ChatCompletion, false),
                "/models/123:generateContent",
                "123",
                "/r/v1/projects/42/locations/us/endpoints/123:generateContent?a=1".to_owned(),
            ),
            (
                dated(),
                (Dialect::Anthropic, Operation::ChatCompletion, false),
                "/messages",
                "claude-x",
                "/r/openai/v1/messages?a=1".to_owned(),
            ),
        ] {
            let endpoint = Endpoint { dialect, operation };
            let (model, query) = (Some(model), Some("a=1"));
            let spot = Spot { root_path: "/r", base_path: "/r/openai/v1", endpoint, stream, suffix, model, query };
            assert_eq!(place.path_and_query(&spot).unwrap().as_str(), line);
        }
        let messages = Endpoint { dialect: Dialect::Anthropic, operation: Operation::ChatCompletion };
        for (version, told) in [
            (None, "vertex-2023-10-16"),
            (Some("2023-06-01"), "vertex-2023-10-16"),
            (Some("2026-10-21"), "2026-10-21"),
            (Some("x\",\"y"), "vertex-2023-10-16"),
        ] {
            let member = format!("\"anthropic_version\":\"{told}\"");
            assert_eq!(project().instead_of_model(messages, version), Some(member));
            assert_eq!(dated().instead_of_model(messages, version), None);
        }
    }

    #[test]
    fn paths() {
        let chat = (Operation::ChatCompletion, "/chat/completions");
        for (place, (operation, suffix), model, query, line) in [
            (Place::Plain, chat, Some("m"), Some("a=1"), "/r/openai/v1/chat/completions?a=1"),
            (project(), chat, Some("m"), None, "/r/openai/v1/chat/completions"),
            (
                Place::Versioned { api_version: "preview".into() },
                chat,
                Some("m"),
                None,
                "/r/openai/v1/chat/completions?api-version=preview",
            ),
            (
                dated(),
                chat,
                Some("my dep/1"),
                None,
                "/r/openai/deployments/my%20dep%2F1/chat/completions?api-version=2024-10-21",
            ),
            (dated(), chat, Some(".."), None, "/r/openai/deployments/%2E%2E/chat/completions?api-version=2024-10-21"),
            (
                dated(),
                (Operation::Embedding, "/embeddings"),
                Some("e"),
                Some("x=%2F&api-version=old&&y"),
                "/r/openai/deployments/e/embeddings?x=%2F&y&api-version=2024-10-21",
            ),
            (dated(), (Operation::Responses, "/responses"), Some("m"), None, "/r/openai/v1/responses"),
            (dated(), (Operation::Files, "/files/f-1"), None, None, "/r/openai/files/f-1?api-version=2024-10-21"),
            (
                dated(),
                (Operation::Moderation, "/moderations"),
                Some("m"),
                None,
                "/r/openai/moderations?api-version=2024-10-21",
            ),
            (
                Place::Deployed,
                (Operation::Other, "/models/acme/flux/predictions"),
                None,
                Some("a=1"),
                "/r/openai/v1/deployments/acme/flux/predictions?a=1",
            ),
            (Place::Deployed, (Operation::Other, "/predictions/x"), None, None, "/r/openai/v1/predictions/x"),
            (
                Place::Deployed,
                (Operation::Other, "/models/acme/predictions"),
                None,
                None,
                "/r/openai/v1/models/acme/predictions",
            ),
        ] {
            let endpoint = Endpoint { dialect: Dialect::OpenAi, operation };
            let spot =
                Spot { root_path: "/r", base_path: "/r/openai/v1", endpoint, stream: false, suffix, model, query };
            assert_eq!(place.path_and_query(&spot).unwrap().as_str(), line);
        }
        let arn = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile";
        let profile = Place::Profile { arn: arn.into() };
        assert_eq!(
            profile.model_segment("abc"),
            "arn%3Aaws%3Abedrock%3Aus-east-1%3A123456789012%3Aapplication-inference-profile%2Fabc"
        );
        let whole = "arn:aws:bedrock:us-east-1:1:inference-profile/us.x";
        assert_eq!(profile.model_segment(whole), segment(whole), "an ARN is whole already");
        assert_eq!(Place::Plain.model_segment("anthropic.claude-v2:1"), "anthropic.claude-v2%3A1");
        let openai = Endpoint { dialect: Dialect::OpenAi, operation: Operation::ChatCompletion };
        assert_eq!(project().model_in_body(openai, "gemini-3-flash").as_deref(), Some("google/gemini-3-flash"));
        assert_eq!(project().model_in_body(openai, "meta/llama"), None);
        assert_eq!(dated().model_in_body(openai, "m"), None);
    }

    #[test]
    fn checks() {
        type Check = fn(&str) -> Result<(), &'static str>;
        let cases: [(Check, &[&str], &[&str]); 10] = [
            (
                check::region,
                &["us-east-1", "global", "europe-west4", "us"],
                &["", "US", "-a", "a-", "a.b", "a/b", "a@b", "1a", "us-east-1.evil.com#"],
            ),
            (
                check::project,
                &["acme", "acme-1", "example.com:acme", "123"],
                &["", "Acme", "a/b", "..", "a..b", "-a", "a-", "a%2f", "a?b"],
            ),
            (check::project_number, &["1", "123456789012"], &["", "a", "1a", "-1", "123456789012345678901"]),
            (
                check::tenant,
                &["72f988bf-86f1-41af-91ab-2d7cd011db47", "acme.onmicrosoft.com", "common"],
                &["", "..", "a..b", ".a", "a/b", "a?b", "a#b", "a@b", "a%2f"],
            ),
            (
                check::api_version,
                &["2024-10-21", "2025-04-01-preview", "v1"],
                &["", "a&b", "a=b", "a b", "a#b", "a%26"],
            ),
            (
                check::role_arn,
                &["arn:aws:iam::123456789012:role/a", "arn:aws-cn:iam::123456789012:role/p/a_b+c=,.@-"],
                &[
                    "",
                    "arn:aws:iam::1:role/a",
                    "arn:aws:iam::123456789012:user/a",
                    "arn:aws:sts::123456789012:role/a",
                    "arn:aws:iam:us:123456789012:role/a",
                    "arn:aws:iam::123456789012:role/",
                    "arn:aws:iam::123456789012:role/a b",
                    "arn:evil:iam::123456789012:role/a",
                ],
            ),
            (
                check::arn,
                &["arn:aws:bedrock:us-east-1:1:inference-profile/a", "arn:aws-us-gov:bedrock:r:1:provisioned-model/x"],
                &["", "arn:", "arn:aws:b d", "https://x", "arn:aws:?", "arn:aws:%2f"],
            ),
            (check::session_name, &["ab", "a_b+c=,.@-"], &["", "a", "a b", "a/b"]),
            (check::external_id, &["ab", "a:/b"], &["", "a", "a b", "a&b"]),
            (check::region, &["a"], &["aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"]),
        ];
        for (check, good, bad) in cases {
            good.iter().for_each(|text| assert_eq!(check(text), Ok(()), "{text}"));
            bad.iter().for_each(|text| assert!(check(text).is_err(), "{text}"));
        }
    }
}
