//! When an upstream says to come back: all spellings that providers use, as one span.
//!
//! Takes the most explicit one: `retry-after-ms`, `retry-after` (seconds or a date), Google's
//! `RetryInfo`, the reset headers of the limits that are used up, the sentence in the message.
//! Garbage counts as absent. The result is clamped, so that no upstream can bench a key for a day.

use std::time::{Duration, SystemTime};

use http::HeaderMap;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::limits::{COOL_MAX, COOL_MIN};

/// How long to leave the upstream alone after it has refused for too many requests. `wall` is the
/// time now, for dates.
pub fn retry_after(headers: &HeaderMap, body: &[u8], wall: SystemTime) -> Option<Duration> {
    retry_after_header(headers, wall).or_else(|| {
        let error = Error::read(body);
        let resets = error.retry_info().or_else(|| resets(headers, wall)).or_else(|| error.resets(wall));
        Some(resets.or_else(|| error.sentence())?.clamp(COOL_MIN, COOL_MAX))
    })
}

/// The same from the explicit headers alone: what counts after a failure of the upstream's own, where
/// the reset headers that come with every answer say nothing about it.
pub fn retry_after_header(headers: &HeaderMap, wall: SystemTime) -> Option<Duration> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let span = header("retry-after-ms")
        .and_then(|text| seconds(text).map(|span| span / 1000))
        .or_else(|| header("retry-after").and_then(|text| seconds(text).or_else(|| http_date(text, wall))))?;
    Some(span.clamp(COOL_MIN, COOL_MAX))
}

/// A number of seconds, whole or not. `120s` is not one.
fn seconds(text: &str) -> Option<Duration> {
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let number: f64 = plain.then(|| text.parse().ok())??;
    Some(Duration::try_from_secs_f64(number).unwrap_or(COOL_MAX))
}

fn http_date(text: &str, wall: SystemTime) -> Option<Duration> {
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(wall).unwrap_or_default())
}

/// Go's spelling: `6m0s`, `12ms`, `1h2m3.5s`.
fn go_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(digits);
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, next) = after.split_at(unit_end);
        let unit_seconds = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" | "μs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        let part = number.parse::<f64>().ok()? * unit_seconds;
        total = total.saturating_add(Duration::try_from_secs_f64(part).unwrap_or(COOL_MAX));
        rest = next;
    }
    (!text.is_empty()).then_some(total)
}

/// A moment or a span, in any spelling that reset headers have.
fn reset(text: &str, wall: SystemTime) -> Option<Duration> {
    let since_epoch = |span: Duration| {
        let now = wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        span.saturating_sub(now)
    };
    if let Some(span) = seconds(text) {
        // Numbers of this size are moments: seconds since 1970, or milliseconds.
        return Some(match span.as_secs() {
            0..1_000_000_000 => span,
            1_000_000_000..1_000_000_000_000 => since_epoch(span),
            _ => since_epoch(span / 1000),
        });
    }
    if let Ok(moment) = OffsetDateTime::parse(text, &Rfc3339) {
        return Some(SystemTime::from(moment).duration_since(wall).unwrap_or_default());
    }
    go_duration(text)
}

/// The longest reset among the limits that are used up; where none says so, among all but the daily
/// ones: a limit per minute is the usual cause, and a day's rest the dearest mistake.
fn resets(headers: &HeaderMap, wall: SystemTime) -> Option<Duration> {
    let mut used_up = None;
    let mut any = None;
    for (name, value) in headers {
        let name = name.as_str();
        // `x-ratelimit-reset-tokens` and, at Anthropic, `anthropic-ratelimit-tokens-reset`.
        if !name.contains("ratelimit-") || !name.split('-').any(|word| word == "reset") {
            continue;
        }
        let Some(span) = value.to_str().ok().and_then(|text| reset(text.trim(), wall)) else { continue };
        let remaining = headers.get(name.replace("reset", "remaining")).and_then(|v| v.to_str().ok());
        if remaining.and_then(|text| text.trim().parse::<f64>().ok()).is_some_and(|left| left < 1.0) {
            used_up = used_up.max(Some(span));
        } else if !name.contains("day") {
            any = any.max(Some(span));
        }
    }
    used_up.or(any)
}

