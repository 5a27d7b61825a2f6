//! `server` and `observability`: limits, TLS, and who may be reached from where.

use super::{Compiler, listen, secrets};
use crate::config::Code;
use crate::config::file::{LimitsFile, ObservabilityFile, ServerFile, TlsFile};
use crate::config::problem::pointer_to;
use crate::limits::{
    BODY_TIMEOUT_DEFAULT, BODY_TIMEOUT_LONGEST, CONNECTIONS_DEFAULT, CONNECTIONS_LARGEST, DRAIN_DEFAULT, DRAIN_LONGEST,
    HEADER_COUNT_DEFAULT, HEADER_COUNT_LARGEST, HEADER_COUNT_SMALLEST, HEADER_KB_DEFAULT, HEADER_KB_LARGEST,
    HEADER_KB_SMALLEST, HEADER_TIMEOUT_DEFAULT, HEADER_TIMEOUT_LONGEST, IN_FLIGHT_DEFAULT, IN_FLIGHT_LARGEST,
    REQUEST_BODY_MB_DEFAULT, REQUEST_BODY_MB_LARGEST,
};
use crate::snapshot::{ListenSpec, LogLevel, Management, ServerLimits, ServerSettings, TlsFiles};

const LISTEN_DEFAULT: &str = "127.0.0.1:8080";
const LEVELS: [(&str, LogLevel); 5] = [
    ("error", LogLevel::Error),
    ("warn", LogLevel::Warn),
    ("info", LogLevel::Info),
    ("debug", LogLevel::Debug),
    ("trace", LogLevel::Trace),
];

pub(super) fn settings(cx: &mut Compiler<'_>, file: Option<&ServerFile>) -> ServerSettings {
    let absent = ServerFile::default();
    let file = file.unwrap_or(&absent);
    let listen = match &file.listen {
        Some(written) => listen::all(cx, written, "/server/listen"),
        None => listen::all(cx, &[LISTEN_DEFAULT.to_owned()], "/server/listen"),
    };
    let drain = match file.drain_seconds {
        // 0 is a wish that can be granted: end at once.
        Some(span) if span.is_zero() => span,
        span => cx.span(span, DRAIN_DEFAULT, DRAIN_LONGEST, "/server/drain_seconds".to_owned()),
    };
    ServerSettings {
        listen,
        tls: file.tls.as_ref().and_then(|file| tls(cx, file)),
        open_data_plane: file.open_data_plane.unwrap_or(false),
        drain,
        limits: limits(cx, file.limits.as_ref()),
    }
}

fn limits(cx: &mut Compiler<'_>, file: Option<&LimitsFile>) -> ServerLimits {
    let absent = LimitsFile::default();
    let file = file.unwrap_or(&absent);
    let at = |name| pointer_to("/server/limits", name);
    let mb = cx.bounded(
        file.request_body_mb_max,
        REQUEST_BODY_MB_DEFAULT,
        1..=REQUEST_BODY_MB_LARGEST,
        at("request_body_mb_max"),
    );
    let kb =
        cx.bounded(file.header_kb_max, HEADER_KB_DEFAULT, HEADER_KB_SMALLEST..=HEADER_KB_LARGEST, at("header_kb_max"));
    ServerLimits {
        in_flight_max: cx.bounded(file.in_flight_max, IN_FLIGHT_DEFAULT, 1..=IN_FLIGHT_LARGEST, at("in_flight_max")),
        request_body_bytes_max: mb.saturating_mul(1024 * 1024),
        header_bytes_max: kb.saturating_mul(1024),
        header_count_max: cx.bounded(
            file.header_count_max,
            HEADER_COUNT_DEFAULT,
            HEADER_COUNT_SMALLEST..=HEADER_COUNT_LARGEST,
            at("header_count_max"),
        ),
        header_timeout: cx.span(
            file.header_timeout_seconds,
            HEADER_TIMEOUT_DEFAULT,
            HEADER_TIMEOUT_LONGEST,
            at("header_timeout_seconds"),
        ),
        body_timeout: cx.span(
            file.body_timeout_seconds,
            BODY_TIMEOUT_DEFAULT,
            BODY_TIMEOUT_LONGEST,
            at("body_timeout_seconds"),
        ),
        connections_max: cx.bounded(
            file.connections_max,
            CONNECTIONS_DEFAULT,
            1..=CONNECTIONS_LARGEST,
            at("connections_max"),
        ),
    }
}

