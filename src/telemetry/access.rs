//! One line per request, written by hand: a tracing event of as many fields costs ten times more.
//!
//! The proxy fills an [`AccessLine`] while the request runs and hands it over once, at its end.
//! Holds no body, no header but ids, and no credential.

use std::time::{Duration, SystemTime};

use http::{HeaderValue, Method};

use super::line::{push_escaped, push_millis, push_text, push_time, push_time_of_day, push_u64};
use super::log::Format;
use crate::id::{KeyId, ModelName, ProjectId, ProviderName, RequestId, UpstreamModel};

/// Room made at once for a line; most fit.
const LINE_BYTES_USUAL: usize = 512;
/// Status of a request whose caller left before there was a head.
pub const STATUS_CALLER_LEFT: u16 = 499;

/// How a request ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub enum Outcome {
    /// Answered whole.
    #[default]
    Ok,
    /// The caller closed before the end; not held against the upstream.
    CallerLeft,
    /// The upstream broke off after the head had gone out.
    Truncated,
    /// The upstream's error, or none of its answers was usable.
    UpstreamError,
    /// Refused by us before anything was sent: credentials, routing, limits.
    Refused,
    /// A fault of ours.
    GatewayError,
}

impl Outcome {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::CallerLeft => "caller_left",
            Self::Truncated => "truncated",
            Self::UpstreamError => "upstream_error",
            Self::Refused => "refused",
            Self::GatewayError => "gateway_error",
        }
    }
}

/// Tokens that the upstream reported; all zero = not known.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tokens {
    pub input: u64,
    /// Part of `input`.
    pub input_cached: u64,
    pub output: u64,
    /// Part of `output`.
    pub output_reasoning: u64,
}

/// All that is told of one request. What stays at its default is not written.
#[derive(Clone)]
pub struct AccessLine {
    /// When the request came in.
    pub time: SystemTime,
    pub request_id: Option<RequestId>,
    pub method: Method,
    /// Operation or name of the route, never the path: a path may hold ids and names.
    pub route: &'static str,
    /// 0 while there is none; [`STATUS_CALLER_LEFT`] where the caller did not wait for it.
    pub status: u16,
    pub provider: Option<ProviderName>,
    pub key: Option<KeyId>,
    /// As the caller named it.
    pub model: Option<ModelName>,
    /// After the alias of the chosen key; also the model label of the metrics.
    pub upstream_model: Option<UpstreamModel>,
    pub stream: bool,
    /// Upstream tries.
    pub attempts: u32,
    /// From head in to last byte out.
    pub duration: Duration,
    /// From head in to the first byte of the answer's body.
    pub first_byte: Option<Duration>,
    /// Own share of the time to the first byte: reading, choosing, rewriting, not waiting.
    pub overhead: Option<Duration>,
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// Value of `x-keyway-generation`.
    pub generation: Option<HeaderValue>,
    pub project: Option<ProjectId>,
    pub outcome: Outcome,
    /// Machine-readable cause, empty where there is none.
    pub error: &'static str,
    /// The upstream's own id of the request, for its support.
    pub upstream_request_id: Option<HeaderValue>,
    pub tokens: Tokens,
    /// Whether the line is written at all (`observability.access_log`); it is counted anyway.
    pub logged: bool,
}

impl AccessLine {
    /// The line of a request that has just come in.
    pub fn new(time: SystemTime, method: Method) -> Self {
        Self {
            time,
            request_id: None,
            method,
            route: "",
            status: 0,
            provider: None,
            key: None,
            model: None,
            upstream_model: None,
            stream: false,
            attempts: 0,
            duration: Duration::ZERO,
            first_byte: None,
            overhead: None,
            bytes_in: 0,
            bytes_out: 0,
            generation: None,
            project: None,
            outcome: Outcome::Ok,
            error: "",
            upstream_request_id: None,
            tokens: Tokens::default(),
            logged: true,
        }
    }

    /// Appends the line and its end.
    pub fn write(&self, format: Format, out: &mut Vec<u8>) {
        match format {
            Format::Json => self.write_json(out),
            Format::Text => self.write_text(out),
        }
        out.push(b'\n');
    }

