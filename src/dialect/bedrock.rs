//! The Bedrock wire: its paths, which hold the model as one segment, and its error shape.
//!
//! Bodies and answers are relayed. Error texts come from [`Public`](crate::error::Public) alone.

use bytes::Bytes;

use super::frame::ending::Verdict;
use super::frame::eventstream;
use super::path::{PathRow, Pattern, row};
use super::scan::write_json_string;
use super::{Failure, Operation};
use crate::error::{FaultClass, Kind};

/// The header that names an error; the body has its text alone.
pub const ERROR_TYPE: &str = "x-amzn-errortype";

/// The paths that mean something to routing, from the root: there is no version prefix.
pub const PATHS: &[PathRow] = {
    use super::BodyKind::{Json, None};
    use Pattern::{AnyWord, Below, Exact, Word};
    &[
        row("POST", Word("converse"), Operation::ChatCompletion, Json),
        row("POST", Word("converse-stream"), Operation::ChatCompletion, Json).streamed(),
        // JSON whatever its content type says: the API's default is to leave it out.
        row("POST", Word("invoke"), Operation::Invoke, Json),
        row("POST", Word("invoke-with-response-stream"), Operation::Invoke, Json).streamed(),
        row("POST", Word("count-tokens"), Operation::CountTokens, Json),
        row("POST", AnyWord, Operation::Other, Json),
        row("POST", Exact("/model-invocation-job"), Operation::Batches, Json),
        row("GET", Exact("/model-invocation-jobs"), Operation::Batches, None),
        row("GET", Below("/model-invocation-job"), Operation::Batches, None),
        row("POST", Below("/model-invocation-job"), Operation::Batches, Json),
    ]
};

/// Behind the answer's stop come its counts, and nothing more.
const STOP: &str = "messageStop";
const LAST: &str = "metadata";

/// What the event of this type makes of a stream of this operation; `None` where it is one of many.
pub fn verdict(operation: Operation, event: &str) -> Option<Verdict> {
    match event {
        LAST if operation == Operation::ChatCompletion => Some(Verdict::Whole),
        STOP if operation == Operation::ChatCompletion => Some(Verdict::Stopped),
        _ => None,
    }
}

/// What is known of a stream of this operation before its first frame. What a model says in its own
/// format ends as it likes.
pub fn owed(operation: Operation) -> Verdict {
    match operation {
        Operation::ChatCompletion => Verdict::Cut,
        _ => Verdict::Whole,
    }
}

/// The name of a failure.
pub fn error_type(kind: Kind) -> &'static str {
    match kind {
        Kind::BadRequest
        | Kind::MethodNotAllowed
        | Kind::BodyTooLarge
        | Kind::HeadTooLarge
        | Kind::BodyTimeout
        | Kind::UnsupportedMediaType
        | Kind::Unsupported => "ValidationException",
        Kind::Unauthorized => "UnrecognizedClientException",
        Kind::Forbidden => "AccessDeniedException",
        Kind::NotFound | Kind::ModelNotFound => "ResourceNotFoundException",
        Kind::AllCooling | Kind::RateLimited | Kind::Answer(FaultClass::Rate) => "ThrottlingException",
        Kind::BudgetExceeded => "ServiceQuotaExceededException",
        Kind::FirstByteTimeout => "ModelTimeoutException",
        Kind::Overloaded | Kind::NoEligibleKey | Kind::Connect | Kind::Broken => "ServiceUnavailableException",
        Kind::Answer(_) | Kind::CredentialsExhausted | Kind::Internal => "InternalServerException",
    }
}

/// `{"message"}`.
pub fn error_body(failure: &Failure<'_>) -> Bytes {
    let mut out = Vec::with_capacity(32 + failure.public.message.len());
    out.extend_from_slice(b"{\"message\":");
    write_json_string(&failure.public.message, &mut out);
    out.push(b'}');
    Bytes::from(out)
}

/// The frame that ends a broken stream. Of the names above only these are an event stream's.
pub fn error_frame(failure: &Failure<'_>) -> Bytes {
    let kind = match failure.kind {
        Kind::FirstByteTimeout => "modelTimeoutException",
        Kind::Internal => "internalServerException",
        _ => "serviceUnavailableException",
    };
    eventstream::exception(kind, &error_body(failure))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Public;

    #[test]
    fn bodies_and_frames() {
        let public = Public { code: "upstream_broken", message: "cut \"short\"".into(), ..Public::default() };
        let failure = Failure { kind: Kind::Broken, status: 502, public: &public, id: "r" };
        assert_eq!(&error_body(&failure)[..], br#"{"message":"cut \"short\""}"#);
        let frame = error_frame(&failure);
        let mut seen = Vec::new();
        eventstream::Follower::default().push(&frame, |kind| seen.push(format!("{kind:?}")));
        assert_eq!(seen, [r#"Exception("serviceUnavailableException")"#]);
    }
}
