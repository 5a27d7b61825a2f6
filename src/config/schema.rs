//! JSON Schema (draft 2020-12) of the file, written by the same members that read it.
//!
//! For editors: it knows names, types, ranges and words. What needs more than one member at a time
//! (a key without a value, a route to nowhere) is `keyway check`'s.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::file::ConfigFile;
use super::read::FromConfig;

/// What stands where a type is used: the schema itself, or a `$ref` to it.
pub type SchemaRef = Value;

/// Schemas of the records met so far, by name.
#[derive(Default)]
pub struct Defs(BTreeMap<String, Value>);

/// One member of a record.
pub struct MemberSchema {
    pub name: &'static str,
    pub doc: &'static [&'static str],
    pub schema: SchemaRef,
    pub required: bool,
}

/// Schema of the whole file.
pub fn schema() -> Value {
    let mut defs = Defs::default();
    let SchemaRef::Object(mut root) = ConfigFile::schema(&mut defs) else { return Value::Null };
    root.insert("$schema".into(), json!("https://json-schema.org/draft/2020-12/schema"));
    root.insert("title".into(), json!("keyway config.json"));
    root.insert("$defs".into(), Value::Object(defs.0.into_iter().collect()));
    Value::Object(root)
}

impl Defs {
    /// A `$ref` to `name`, whose schema is made on the first use.
    pub fn named(&mut self, name: &str, make: impl FnOnce(&mut Self) -> Value) -> SchemaRef {
        if !self.0.contains_key(name) {
            // Holds the place, should the type contain itself.
            self.0.insert(name.to_owned(), Value::Null);
            let made = make(self);
            self.0.insert(name.to_owned(), made);
        }
        json!({"$ref": format!("#/$defs/{name}")})
    }
}

/// The schema of an object of which no other members are allowed.
pub fn object(doc: &[&str], members: Vec<MemberSchema>, shorthand: Option<SchemaRef>) -> Value {
    let required: Vec<&str> = members.iter().filter(|m| m.required).map(|m| m.name).collect();
    let mut properties = Map::new();
    for member in members {
        properties.insert(member.name.to_owned(), described(member.schema, member.doc));
    }
    let mut object = json!({"type": "object", "properties": properties, "additionalProperties": false});
    if let (false, Some(members)) = (required.is_empty(), object.as_object_mut()) {
        members.insert("required".into(), json!(required));
    }
    match shorthand {
        None => described(object, doc),
        Some(shorthand) => described(json!({"anyOf": [shorthand, object]}), doc),
    }
}

fn described(schema: SchemaRef, doc: &[&str]) -> SchemaRef {
    let text = doc.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ");
    match schema {
        Value::Object(mut members) if !text.is_empty() => {
            members.insert("description".into(), json!(text));
            Value::Object(members)
        }
        other => other,
    }
}