    fn write_json(&self, out: &mut Vec<u8>) {
        out.reserve(LINE_BYTES_USUAL);
        out.extend_from_slice(b"{\"time\":\"");
        push_time(out, self.time);
        out.extend_from_slice(b"\",\"level\":\"info\",\"target\":\"access\"");
        text(out, b",\"request_id\":\"", self.request_id.as_ref().map(RequestId::as_str));
        text(out, b",\"method\":\"", Some(self.method.as_str()));
        text(out, b",\"route\":\"", Some(self.route));
        number(out, b",\"status\":", u64::from(self.status));
        text(out, b",\"outcome\":\"", Some(self.outcome.as_str()));
        text(out, b",\"error\":\"", Some(self.error).filter(|code| !code.is_empty()));
        text(out, b",\"provider\":\"", self.provider.as_ref().map(ProviderName::as_str));
        text(out, b",\"key\":\"", self.key.as_ref().map(KeyId::as_str));
        text(out, b",\"model\":\"", self.model.as_ref().map(ModelName::as_str));
        text(out, b",\"upstream_model\":\"", self.upstream_model.as_ref().map(UpstreamModel::as_str));
        out.extend_from_slice(if self.stream { b",\"stream\":true" } else { b",\"stream\":false" });
        number(out, b",\"attempts\":", u64::from(self.attempts));
        millis(out, b",\"duration_ms\":", Some(self.duration));
        millis(out, b",\"ttft_ms\":", self.first_byte);
        millis(out, b",\"overhead_ms\":", self.overhead);
        number(out, b",\"bytes_in\":", self.bytes_in);
        number(out, b",\"bytes_out\":", self.bytes_out);
        if self.tokens != Tokens::default() {
            number(out, b",\"tokens_in\":", self.tokens.input);
            number(out, b",\"tokens_out\":", self.tokens.output);
        }
        text(out, b",\"generation\":\"", self.generation.as_ref().and_then(|v| v.to_str().ok()));
        text(out, b",\"project\":\"", self.project.as_ref().map(ProjectId::as_str));
        text(out, b",\"upstream_request_id\":\"", self.upstream_request_id.as_ref().and_then(|v| v.to_str().ok()));
        out.push(b'}');
    }

    fn write_text(&self, out: &mut Vec<u8>) {
        push_time_of_day(out, self.time);
        out.extend_from_slice(b"  ");
        push_u64(out, u64::from(self.status));
        out.push(b' ');
        push_text(out, self.method.as_str());
        out.push(b' ');
        push_text(out, self.route);
        out.push(b' ');
        push_millis(out, self.duration);
        out.extend_from_slice(b" ms");
        word(out, "provider", self.provider.as_ref().map(ProviderName::as_str));
        word(out, "key", self.key.as_ref().map(KeyId::as_str));
        word(out, "model", self.model.as_ref().map(ModelName::as_str));
        let upstream = self.upstream_model.as_ref().map(UpstreamModel::as_str);
        word(out, "upstream_model", upstream.filter(|name| Some(*name) != self.model.as_ref().map(ModelName::as_str)));
        if self.stream {
            out.extend_from_slice(b" stream");
        }
        if self.attempts > 1 {
            out.extend_from_slice(b" attempts=");
            push_u64(out, u64::from(self.attempts));
        }
        if let Some(first_byte) = self.first_byte {
            out.extend_from_slice(b" ttft_ms=");
            push_millis(out, first_byte);
        }
        word(out, "outcome", (self.outcome != Outcome::Ok).then(|| self.outcome.as_str()));
        word(out, "error", Some(self.error).filter(|code| !code.is_empty()));
        word(out, "generation", self.generation.as_ref().and_then(|v| v.to_str().ok()));
        word(out, "project", self.project.as_ref().map(ProjectId::as_str));
        word(out, "request_id", self.request_id.as_ref().map(RequestId::as_str));
    }
}

/// `lead` is the member's name with all that stands before the value.
fn text(out: &mut Vec<u8>, lead: &[u8], value: Option<&str>) {
    if let Some(value) = value {
        out.extend_from_slice(lead);
        push_escaped(out, value);
        out.push(b'"');
    }
}

