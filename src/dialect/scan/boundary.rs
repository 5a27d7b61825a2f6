//! The boundary of a multipart form, out of its content type, and the parameters of such headers.
//!
//! Refuses a second boundary and characters that RFC 2046 does not allow.

use super::multipart::FormFault;

/// RFC 2046, 5.1.1.
const BOUNDARY_BYTES_MAX: usize = 70;

/// The boundary of a form: what parts its parts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Boundary(Box<str>);

impl Boundary {
    /// From the value of `content-type`. One `boundary` parameter, token or quoted, made of the
    /// characters that RFC 2046 allows.
    pub fn from_content_type(value: &str) -> Result<Self, FormFault> {
        let (essence, mut rest) = value.split_once(';').ok_or(FormFault::ContentType)?;
        if !essence.trim().eq_ignore_ascii_case("multipart/form-data") {
            return Err(FormFault::ContentType);
        }
        let mut boundary = None;
        while !rest.trim().is_empty() {
            let (name, value, behind) = parameter(rest).ok_or(FormFault::ContentType)?;
            rest = behind;
            if name.eq_ignore_ascii_case("boundary") && boundary.replace(value).is_some() {
                return Err(FormFault::ContentType);
            }
        }
        let boundary = boundary.ok_or(FormFault::ContentType)?;
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(&b);
        let fits = (1..=BOUNDARY_BYTES_MAX).contains(&boundary.len()) && !boundary.ends_with(' ');
        if !fits || !boundary.bytes().all(allowed) {
            return Err(FormFault::ContentType);
        }
        Ok(Self(boundary.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// `name=value` or `name="value"` up to the next `;`: name, value with its escapes undone, the rest.
pub(super) fn parameter(text: &str) -> Option<(&str, String, &str)> {
    let (name, rest) = text.split_once('=')?;
    let name = name.trim();
    if name.is_empty() || name.contains([';', '"', ' ']) {
        return None;
    }
    let rest = rest.trim_start();
    let Some(quoted) = rest.strip_prefix('"') else {
        let (value, rest) = rest.split_once(';').unwrap_or((rest, ""));
        let value = value.trim();
        return (!value.contains(['"', ' '])).then(|| (name, value.to_owned(), rest));
    };
    let mut value = String::new();
    let mut escaped = false;
    for (at, c) in quoted.char_indices() {
        match c {
            _ if std::mem::take(&mut escaped) => value.push(c),
            '\\' => escaped = true,
            '"' => {
                let rest = quoted.get(at + 1..)?.trim_start();
                let rest = if rest.is_empty() { rest } else { rest.strip_prefix(';')? };
                return Some((name, value, rest));
            }
            c => value.push(c),
        }
    }
    None
}