/// The error object of a body, if there is one.
struct Error(Value);

impl Error {
    fn read(body: &[u8]) -> Self {
        let mut body: Value = serde_json::from_slice(body).unwrap_or_default();
        // Google wraps the error of a streamed call into a list.
        if let Some(first) = body.get_mut(0) {
            body = first.take();
        }
        let error = body.get_mut("error").map(Value::take).filter(Value::is_object);
        Self(error.unwrap_or(body))
    }

    /// `google.rpc.RetryInfo`.
    fn retry_info(&self) -> Option<Duration> {
        let details = self.0.get("details")?.as_array()?;
        details.iter().find_map(|detail| go_duration(detail.get("retryDelay")?.as_str()?))
    }

    /// OpenRouter puts the headers of the provider behind it into the body.
    fn resets(&self, wall: SystemTime) -> Option<Duration> {
        let headers = self.0.get("metadata")?.get("headers")?.as_object()?;
        let (_, value) = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("x-ratelimit-reset"))?;
        match value {
            Value::String(text) => reset(text, wall),
            Value::Number(number) => reset(&number.to_string(), wall),
            _ => None,
        }
    }

    /// "Please retry after 6 seconds" (Azure), "Please try again in 6m0.5s" (OpenAI and its kin).
    fn sentence(&self) -> Option<Duration> {
        let message = self.0.get("message")?.as_str()?;
        let lower = message.to_ascii_lowercase();
        let after = ["retry after ", "try again in "].iter().find_map(|lead| {
            let at = lower.find(lead)? + lead.len();
            lower.get(at..)
        })?;
        let mut words = after.split_ascii_whitespace();
        let first = words.next()?.trim_end_matches(['.', ',', ';']);
        match seconds(first) {
            Some(span) if words.next().is_some_and(|unit| unit.starts_with("second")) => Some(span),
            Some(_) => None,
            None => go_duration(first),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    use super::*;

    /// 2026-11-20T00:00:00Z.
    const WALL: u64 = 1_795_132_800;

    fn ask(headers: &[(&str, &str)], body: &str) -> Option<u64> {
        let headers = headers
            .iter()
            .map(|(n, v)| (n.parse::<HeaderName>().unwrap(), HeaderValue::from_str(v).unwrap()))
            .collect();
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(WALL);
        retry_after(&headers, body.as_bytes(), wall).map(|span| u64::try_from(span.as_millis()).unwrap())
    }

    #[test]
    fn headers() {
        let none: &[(&str, &str)] = &[];
        for (headers, ms) in [
            (none, None),
            (&[("retry-after", "7")], Some(7_000)),
            (&[("retry-after", " 7 ")], Some(7_000)),
            (&[("retry-after", "7.25")], Some(7_250)),
            (&[("retry-after-ms", "2500")], Some(2_500)),
            (&[("retry-after-ms", "2500.5"), ("retry-after", "9")], Some(2_500)),
            (&[("retry-after-ms", "soon"), ("retry-after", "9")], Some(9_000)),
            (&[("retry-after", "Fri, 20 Nov 2026 00:00:40 GMT")], Some(40_000)),
            // In the past, zero, and beyond all measure: clamped.
            (&[("retry-after", "Thu, 19 Nov 2026 00:00:40 GMT")], Some(1_000)),
            (&[("retry-after", "0")], Some(1_000)),
            (&[("retry-after-ms", "20")], Some(1_000)),
            (&[("retry-after", "86400")], Some(3_600_000)),
            (&[("retry-after", "99999999999999999999999999")], Some(3_600_000)),
            // Garbage is absent.
            (&[("retry-after", "120s")], None),
            (&[("retry-after", "-5")], None),
            (&[("retry-after", "")], None),
            (&[("retry-after", "NaN")], None),
            (&[("retry-after", "1e3")], None),
            (&[("retry-after", ".")], None),
            // OpenAI and its kin.
            (&[("x-ratelimit-reset-requests", "6m0s")], Some(360_000)),
            (&[("x-ratelimit-reset-requests", "1s"), ("x-ratelimit-reset-tokens", "1m2.5s")], Some(62_500)),
            (
                &[
                    ("x-ratelimit-remaining-requests", "0"),
                    ("x-ratelimit-reset-requests", "8s"),
                    ("x-ratelimit-remaining-tokens", "400"),
                    ("x-ratelimit-reset-tokens", "6m0s"),
                ],
                Some(8_000),
            ),
            // Cerebras: float seconds, the day's limit counts only when it is used up.
            (
                &[("x-ratelimit-reset-requests-day", "33011.38"), ("x-ratelimit-reset-tokens-minute", "11.38")],
                Some(11_380),
            ),
            (
                &[("x-ratelimit-remaining-requests-day", "0"), ("x-ratelimit-reset-requests-day", "1800.5")],
                Some(1_800_500),
            ),
            (&[("x-ratelimit-reset-requests-day", "4h17m")], None),
            // Anthropic: RFC 3339.
            (
                &[
                    ("anthropic-ratelimit-tokens-remaining", "0"),
                    ("anthropic-ratelimit-tokens-reset", "2026-11-20T00:00:12Z"),
                    ("anthropic-ratelimit-requests-remaining", "5"),
                    ("anthropic-ratelimit-requests-reset", "2026-11-20T00:01:00Z"),
                ],
                Some(12_000),
            ),
            // A moment as a number, in seconds and in milliseconds.
            (&[("x-ratelimit-reset", "1795132830")], Some(30_000)),
            (&[("x-ratelimit-reset", "1795132830000")], Some(30_000)),
            (&[("x-ratelimit-reset", "45")], Some(45_000)),
            // The explicit one wins over resets.
            (&[("retry-after", "3"), ("x-ratelimit-reset-requests", "6m0s")], Some(3_000)),
        ] {
            assert_eq!(ask(headers, ""), ms, "{headers:?}");
        }
    }

    #[test]
    fn bodies() {
        for (body, ms) in [
            (
                r#"{"error":{"code":429,"details":[{"@type":"type.googleapis.com/google.rpc.QuotaFailure"},{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"34s"}]}}"#,
                Some(34_000),
            ),
            (r#"[{"error":{"details":[{"retryDelay":"34.074824224s"}]}}]"#, Some(34_074)),
            (
                r#"{"error":{"code":"429","message":"Rate limit is exceeded. Please retry after 6 seconds."}}"#,
                Some(6_000),
            ),
            (r#"{"error":{"message":"Limit 3, Used 3. Please try again in 6m0.5s. Visit"}}"#, Some(360_500)),
            (r#"{"error":{"message":"Please try again in 1.7s."}}"#, Some(1_700)),
            (r#"{"error":{"message":"Please try again in 20ms."}}"#, Some(1_000)),
            (r#"{"message":"retry after 2 seconds"}"#, Some(2_000)),
            (r#"{"error":{"message":"please try again in 3 apples"}}"#, None),
            (r#"{"error":{"message":"please try again in a while"}}"#, None),
            (r#"{"error":{"message":"please try again in "}}"#, None),
            (r#"{"error":{"code":429,"metadata":{"headers":{"X-RateLimit-Reset":"1795132860000"}}}}"#, Some(60_000)),
            (r#"{"error":{"metadata":{"headers":{"X-RateLimit-Reset":1795132860000}}}}"#, Some(60_000)),
            ("<html>", None),
            ("", None),
        ] {
            assert_eq!(ask(&[], body), ms, "{body}");
        }
        assert_eq!(ask(&[("retry-after", "5")], r#"{"error":{"details":[{"retryDelay":"34s"}]}}"#), Some(5_000));
    }

    proptest! {
        #[test]
        fn always_in_bounds(value in "[ -~]{0,30}", body in "\\PC{0,80}", name in 0usize..6) {
            let name = ["retry-after", "retry-after-ms", "x-ratelimit-reset", "x-ratelimit-reset-tokens-day",
                "anthropic-ratelimit-tokens-reset", "x-ratelimit-remaining"][name];
            if let Some(ms) = ask(&[(name, &value)], &body) {
                prop_assert!((1_000..=3_600_000).contains(&ms));
            }
        }

        #[test]
        fn go_durations(text in "([0-9]{0,4}[.]?[0-9]{0,2}(h|m|s|ms|us|ns|x)?){0,4}") {
            go_duration(&text);
        }
    }
}
