//! Configs of other gateways to a config.json of ours, with a report of all that was dropped or
//! changed on the way.
//!
//! Text in, text out. Whether a result is any good is asked of the compiler, which comes in as an
//! argument. References stay references; literals stay literals and are reported; nothing is
//! resolved, verified or guessed.

mod bifrost;
mod findings;
mod litellm;
mod out;
mod settle;
mod source;
mod yaml;

pub use findings::{Finding, FindingKind, Findings};
pub use source::Place;

use crate::config::Problems;
use source::Source;

/// What the compiler says of a text, as a dry run.
pub struct Judgement {
    pub problems: Problems,
    /// Pointers of credentials that stand in clear.
    pub literals: Vec<String>,
}

pub type Judge<'j> = &'j dyn Fn(&str) -> Judgement;

/// What came of a file.
pub struct Imported {
    /// `None`: nothing in it can serve here.
    pub config: Option<String>,
    pub findings: Findings,
}

/// Not a file of the kind that was named. Says where, never what stands there.
#[derive(Debug)]
pub enum Unreadable {
    /// Not JSON.
    Json(Problems),
    /// Not YAML, or not a mapping.
    At { line: u32, column: u32, message: &'static str },
}

/// A config.json of Bifrost, of any generation.
pub fn bifrost(text: &str, judge: Judge<'_>) -> Result<Imported, Unreadable> {
    let source = Source::json(text).map_err(Unreadable::Json)?;
    if !source.root().is_object() {
        return Err(Unreadable::At { line: 1, column: 1, message: "a config of Bifrost is an object" });
    }
    let mut findings = Findings::default();
    let out = bifrost::convert(&source.root(), &mut findings);
    let config = settle::settle(out, &mut findings, judge);
    Ok(Imported { config, findings })
}

/// A config.yaml of LiteLLM's proxy.
pub fn litellm(text: &str, judge: Judge<'_>) -> Result<Imported, Unreadable> {
    let unreadable = |error: yaml::NotYaml| {
        let yaml::NotYaml { line, column, message } = error;
        Unreadable::At { line, column, message }
    };
    let yaml = yaml::read(text).map_err(unreadable)?;
    if !yaml.root.root().is_object() {
        return Err(Unreadable::At { line: 1, column: 1, message: "a config of LiteLLM is a mapping" });
    }
    let mut findings = Findings::default();
    for (line, column) in yaml.twice {
        let place = Place { pointer: String::new(), line, column };
        findings.add(FindingKind::Changed, place, "this member is written twice; the last one counts");
    }
    let out = litellm::convert(&yaml.root.root(), &mut findings);
    let config = settle::settle(out, &mut findings, judge);
    Ok(Imported { config, findings })
}
