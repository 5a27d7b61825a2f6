//! A string that may be a secret, in every form that CONTRACT 2.2 names.
//!
//! Remembers which form was written and resolves nothing: a reference stays a reference until
//! `snapshot/compile` asks its `Resolve`. Refuses what has the shape of a mask: nobody's secret
//! looks like that, and a mask that is stored is a secret that is lost.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::json;

use super::problem::{Code, Problems};
use super::read::{FromConfig, Node, plain};
use super::record::record;
use super::scalar::word;
use super::schema::{Defs, SchemaRef};
use super::syntax::{Kind, Value};
use crate::hash::Canon;
use crate::secret::{Secret, is_mask_shaped};

/// How a secret, URL or credential is written in the file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SecretRef {
    /// `"literal"` or `{"value": "literal"}`.
    Literal(Secret),
    /// `"env.NAME"` and its object forms; holds `NAME`.
    Env(String),
    /// `{"file": "path"}`, as written; relative paths count from the config's directory.
    File(PathBuf),
    /// `sealed:v1:…`, whole.
    Sealed(String),
}

const ENV_PREFIX: &str = "env.";
const VAULT_PREFIX: &str = "vault.";
const SEALED_PREFIX: &str = "sealed:";
const SEALED_V1_PREFIX: &str = "sealed:v1:";

word! {
    RefType: "plain_text" | "env" | "vault"
}

record! {
    /// The object forms of a secret: the two generations of Bifrost's, and files.
    #[derive(Default)]
    struct SecretObject {
        /// The literal, `env.NAME`, or a sealed literal. Ignored beside a reference.
        pub value: Option<String>,
        /// `NAME` or `env.NAME`.
        pub env_var: Option<String>,
        /// Goes with `env_var`.
        pub from_env: Option<bool>,
        /// A file that holds the secret and nothing else; relative to the config's directory.
        pub file: Option<String>,
        /// `env.NAME`.
        named "ref" pub reference: Option<String>,
        /// What `ref` is.
        named "type" pub kind: Option<String> as RefType,
    }
}

impl FromConfig for SecretRef {
    fn read(node: Node<'_>, problems: &mut Problems) -> Option<Self> {
        match &node.value.kind {
            Kind::Text(text) => from_text(text, node, problems),
            Kind::Object(_) => {
                let before = problems.0.len();
                let object = SecretObject::read(node, problems)?;
                // A form that is half understood is not guessed at.
                if problems.0.len() == before { from_object(object, node, problems) } else { None }
            }
            _ => node.wrong_type("a string, or an object such as {\"env_var\": …} or {\"file\": …}", problems),
        }
    }

    fn schema(defs: &mut Defs) -> SchemaRef {
        let object = SecretObject::schema(defs);
        defs.named("Secret", |_| {
            json!({
                "description": "A secret, URL or credential: \"env.NAME\" (preferred), a literal, or an object.",
                "anyOf": [{"type": "string"}, object],
            })
        })
    }

    fn canon(value: &Value) -> Canon {
        // Problems were reported when it was read.
        match Self::read(Node::root(value), &mut Problems::default()) {
            None => plain(value),
            // The text as it stands there: no need to open the secret for it.
            Some(Self::Literal(_)) => plain(value.member("value").map_or(value, |m| &m.value)),
            Some(Self::Sealed(sealed)) => Canon::Text(sealed),
            Some(Self::Env(name)) => reference("env_var", name),
            Some(Self::File(path)) => reference("file", path.to_string_lossy().into_owned()),
        }
    }

    /// `""` and an object of empty members are how Bifrost writes a secret that is not set.
    fn is_unset(value: &Value) -> bool {
        match &value.kind {
            Kind::Null => true,
            Kind::Text(text) => text.is_empty(),
            Kind::Object(members) => members.iter().all(|m| match &m.value.kind {
                Kind::Null => SecretObject::MEMBERS.contains(&&*m.name),
                Kind::Bool(false) => &*m.name == "from_env",
                Kind::Text(text) if text.is_empty() => {
                    SecretObject::MEMBERS.contains(&&*m.name) && &*m.name != "from_env"
                }
                Kind::Text(text) => &*m.name == "type" && &**text == "plain_text",
                _ => false,
            }),
            _ => false,
        }
    }
}

fn reference(kind: &str, name: String) -> Canon {
    Canon::Object(BTreeMap::from([(kind.to_owned(), Canon::Text(name))]))
}

fn from_text(text: &str, node: Node<'_>, problems: &mut Problems) -> Option<SecretRef> {
    if text.is_empty() {
        return node.bad_value("empty", problems);
    }
    if text.starts_with(ENV_PREFIX) {
        return env(text, node, problems);
    }
    if text.starts_with(VAULT_PREFIX) {
        return vault(node, problems);
    }
    if let Some(body) = text.strip_prefix(SEALED_V1_PREFIX)
        && !body.is_empty()
    {
        return Some(SecretRef::Sealed(text.to_owned()));
    }
    if text.starts_with(SEALED_PREFIX) {
        return node.bad_value("sealed in a way that this release does not know", problems);
    }
    if is_mask_shaped(text) {
        problems
            .error(Code::BadValue, node.pointer(), "this is a mask, not a secret")
            .hint("an answer of an API was pasted here; write the secret itself, or \"env.NAME\"");
        return None;
    }
    Some(SecretRef::Literal(Secret::new(text)))
}

