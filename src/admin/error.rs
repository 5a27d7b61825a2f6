//! What a management API refuses, and why: one type for all faces; each face has its own envelope.
//!
//! The only place where a cause becomes a status. Quotes no value and shows no cause of the machine
//! beyond its own words.

use std::sync::Arc;

use http::StatusCode;

use crate::config::{Problems, Severity};
use crate::error::{GatewayError, Kind};
use crate::server::BodyError;
use crate::store::{ApplyError, Refused};

/// Problems that a message repeats at most; all of them stand in the list beside it.
const PROBLEMS_SHOWN: usize = 3;

/// One refusal.
#[derive(Clone, Debug)]
pub struct ApiError {
    pub status: StatusCode,
    /// Stable word.
    pub code: &'static str,
    pub message: String,
    /// Member, header or query parameter that is at fault, as a dotted path.
    pub field: Option<String>,
    /// What kind of thing it is about, and which one.
    pub resource: Option<Box<(&'static str, String)>>,
    /// Where the config with the change in it, or the one on disk, would not do.
    pub problems: Option<Arc<Problems>>,
    /// For 405.
    pub allow: Option<String>,
}

impl ApiError {
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), field: None, resource: None, problems: None, allow: None }
    }

    pub fn bad_request(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    pub fn field(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    pub fn about(mut self, resource: &'static str, id: impl Into<String>) -> Self {
        self.resource = Some(Box::new((resource, id.into())));
        self
    }

    fn problems(mut self, problems: &Arc<Problems>) -> Self {
        self.problems = Some(Arc::clone(problems));
        self
    }

    pub fn provider_not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "provider_not_found", "there is no such provider")
    }

    pub fn key_not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "key_not_found", "there is no such key")
    }

    /// The writer has ended or has no room: the process is on its way out, or drowning.
    pub fn unavailable() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "the writer of the config does not answer; try again")
    }

    /// What must be remembered cannot be: the thread of the state is gone or drowning.
    pub fn state_unavailable() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "state_unavailable", "the state does not answer; try again")
    }

    /// What kind of mistake it is, in the words that clients of these APIs know.
    pub fn kind(&self) -> &'static str {
        match self.status {
            StatusCode::UNAUTHORIZED => "authentication_error",
            StatusCode::FORBIDDEN => "permission_error",
            StatusCode::NOT_FOUND => "not_found_error",
            StatusCode::CONFLICT => "conflict_error",
            StatusCode::PRECONDITION_FAILED => "precondition_error",
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            status if status.is_server_error() => "server_error",
            _ => "invalid_request_error",
        }
    }
}

/// The errors of a list, in words; the rest is counted.
pub fn in_words(problems: &Problems) -> String {
    let errors: Vec<_> = problems.0.iter().filter(|p| p.severity == Severity::Error).collect();
    let shown = errors.iter().take(PROBLEMS_SHOWN).map(|p| match p.pointer.as_str() {
        "" => p.message.clone(),
        pointer => format!("{pointer}: {}", p.message),
    });
    let mut text = shown.collect::<Vec<_>>().join("; ");
    if errors.len() > PROBLEMS_SHOWN {
        text.push_str(&format!("; and {} more", errors.len() - PROBLEMS_SHOWN));
    }
    text
}

impl From<Refused> for ApiError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::NotFound { what: "provider" } => Self::provider_not_found(),
            Refused::NotFound { what: "key" } => Self::key_not_found(),
            Refused::NotFound { what } => {
                Self::new(StatusCode::NOT_FOUND, "not_found", format!("there is no such {what}"))
            }
            Refused::Conflict { code, message } => Self::new(StatusCode::CONFLICT, code, message),
            Refused::Stale => {
                let message = "this has changed since it was read: read it again";
                Self::new(StatusCode::PRECONDITION_FAILED, "precondition_failed", message).field("if-match")
            }
            Refused::Invalid { code, field, message } => Self::bad_request(code, message).field(field),
            Refused::SecretRequired { field } => {
                let message = "this would send a stored secret to a new place: send the secret anew with it";
                Self::bad_request("secret_required_for_new_destination", message).field(field)
            }
        }
    }
}

impl From<ApplyError> for ApiError {
    fn from(error: ApplyError) -> Self {
        let conflict = |code, message: String| Self::new(StatusCode::CONFLICT, code, message);
        match error {
            ApplyError::Refused(refused) => refused.into(),
            ApplyError::Problems(problems) => {
                let field = problems.0.iter().find(|p| p.severity == Severity::Error).map(|p| p.pointer.clone());
                let error = Self::bad_request("invalid_config", in_words(&problems)).problems(&problems);
                Self { field, ..error }
            }
            ApplyError::ConfigOnDiskInvalid(problems) => {
                let message = format!("the file on disk is not valid, mend it first: {}", in_words(&problems));
                conflict("config_on_disk_invalid", message).problems(&problems)
            }
            ApplyError::ConfigChanged => {
                conflict("config_changed", "the file was changed by others at the same time; try again".to_owned())
            }
            ApplyError::Locked { path } => {
                let message = format!("`management.locked` is set: edit {} instead", path.display());
                conflict("config_locked", message)
            }
            ApplyError::ReadOnly { path, fix } => {
                conflict("config_read_only", format!("{} cannot be written: {fix}", path.display()))
            }
            ApplyError::Sealing { reason } => {
                conflict("sealing_unavailable", format!("a secret cannot be sealed: {reason}"))
            }
            ApplyError::Io { path, reason } => {
                let message = format!("{} could not be written: {reason}", path.display());
                Self::new(io_status(&reason), "config_write_failed", message)
            }
        }
    }
}

