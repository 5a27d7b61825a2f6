//! The pieces that lines are made of: escaped text, numbers, times. Appends to a byte buffer.
//!
//! Whatever a name holds, what is written here stays on its line and cannot steer a terminal:
//! control characters (C0, DEL, C1), line separators and direction marks are escaped.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::limits::LOG_VALUE_BYTES_MAX;

/// A JSON string, quotes included.
pub fn push_json(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    push_escaped(out, text);
    out.push(b'"');
}

/// What stands between the quotes of a JSON string; also the message of an event on a terminal.
pub fn push_escaped(out: &mut Vec<u8>, text: &str) {
    let text = cut(text);
    if is_all_plain(text) {
        out.extend_from_slice(text.as_bytes());
    } else {
        escape(out, text);
    }
}

/// Text for people: bare where one word, else as in JSON.
pub fn push_text(out: &mut Vec<u8>, text: &str) {
    let bare = !text.is_empty() && text.len() <= LOG_VALUE_BYTES_MAX && is_all_plain(text) && !text.contains(' ');
    if bare {
        out.extend_from_slice(text.as_bytes());
    } else {
        push_json(out, text);
    }
}

/// Decimal. The formatting machinery of `write!` costs ten times as much, and a line has ten.
pub fn push_u64(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0u8; 20];
    let mut used = 0;
    for slot in digits.iter_mut().rev() {
        *slot = digit(value);
        used += 1;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(digits.len() - used..).unwrap_or_default());
}

/// Milliseconds with three decimals.
pub fn push_millis(out: &mut Vec<u8>, span: Duration) {
    let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
    push_u64(out, micros / 1000);
    let rest = micros % 1000;
    out.extend_from_slice(&[b'.', digit(rest / 100), digit(rest / 10), digit(rest)]);
}

/// RFC 3339 in UTC with milliseconds.
pub fn push_time(out: &mut Vec<u8>, time: SystemTime) {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (y, m, d) = civil(since.as_secs() / 86_400);
    let date = [digit(y / 1000), digit(y / 100), digit(y / 10), digit(y), b'-', digit(m / 10), digit(m), b'-'];
    out.extend_from_slice(&date);
    out.extend_from_slice(&[digit(d / 10), digit(d), b'T']);
    out.extend_from_slice(&clock(since));
    out.push(b'Z');
}

/// Time of day in UTC with milliseconds.
pub fn push_time_of_day(out: &mut Vec<u8>, time: SystemTime) {
    out.extend_from_slice(&clock(time.duration_since(UNIX_EPOCH).unwrap_or_default()));
}

fn clock(since: Duration) -> [u8; 12] {
    let seconds = since.as_secs() % 86_400;
    let (h, m, s, ms) = (seconds / 3600, seconds / 60 % 60, seconds % 60, u64::from(since.subsec_millis()));
    let (colon, dot) = (b':', b'.');
    [
        digit(h / 10),
        digit(h),
        colon,
        digit(m / 10),
        digit(m),
        colon,
        digit(s / 10),
        digit(s),
        dot,
        digit(ms / 100),
        digit(ms / 10),
        digit(ms),
    ]
}

/// The last decimal digit.
fn digit(value: u64) -> u8 {
    b'0' + u8::try_from(value % 10).unwrap_or(0)
}

/// Year, month, day of a count of days since 1970-01-01 (proleptic Gregorian; Howard Hinnant's
/// `civil_from_days`, for days at and after the epoch).
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let era = days / 146_097;
    let of_era = days % 146_097;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

/// Printable ASCII that JSON takes as it is.
fn is_plain(byte: u8) -> bool {
    (0x20..0x7f).contains(&byte) && byte != b'"' && byte != b'\\'
}

/// Without an early exit: so it is a few vector instructions for a usual name.
fn is_all_plain(text: &str) -> bool {
    text.bytes().fold(true, |all, byte| all & is_plain(byte))
}

fn cut(text: &str) -> &str {
    if text.len() <= LOG_VALUE_BYTES_MAX {
        return text;
    }
    text.get(..text.floor_char_boundary(LOG_VALUE_BYTES_MAX)).unwrap_or_default()
}

fn escape(out: &mut Vec<u8>, text: &str) {
    let mut utf8 = [0u8; 4];
    for char in text.chars() {
        match char {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            c if is_unseen(c) => {
                out.extend_from_slice(b"\\u");
                let code = u32::from(c);
                for shift in [12, 8, 4, 0] {
                    let digit = char::from_digit(code >> shift & 0xf, 16).unwrap_or('0');
                    out.extend_from_slice(digit.encode_utf8(&mut utf8).as_bytes());
                }
            }
            c => out.extend_from_slice(c.encode_utf8(&mut utf8).as_bytes()),
        }
    }
}

/// Controls, and marks that break or turn a line; all lie in the basic plane.
fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use time::OffsetDateTime;
    use time::format_description::well_known::Rfc3339;

    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn spans() {
        for (micros, expected) in [(0, "0.000"), (7, "0.007"), (1_050, "1.050"), (123_456, "123.456")] {
            assert_eq!(written(|out| push_millis(out, Duration::from_micros(micros))), expected);
        }
    }

    #[test]
    fn text_for_people() {
        for (text, expected) in
            [("gpt-4o", "gpt-4o"), ("", "\"\""), ("a b", "\"a b\""), ("\u{1b}[2J", "\"\\u001b[2J\"")]
        {
            assert_eq!(written(|out| push_text(out, text)), expected);
        }
        let long = "é".repeat(LOG_VALUE_BYTES_MAX);
        assert_eq!(written(|out| push_json(out, &long)).len(), LOG_VALUE_BYTES_MAX + 2);
    }

    proptest! {
        #[test]
        fn json_strings_read_back(text in any::<String>()) {
            let json = written(|out| push_json(out, &text));
            prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
            prop_assert!(!json.chars().any(is_unseen), "nothing unseen is left");
        }

        #[test]
        fn numbers(value in any::<u64>()) {
            prop_assert_eq!(written(|out| push_u64(out, value)), value.to_string());
        }

        #[test]
        fn times(ms in 0..253_402_300_800_000u64) {
            let text = written(|out| push_time(out, UNIX_EPOCH + Duration::from_millis(ms)));
            let parsed = OffsetDateTime::parse(&text, &Rfc3339).unwrap();
            prop_assert_eq!(parsed.unix_timestamp_nanos(), i128::from(ms) * 1_000_000);
            prop_assert_eq!(text.len(), "2026-01-01T00:00:00.000Z".len());
        }
    }
}