fn from_object(object: SecretObject, node: Node<'_>, problems: &mut Problems) -> Option<SecretRef> {
    let set = |text: Option<String>| text.filter(|t| !t.is_empty());
    let (value, env_var, file) = (set(object.value), set(object.env_var), set(object.file));
    let (reference, kind) = (set(object.reference), object.kind.as_deref());
    if kind == Some("vault") || reference.as_deref().is_some_and(|r| r.starts_with(VAULT_PREFIX)) {
        return vault(node, problems);
    }
    let is_env = env_var.is_some() || object.from_env == Some(true) || kind == Some("env") || reference.is_some();
    let excluded = match (&file, &env_var, &reference) {
        (Some(_), _, _) if is_env => Some("a secret is read from `file` or from a variable, not from both"),
        (_, Some(_), Some(_)) => Some("`env_var` and `ref` are two spellings of one thing; write one"),
        (_, Some(_), _) if object.from_env == Some(false) => Some("`env_var` is set, but `from_env` says false"),
        (_, _, Some(_)) if kind == Some("plain_text") => Some("`ref` is set, but `type` says plain_text"),
        _ => None,
    };
    if let Some(message) = excluded {
        problems.error(Code::Conflict, node.pointer(), message);
        return None;
    }
    if let Some(path) = file {
        return Some(SecretRef::File(path.into()));
    }
    if let Some(name) = env_var {
        return env(&name, node, problems);
    }
    if let Some(name) = reference {
        if kind.is_none() && !name.starts_with(ENV_PREFIX) {
            return node.bad_value("`ref` is \"env.NAME\"", problems);
        }
        return env(&name, node, problems);
    }
    match value {
        Some(text) if !is_env || text.starts_with(ENV_PREFIX) => from_text(&text, node, problems),
        _ if is_env => {
            problems.error(Code::MissingMember, node.pointer(), "says that it is a variable, but not which: `env_var`");
            None
        }
        _ => node.bad_value("empty", problems),
    }
}

/// With or without the prefix.
fn env(text: &str, node: Node<'_>, problems: &mut Problems) -> Option<SecretRef> {
    let name = text.strip_prefix(ENV_PREFIX).unwrap_or(text);
    let starts = name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    if starts && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Some(SecretRef::Env(name.to_owned()));
    }
    node.bad_value("\"env.\" is followed by the name of a variable: letters, digits and _", problems)
}