/// A full disk has a status of its own.
fn io_status(reason: &str) -> StatusCode {
    let reason = reason.to_ascii_lowercase();
    let full =
        ["no space", "enospc", "quota", "disk is full", "file too large"].iter().any(|word| reason.contains(word));
    if full { StatusCode::INSUFFICIENT_STORAGE } else { StatusCode::INTERNAL_SERVER_ERROR }
}

impl From<BodyError> for ApiError {
    fn from(error: BodyError) -> Self {
        let (status, code) = match error {
            BodyError::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large"),
            BodyError::NeverRoom => (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large"),
            BodyError::NoRoom => (StatusCode::SERVICE_UNAVAILABLE, "overloaded"),
            BodyError::Timeout => (StatusCode::REQUEST_TIMEOUT, "body_timeout"),
            BodyError::Broken(_) => (StatusCode::BAD_REQUEST, "body_broken"),
        };
        Self::new(status, code, error.to_string())
    }
}

/// Refusals of router and authentication, of which these APIs are asked too.
impl From<&GatewayError> for ApiError {
    fn from(error: &GatewayError) -> Self {
        let status = match error.kind {
            Kind::Unauthorized => StatusCode::UNAUTHORIZED,
            Kind::Forbidden => StatusCode::FORBIDDEN,
            Kind::NotFound | Kind::ModelNotFound => StatusCode::NOT_FOUND,
            Kind::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Kind::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            Kind::BudgetExceeded => StatusCode::PAYMENT_REQUIRED,
            Kind::Overloaded | Kind::NoEligibleKey | Kind::AllCooling => StatusCode::SERVICE_UNAVAILABLE,
            Kind::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Kind::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Kind::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Kind::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Kind::BadRequest | Kind::Unsupported => StatusCode::BAD_REQUEST,
            Kind::Connect
            | Kind::FirstByteTimeout
            | Kind::Broken
            | Kind::Answer(_)
            | Kind::CredentialsExhausted
            | Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let mut made = Self::new(status, error.public.code, error.public.message.clone());
        made.field.clone_from(&error.public.param);
        made
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::config::Code;

    #[test]
    fn statuses_and_codes() {
        let mut problems = Problems::default();
        for at in 0..5 {
            problems.error(Code::BadValue, format!("/providers/{at}"), "not good");
        }
        let (problems, path) = (Arc::new(problems), PathBuf::from("/etc/keyway/config.json"));
        let io = |reason: &str| ApplyError::Io { path: path.clone(), reason: reason.into() };
        for (error, status, code) in [
            (ApplyError::Refused(Refused::NotFound { what: "provider" }), 404, "provider_not_found"),
            (ApplyError::Refused(Refused::NotFound { what: "key" }), 404, "key_not_found"),
            (ApplyError::Refused(Refused::Conflict { code: "c", message: String::new() }), 409, "c"),
            (ApplyError::Refused(Refused::Stale), 412, "precondition_failed"),
            (
                ApplyError::Refused(Refused::SecretRequired { field: "base_url".into() }),
                400,
                "secret_required_for_new_destination",
            ),
            (ApplyError::Problems(problems.clone()), 400, "invalid_config"),
            (ApplyError::ConfigOnDiskInvalid(problems.clone()), 409, "config_on_disk_invalid"),
            (ApplyError::ConfigChanged, 409, "config_changed"),
            (ApplyError::Locked { path: path.clone() }, 409, "config_locked"),
            (ApplyError::ReadOnly { path: path.clone(), fix: "mount the folder".into() }, 409, "config_read_only"),
            (ApplyError::Sealing { reason: "no key".into() }, 409, "sealing_unavailable"),
            (io("No space left on device (os error 28)"), 507, "config_write_failed"),
            (io("Input/output error (os error 5)"), 500, "config_write_failed"),
        ] {
            let made = ApiError::from(error);
            assert_eq!((made.status.as_u16(), made.code), (status, code), "{}", made.message);
            assert!(!made.message.is_empty() || code == "c");
        }
        let words = in_words(&problems);
        assert_eq!(words, "/providers/0: not good; /providers/1: not good; /providers/2: not good; and 2 more");
    }
}
