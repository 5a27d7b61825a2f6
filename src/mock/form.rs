//! `multipart/form-data`, read whole: what the mock needs of a form.
//!
//! The gateway has its own push reader; this one shares nothing with it, so that one checks the
//! other.

use bytes::Bytes;
use memchr::memmem;

/// One part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub name: String,
    pub filename: Option<String>,
    pub content: Bytes,
}

/// The parts in order; `None` where it is no whole form.
pub fn parse(content_type: &str, body: &Bytes) -> Option<Vec<Part>> {
    let (kind, parameters) = content_type.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let boundary = parameter(parameters, "boundary")?;
    // A leading CRLF belongs to the delimiter, but the first one may begin the body.
    let text = [b"\r\n".as_slice(), body].concat();
    let body = Bytes::from(text);
    let delimiter = format!("\r\n--{boundary}");
    let mut parts = Vec::new();
    let mut starts = memmem::find_iter(&body, delimiter.as_bytes()).peekable();
    while let Some(start) = starts.next() {
        let from = start + delimiter.len();
        if body.get(from..from + 2) == Some(b"--".as_slice()) {
            return Some(parts);
        }
        let to = *starts.peek()?;
        parts.push(part(body.slice(from..to))?);
    }
    None
}

fn part(bytes: Bytes) -> Option<Part> {
    let end = memmem::find(&bytes, b"\r\n\r\n")?;
    let head = std::str::from_utf8(bytes.get(..end)?).ok()?;
    let disposition = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.trim().eq_ignore_ascii_case("content-disposition").then_some(value)
    })?;
    let (_, parameters) = disposition.split_once(';')?;
    Some(Part {
        name: parameter(parameters, "name")?,
        filename: parameter(parameters, "filename"),
        content: bytes.slice(end + 4..),
    })
}

/// Value of `wanted` in `a=b; c="d"`.
fn parameter(parameters: &str, wanted: &str) -> Option<String> {
    parameters.split(';').find_map(|one| {
        let (name, value) = one.split_once('=')?;
        name.trim().eq_ignore_ascii_case(wanted).then(|| value.trim().trim_matches('"').to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form() {
        let body = Bytes::from_static(
            b"--x\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper\r\n--x\r\n\
              content-disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\ncontent-type: audio/wav\r\n\r\n\
              a\r\nb--x\r\n--x--\r\n",
        );
        let parts = parse("multipart/form-data; boundary=\"x\"", &body).unwrap();
        assert_eq!(parts.len(), 2);
        assert_eq!((parts[0].name.as_str(), &parts[0].content[..]), ("model", b"whisper".as_slice()));
        assert_eq!(parts[1].filename.as_deref(), Some("a.wav"));
        assert_eq!(&parts[1].content[..], b"a\r\nb--x");
        for torn in [&body[..body.len() - 6], &body[..20], b""] {
            assert_eq!(parse("multipart/form-data; boundary=x", &Bytes::copy_from_slice(torn)), None);
        }
        assert_eq!(parse("application/json", &body), None);
    }
}