fn number(out: &mut Vec<u8>, lead: &[u8], value: u64) {
    out.extend_from_slice(lead);
    push_u64(out, value);
}

fn millis(out: &mut Vec<u8>, lead: &[u8], value: Option<Duration>) {
    if let Some(value) = value {
        out.extend_from_slice(lead);
        push_millis(out, value);
    }
}

fn word(out: &mut Vec<u8>, label: &str, value: Option<&str>) {
    if let Some(value) = value {
        out.push(b' ');
        out.extend_from_slice(label.as_bytes());
        out.push(b'=');
        push_text(out, value);
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn filled(model: &str) -> AccessLine {
        AccessLine {
            request_id: Some(RequestId::new("req-1")),
            route: "chat_completion",
            status: 200,
            provider: Some("openai".into()),
            key: Some("k1".into()),
            model: Some(model.into()),
            upstream_model: Some("gpt-mini-2026".into()),
            stream: true,
            attempts: 2,
            duration: Duration::from_micros(12_345),
            first_byte: Some(Duration::from_micros(4_000)),
            overhead: Some(Duration::from_micros(61)),
            bytes_in: 900,
            bytes_out: 600,
            generation: Some(HeaderValue::from_static("3-0a1b2c3d")),
            project: Some(ProjectId::new("app")),
            tokens: Tokens { input: 10, output: 20, ..Tokens::default() },
            ..AccessLine::new(UNIX_EPOCH + Duration::from_millis(1_767_225_600_007), Method::POST)
        }
    }

    fn written(line: &AccessLine, format: Format) -> String {
        let mut out = Vec::new();
        line.write(format, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn as_json() {
        let expected = concat!(
            r#"{"time":"2026-01-01T00:00:00.007Z","level":"info","target":"access","request_id":"req-1","method":"POST","#,
            r#""route":"chat_completion","status":200,"outcome":"ok","provider":"openai","key":"k1","model":"fast","#,
            r#""upstream_model":"gpt-mini-2026","stream":true,"attempts":2,"duration_ms":12.345,"ttft_ms":4.000,"#,
            r#""overhead_ms":0.061,"bytes_in":900,"bytes_out":600,"tokens_in":10,"tokens_out":20,"#,
            r#""generation":"3-0a1b2c3d","project":"app"}"#,
            "\n"
        );
        assert_eq!(written(&filled("fast"), Format::Json), expected);
    }

    #[test]
    fn what_is_not_known_is_not_written() {
        let mut line = AccessLine::new(UNIX_EPOCH, Method::GET);
        line.status = 401;
        line.outcome = Outcome::Refused;
        line.error = "invalid_api_key";
        let value: Value = serde_json::from_str(&written(&line, Format::Json)).unwrap();
        assert_eq!((&value["outcome"], &value["error"]), (&"refused".into(), &"invalid_api_key".into()));
        for absent in ["provider", "key", "model", "upstream_model", "ttft_ms", "tokens_in", "project", "generation"] {
            assert!(value.get(absent).is_none(), "{absent}");
        }
    }

    #[test]
    fn as_text() {
        let expected = "00:00:00.007  200 POST chat_completion 12.345 ms provider=openai key=k1 model=fast \
            upstream_model=gpt-mini-2026 stream attempts=2 ttft_ms=4.000 generation=3-0a1b2c3d project=app request_id=req-1\n";
        assert_eq!(written(&filled("fast"), Format::Text), expected);
        assert!(!written(&filled("gpt-mini-2026"), Format::Text).contains("upstream_model"));
    }

    proptest! {
        /// Whatever the model is called, one line per request that reads back.
        #[test]
        fn one_line_whatever_the_name(name in any::<String>()) {
            let json = written(&filled(&name), Format::Json);
            prop_assert_eq!(json.matches(['\n', '\r', '\u{1b}', '\u{9b}', '\u{2028}']).count(), 1);
            let value: Value = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(value["model"].as_str(), Some(name.as_str()));
            prop_assert_eq!(written(&filled(&name), Format::Text).chars().filter(|c| c.is_control()).count(), 1);
        }
    }
}
