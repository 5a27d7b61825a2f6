//! What went wrong, as data: kind, whose fault, whether the request may have been sent.
//!
//! There is no status code here and no dialect: `proxy/error_response.rs` turns a [`GatewayError`]
//! into an answer, `dispatch/verdict.rs` turns it into what happens next. The text for the caller
//! ([`Public`]) and the cause for the operator (`source`) are two fields and never mix.

use std::fmt;
use std::time::Duration;

/// Cause for the operator's log. Never shown to a caller.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// One failure on the way of a request.
#[derive(Debug)]
pub struct GatewayError {
    pub kind: Kind,
    pub blame: Blame,
    pub sent: Sent,
    pub public: Public,
    pub source: Option<BoxError>,
}

/// What kind of failure it is. Closed, so that rendering and judging must say what each one means.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Kind {
    /// The request is not one that we can read: bad JSON, bad path, bad header.
    BadRequest,
    /// No or wrong credentials.
    Unauthorized,
    /// Credentials of the other kind, or a permission that the project lacks.
    Forbidden,
    /// No such route, file, batch or response.
    NotFound,
    /// The route exists, the method does not.
    MethodNotAllowed,
    /// No provider serves a model of that name.
    ModelNotFound,
    /// The body is over its cap.
    BodyTooLarge,
    /// The head is over its caps.
    HeadTooLarge,
    /// The caller stopped sending before the body was whole.
    BodyTimeout,
    /// `content-encoding` or `content-type` that we do not read.
    UnsupportedMediaType,
    /// Asked for something that this gateway does not do.
    Unsupported,
    /// At a bound on requests in flight, connections or memory.
    Overloaded,
    /// Every key that could serve is disabled, filtered out, unresolved or benched.
    NoEligibleKey,
    /// The caller's own limit of requests; `public.retry_after` says when there is room again.
    RateLimited,
    /// A budget of the caller's project is used up; `public.retry_after` says when it is filled again.
    BudgetExceeded,
    /// Keys exist but all are cooling; `public.retry_after` says for how long.
    AllCooling,
    /// No connection to the upstream: nothing was sent.
    Connect,
    /// The upstream did not begin to answer in time.
    FirstByteTimeout,
    /// The connection broke after the request may have been sent.
    Broken,
    /// The upstream answered with an error of this class.
    Answer(FaultClass),
    /// Every key was refused by the upstream; what it said can quote the key and is not shown.
    CredentialsExhausted,
    /// A bug of ours.
    Internal,
}

/// Class of an upstream error (CONTRACT 3.5): data in the provider's row by (status, code).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum FaultClass {
    /// The key is refused as such.
    Credential,
    /// The key may not use this model.
    ModelAccess,
    /// Too many requests or tokens.
    Rate,
    /// The content is refused; another key would refuse it too.
    Content,
    /// The caller's mistake.
    Caller,
    /// The upstream's own trouble.
    Server,
    /// A signature was too old or too new; signing again may help.
    ClockSkew,
}

/// Whose fault it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Blame {
    Caller,
    Gateway,
    Upstream,
}

/// Whether the upstream may have seen the request. `Never` comes from types alone: a dial error, or
/// hyper handing the unsent message back.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Sent {
    Never,
    Maybe,
    Answered { status: u16 },
}

/// What the caller is told. Holds no secret, no resolved env value and no internal error's text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Public {
    /// Machine-readable cause, as in `error.code` of the OpenAI shape.
    pub code: &'static str,
    pub message: String,
    /// The member or header that is at fault.
    pub param: Option<String>,
    /// When it makes sense to come back.
    pub retry_after: Option<Duration>,
}

impl GatewayError {
    fn new(kind: Kind, blame: Blame, code: &'static str, message: impl Into<String>) -> Self {
        let public = Public { code, message: message.into(), param: None, retry_after: None };
        Self { kind, blame, sent: Sent::Never, public, source: None }
    }

    /// The caller's mistake, found before anything was sent.
    pub fn caller(kind: Kind, code: &'static str, message: impl Into<String>) -> Self {
        Self::new(kind, Blame::Caller, code, message)
    }

    /// Our own refusal or fault.
    pub fn gateway(kind: Kind, code: &'static str, message: impl Into<String>) -> Self {
        Self::new(kind, Blame::Gateway, code, message)
    }

    /// The upstream's fault.
    pub fn upstream(kind: Kind, sent: Sent, code: &'static str, message: impl Into<String>) -> Self {
        Self { sent, ..Self::new(kind, Blame::Upstream, code, message) }
    }

    pub fn param(mut self, param: impl Into<String>) -> Self {
        self.public.param = Some(param.into());
        self
    }

    pub fn retry_after(mut self, span: Duration) -> Self {
        self.public.retry_after = Some(span);
        self
    }

    pub fn source(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(source.into());
        self
    }
}

impl fmt::Display for GatewayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.public.message)
    }
}

impl std::error::Error for GatewayError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|e| &**e as &(dyn std::error::Error + 'static))
    }
}