fn tls(cx: &mut Compiler<'_>, file: &TlsFile) -> Option<TlsFiles> {
    let mut of = |path: &Option<String>, name: &str| {
        let at = pointer_to("/server/tls", name);
        match path.as_deref() {
            None | Some("") => {
                cx.missing("/server/tls", name, "a PEM file, relative to the directory of the config file");
                None
            }
            Some(path) => cx.required_file(path, &at),
        }
    };
    let cert = of(&file.cert_file, "cert_file");
    let key = of(&file.key_file, "key_file");
    if let Some(Err(what)) = cert.as_ref().map(secrets::check_certificates) {
        cx.problems.error(Code::BadValue, "/server/tls/cert_file", format!("in the file: {what}"));
    }
    if let Some(Err(what)) = key.as_ref().map(secrets::check_private_key) {
        cx.problems.error(Code::BadValue, "/server/tls/key_file", format!("in the file: {what}"));
    }
    Some(TlsFiles { cert_pem: secrets::public_text(&cert?), key_pem: key? })
}

/// Rules over both planes: nothing is open beyond this machine unless somebody said so (CONTRACT
/// 3.1 and 4), nothing is bound twice, and a TLS listener has a certificate.
pub(super) fn exposure(
    cx: &mut Compiler<'_>,
    file: Option<&ServerFile>,
    server: &ServerSettings,
    management: &Management,
    has_projects: bool,
) {
    let own = management.listen.as_deref();
    for (spec, at) in placed(&server.listen, "/server/listen") {
        if listen::is_beyond_loopback(spec) {
            if !has_projects && !server.open_data_plane {
                let text = "reachable from other machines, and no `projects` say who may call";
                let problem = cx.problems.error(Code::Conflict, &*at, text);
                problem.hint("add `projects`, listen on 127.0.0.1, or set `server.open_data_plane` to true");
            }
            if own.is_none() && management.keys.is_none() {
                let text = "reachable from other machines, and carries the management APIs without keys";
                let problem = cx.problems.error(Code::Conflict, &*at, text);
                problem.hint("add `management.keys`, or set `management.listen` to [\"127.0.0.1:5100\"]");
            }
        }
    }
    for (spec, at) in placed(own.unwrap_or_default(), "/management/listen") {
        if management.keys.is_none() && listen::is_beyond_loopback(spec) {
            let text = "reachable from other machines, and there are no `management.keys`";
            cx.problems.error(Code::Conflict, &*at, text).hint("add `management.keys`, or listen on 127.0.0.1");
        }
        if server.listen.iter().any(|other| listen::is_same_place(spec, other)) {
            let problem = cx.problems.error(Code::Conflict, at, "the data plane listens on this address too");
            problem.hint("without `management.listen` both share the listeners of `server`");
        }
    }
    let has_tls = file.is_some_and(|file| file.tls.is_some());
    let all = placed(&server.listen, "/server/listen").chain(placed(own.unwrap_or_default(), "/management/listen"));
    let secure: Vec<String> =
        all.filter(|(spec, _)| matches!(spec, ListenSpec::Tcp { tls: true, .. })).map(|(_, at)| at).collect();
    if has_tls && secure.is_empty() {
        let problem = cx.problems.warning(Code::Suspicious, "/server/tls", "no listener uses it");
        problem.hint("an address that begins with `https://` does");
    }
    if !has_tls {
        for at in secure {
            cx.problems.error(Code::Conflict, at, "a TLS listener without `server.tls`");
        }
    }
    if has_projects && server.open_data_plane {
        let text = "has no effect: with `projects` every call needs a key";
        cx.problems.warning(Code::Suspicious, "/server/open_data_plane", text);
    }
}

fn placed<'s>(specs: &'s [ListenSpec], pointer: &'s str) -> impl Iterator<Item = (&'s ListenSpec, String)> {
    specs.iter().enumerate().map(move |(i, spec)| (spec, pointer_to(pointer, &i.to_string())))
}

pub(super) fn log_level(file: Option<&ObservabilityFile>) -> LogLevel {
    // The reader lets no other word through.
    let written = file.and_then(|file| file.log_level.as_deref());
    LEVELS.iter().find(|(name, _)| Some(*name) == written).map_or(LogLevel::Info, |(_, level)| *level)
}
