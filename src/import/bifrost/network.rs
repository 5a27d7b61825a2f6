//! `network_config` in the spellings that it has had.

use super::{reasons, secrets_in};
use crate::config::file::NetworkFile;
use crate::import::findings::Findings;
use crate::import::out::{Out, OutKind};
use crate::import::source::At;
use crate::provider::ProxyUrl;

/// Old names of the two waits.
const RENAMED: [(&str, &str); 2] =
    [("retry_backoff_initial_ms", "retry_backoff_initial"), ("retry_backoff_max_ms", "retry_backoff_max")];
/// No wait is that long in milliseconds: it is Go's duration, in nanoseconds.
const NANOSECONDS_FROM: f64 = 1_000_000.0;

pub(super) fn config(at: &At<'_>, findings: &mut Findings) -> Out {
    let mut out = Out::object(at);
    let has_ca = at.get("ca_cert_pem").is_some_and(|ca| !ca.is_empty());
    for (written, at) in at.members() {
        let name = RENAMED.iter().find(|(old, _)| *old == written).map_or(written, |(_, new)| *new);
        // Zero is how Go writes a default.
        if at.is_empty() || at.flag() == Some(false) || at.number() == Some(0.0) {
            continue;
        }
        match name {
            "retry_backoff_initial" | "retry_backoff_max" => {
                if name != written {
                    findings.changed(&at, format!("now `{name}`, in the same milliseconds"));
                }
                out.set(name, wait(&at, findings));
            }
            "default_request_timeout_in_seconds" => {
                findings.changed(&at, "bounds the time to the first byte here, not the whole answer");
                out.set(name, Out::copy(&at));
            }
            // Of the two the one that verifies stays.
            "insecure_skip_verify" if has_ca => findings.dropped(&at, "excludes `ca_cert_pem`, which is kept"),
            "base_url" | "ca_cert_pem" => out.set_some(name, super::secret(&at, findings)),
            "extra_headers" => out.set(name, secrets_in(&at, findings)),
            _ if NetworkFile::MEMBERS.contains(&name) => out.set(name, Out::copy(&at)),
            _ => findings.dropped(&at, reasons::of(&[], name)),
        }
    }
    out
}

/// `proxy_config`; a login in the URL has members of its own here.
pub(super) fn proxy(at: &At<'_>, findings: &mut Findings) -> Out {
    let mut out = secrets_in(at, findings);
    let url = at.get("url").and_then(|url| Some((url.text()?.to_owned(), url)));
    let Some((text, from)) = url.filter(|(text, _)| text.contains('@')) else { return out };
    let Some((scheme, rest)) = text.split_once("://") else { return out };
    let (Some((_, host)), Ok((_, Some((name, password))))) = (rest.rsplit_once('@'), ProxyUrl::from_environment(&text))
    else {
        return out;
    };
    findings.changed(&from, "the login was put into `username` and `password`");
    out.set("url", Out::text(format!("{scheme}://{host}"), &from));
    for (member, value) in [("username", name), ("password", password)] {
        if out.member(member).is_none() && !value.is_empty() {
            out.set(member, Out::text(value, &from));
        }
    }
    out
}

/// Milliseconds, or a duration as text, which both read alike.
fn wait(at: &At<'_>, findings: &mut Findings) -> Out {
    match at.number() {
        Some(number) if number >= NANOSECONDS_FROM => {
            findings.changed(at, "taken as nanoseconds, and written in milliseconds");
            Out::new(OutKind::Number(format!("{:.0}", (number / NANOSECONDS_FROM).max(1.0))), at)
        }
        _ => Out::copy(at),
    }
}