fn vault(node: Node<'_>, problems: &mut Problems) -> Option<SecretRef> {
    problems
        .error(Code::NotSupportedYet, node.pointer(), "references to a vault are not there yet")
        .hint("let the vault's agent write a file, and name it: {\"file\": \"/run/secrets/…\"}");
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::syntax::Tree;
    use crate::hash::ConfigHash;

    fn literal(text: &str) -> Result<Option<SecretRef>, Code> {
        Ok(Some(SecretRef::Literal(Secret::new(text))))
    }

    fn env(name: &str) -> Result<Option<SecretRef>, Code> {
        Ok(Some(SecretRef::Env(name.to_owned())))
    }

    fn read(json: &str) -> Result<Option<SecretRef>, Code> {
        let tree = Tree::parse(json).unwrap();
        let mut problems = Problems::default();
        let read = Option::<SecretRef>::read(Node::root(tree.root()), &mut problems);
        match problems.0.first() {
            Some(problem) => Err(problem.code),
            None => Ok(read.unwrap()),
        }
    }

    /// bifrost.md 11.1 as far as parsing goes, CONTRACT 2.2, and what is refused.
    #[test]
    fn forms() {
        let mask = format!("\"sk-p{}mnop\"", "*".repeat(24));
        for (json, expected) in [
            (r#""sk-1""#, literal("sk-1")),
            (r#""env.KW_A""#, env("KW_A")),
            (r#"{"env_var":"env.KW_A","from_env":true}"#, env("KW_A")),
            (r#"{"env_var":"KW_A","from_env":true}"#, env("KW_A")),
            (r#"{"env_var":"KW_A"}"#, env("KW_A")),
            (r#"{"value":"stale","env_var":"env.KW_A","from_env":true}"#, env("KW_A")),
            (r#"{"value":"********","env_var":"env.KW_A","from_env":true}"#, env("KW_A")),
            (r#"{"value":"env.KW_A","env_var":"env.KW_A","from_env":true}"#, env("KW_A")),
            (r#"{"value":"env.KW_A","env_var":"","from_env":true}"#, env("KW_A")),
            (r#"{"value":"sk-1","env_var":"","from_env":false}"#, literal("sk-1")),
            (r#"{"value":"sk-1"}"#, literal("sk-1")),
            (r#"{"value":"env.KW_A"}"#, env("KW_A")),
            (r#"{"ref":"env.KW_A","type":"env"}"#, env("KW_A")),
            (r#"{"ref":"KW_A","type":"env"}"#, env("KW_A")),
            (r#"{"ref":"env.KW_A"}"#, env("KW_A")),
            (r#"{"value":"sk-1","type":"plain_text"}"#, literal("sk-1")),
            (r#"{"value":"","ref":"env.KW_A","type":"env"}"#, env("KW_A")),
            (r#""env.KW_MISSING""#, env("KW_MISSING")),
            (r#""environment""#, literal("environment")),
            (r#"{"file":"/run/secrets/x"}"#, Ok(Some(SecretRef::File("/run/secrets/x".into())))),
            (r#"{"value":"","env_var":"","from_env":false,"file":"x"}"#, Ok(Some(SecretRef::File("x".into())))),
            (r#""sealed:v1:k1:AAAA""#, Ok(Some(SecretRef::Sealed("sealed:v1:k1:AAAA".into())))),
            (r#"{"value":"sealed:v1:k1:AAAA"}"#, Ok(Some(SecretRef::Sealed("sealed:v1:k1:AAAA".into())))),
            ("null", Ok(None)),
            (r#""""#, Ok(None)),
            ("{}", Ok(None)),
            (r#"{"value":"","env_var":"","from_env":false}"#, Ok(None)),
            (r#"{"value":null}"#, Ok(None)),
            (r#"{"value":"","type":"plain_text"}"#, Ok(None)),
            (r#""env.""#, Err(Code::BadValue)),
            (r#""env.1A""#, Err(Code::BadValue)),
            (r#""env.KW A""#, Err(Code::BadValue)),
            (r#"{"env_var":"env.","from_env":true}"#, Err(Code::BadValue)),
            (r#"{"env_var":"","from_env":true}"#, Err(Code::MissingMember)),
            (r#"{"value":"sk-1","from_env":true}"#, Err(Code::MissingMember)),
            (r#"{"type":"env"}"#, Err(Code::MissingMember)),
            (r#"{"env_var":"KW_A","from_env":false}"#, Err(Code::Conflict)),
            (r#"{"env_var":"KW_A","file":"x"}"#, Err(Code::Conflict)),
            (r#"{"env_var":"KW_A","ref":"env.KW_A"}"#, Err(Code::Conflict)),
            (r#"{"ref":"env.KW_A","type":"plain_text"}"#, Err(Code::Conflict)),
            (r#"{"ref":"KW_A"}"#, Err(Code::BadValue)),
            (r#"{"ref":"vault.a/b","type":"vault"}"#, Err(Code::NotSupportedYet)),
            (r#"{"ref":"vault.a/b"}"#, Err(Code::NotSupportedYet)),
            (r#""vault.a/b""#, Err(Code::NotSupportedYet)),
            (r#"{"value":"sk-1","type":"secret"}"#, Err(Code::BadValue)),
            (r#"{"valeu":"sk-1"}"#, Err(Code::UnknownMember)),
            (r#"{"value":"sk-1","extra":1}"#, Err(Code::UnknownMember)),
            (r#"{"extra":""}"#, Err(Code::UnknownMember)),
            (r#"{"value":1}"#, Err(Code::WrongType)),
            (r#"{"value":false}"#, Err(Code::WrongType)),
            (r#"{"value":"","env_var":false,"from_env":false}"#, Err(Code::WrongType)),
            (r#"{"value":"","from_env":""}"#, Err(Code::WrongType)),
            (r#"{"type":"service_account","private_key":"x"}"#, Err(Code::UnknownMember)),
            (r#""sealed:v2:x""#, Err(Code::BadValue)),
            (r#""sealed:v1:""#, Err(Code::BadValue)),
            (r#""********""#, Err(Code::BadValue)),
            (r#""<REDACTED>""#, Err(Code::BadValue)),
            (r#"{"value":"****"}"#, Err(Code::BadValue)),
            (mask.as_str(), Err(Code::BadValue)),
            ("7", Err(Code::WrongType)),
            ("[]", Err(Code::WrongType)),
            ("true", Err(Code::WrongType)),
        ] {
            assert_eq!(read(json), expected, "{json}");
        }
    }

    #[test]
    fn one_meaning_has_one_hash() {
        let hash = |json| ConfigHash::of(&Option::<SecretRef>::canon(Tree::parse(json).unwrap().root()));
        let env = hash(r#""env.A""#);
        for same in [r#"{"env_var":"env.A","from_env":true}"#, r#"{"env_var":"A","value":"old"}"#, r#"{"ref":"env.A"}"#]
        {
            assert_eq!(hash(same), env, "{same}");
        }
        assert_eq!(hash(r#""sk""#), hash(r#"{"value":"sk"}"#));
        assert_eq!(hash(r#""""#), hash("null"));
        let others = [r#""env.B""#, r#""A""#, r#"{"file":"A"}"#, r#""sealed:v1:A""#, "null"];
        for other in others {
            assert_ne!(hash(other), env, "{other}");
        }
    }
}
