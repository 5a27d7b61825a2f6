//! Finding what routing needs in a request body while its bytes pass, without parsing the rest.
//!
//! [`Scanner`] reads JSON, [`multipart::FormScanner`] reads forms. Both are pushed the chunks as they
//! come, in whatever pieces, and answer with byte spans, so that a body is edited by cutting and never
//! written anew. Both read to the end and refuse what two parsers could read in two ways: a second
//! `model` would otherwise slip past a whitelist.

mod boundary;
mod fast;
mod json;
pub mod multipart;
mod number;
mod token;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::chunks::{Edit, Span};
use crate::error::{GatewayError, Kind};

pub use json::Scanner;

/// What a JSON body says about routing. Top level only.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    pub model: Option<Field>,
    /// Where the name of that member begins.
    pub model_start: usize,
    pub stream: bool,
    pub fallbacks: Option<Fallbacks>,
    /// Value of the first `stream_options`.
    pub stream_options: Option<Span>,
    /// Just behind the opening brace: where a member can be put in.
    pub object_start: usize,
    /// Nothing but our own `fallbacks` stands in the object: a member put in needs no comma.
    pub empty_object: bool,
}

/// A text value and where it stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Field {
    /// In JSON the whole string token, quotes included; in a form the bytes of the value.
    pub span: Span,
    /// Decoded.
    pub name: String,
}

/// Our own `fallbacks` member, which no upstream may see.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fallbacks {
    /// The member with exactly one adjoining comma: what is left without it is JSON again.
    pub cut: Span,
    pub names: Vec<String>,
}

/// Why a body is refused, and where.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ScanError {
    pub fault: ScanFault,
    /// Bytes from the start of the body.
    pub at: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ScanFault {
    /// The body is empty or its first token is not `{`.
    NotAnObject,
    /// The body ends too early.
    Truncated,
    /// Not JSON at this byte.
    Syntax,
    /// Nested deeper than `BODY_DEPTH_MAX`.
    TooDeep,
    /// Something stands behind the object.
    TrailingBytes,
    /// The named member stands there twice, or in a spelling that some parsers take for it.
    Duplicate(Member),
    /// The named member has a value of another type.
    WrongType(Member),
    /// The text of the named member is no text, or is longer than a model name may be.
    BadText(Member),
    /// More entries than `FALLBACKS_MAX`.
    TooManyFallbacks,
}

/// The members that we read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Member {
    Model,
    Stream,
    Fallbacks,
}

impl Member {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Stream => "stream",
            Self::Fallbacks => "fallbacks",
        }
    }
}

impl ScanFault {
    /// For the caller; holds nothing of the body.
    pub fn message(self) -> String {
        match self {
            Self::NotAnObject => "the body is not a JSON object".into(),
            Self::Truncated => "the body ends before its JSON does".into(),
            Self::Syntax => "the body is not valid JSON".into(),
            Self::TooDeep => "the body is nested too deeply".into(),
            Self::TrailingBytes => "something stands behind the JSON object".into(),
            Self::Duplicate(member) => format!("`{}` stands there twice", member.as_str()),
            Self::WrongType(Member::Model) => "`model` is not a string".into(),
            Self::WrongType(Member::Stream) => "`stream` is neither true nor false".into(),
            Self::WrongType(Member::Fallbacks) => "`fallbacks` is not a list of strings".into(),
            Self::BadText(member) => format!("`{}` is too long or not text", member.as_str()),
            Self::TooManyFallbacks => "`fallbacks` has too many entries".into(),
        }
    }

    /// The member at fault.
    pub fn member(self) -> Option<Member> {
        match self {
            Self::Duplicate(member) | Self::WrongType(member) | Self::BadText(member) => Some(member),
            Self::TooManyFallbacks => Some(Member::Fallbacks),
            Self::NotAnObject | Self::Truncated | Self::Syntax | Self::TooDeep | Self::TrailingBytes => None,
        }
    }

    /// As in `error.code`.
    pub fn code(self) -> &'static str {
        match self.member() {
            Some(_) => "invalid_value",
            None => "invalid_json",
        }
    }
}

impl From<ScanError> for GatewayError {
    fn from(error: ScanError) -> Self {
        let message = format!("{} (byte {})", error.fault.message(), error.at);
        let refusal = Self::caller(Kind::BadRequest, error.fault.code(), message);
        match error.fault.member() {
            Some(member) => refusal.param(member.as_str()),
            None => refusal,
        }
    }
}

impl Found {
    /// The edits that make the body the upstream's: its model name in place of the caller's, put in
    /// where there was none, and our own `fallbacks` cut out. A name that is already right is left
    /// as it was spelled.
    pub fn edits(&self, model: Option<&str>) -> SmallVec<[Edit; 2]> {
        let mut edits: SmallVec<[Edit; 2]> = SmallVec::new();
        match (&self.model, model) {
            (Some(field), Some(name)) if field.name != name => {
                edits.push(Edit { span: field.span.clone(), with: json_string(name) });
            }
            (None, Some(name)) => {
                let at = self.object_start;
                edits.push(Edit { span: at..at, with: member(name, self.empty_object) });
            }
            _ => {}
        }
        self.with_cuts(edits)
    }

    /// The edits where the upstream wants another member in place of the model's; `member` is its text,
    /// name and value.
    pub fn edits_instead(&self, member: &str) -> SmallVec<[Edit; 2]> {
        let mut edits: SmallVec<[Edit; 2]> = SmallVec::new();
        if let Some(field) = &self.model {
            edits
                .push(Edit { span: self.model_start..field.span.end, with: Bytes::copy_from_slice(member.as_bytes()) });
        }
        self.with_cuts(edits)
    }

    fn with_cuts(&self, mut edits: SmallVec<[Edit; 2]>) -> SmallVec<[Edit; 2]> {
        if let Some(fallbacks) = &self.fallbacks {
            edits.push(Edit { span: fallbacks.cut.clone(), with: Bytes::new() });
        }
        edits.sort_by_key(|edit| edit.span.start);
        edits
    }
}

/// `text` as a JSON string token.
pub fn json_string(text: &str) -> Bytes {
    let mut out = Vec::with_capacity(text.len() + 2);
    write_json_string(text, &mut out);
    Bytes::from(out)
}

/// Appends `text` as a JSON string token.
pub fn write_json_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for c in text.chars() {
        match c {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            c if c < ' ' => out.extend_from_slice(format!("\\u{:04x}", u32::from(c)).as_bytes()),
            c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out.push(b'"');
}

/// `"model":"name"`, with the comma that parts it from the members behind it.
fn member(name: &str, alone: bool) -> Bytes {
    let mut out = b"\"model\":".to_vec();
    write_json_string(name, &mut out);
    if !alone {
        out.push(b',');
    }
    Bytes::from(out)
}

#[cfg(test)]
mod tests;
