//! `keyway route`: which keys could serve a model, in which order and with which expected shares,
//! and which not and why.
//!
//! Explains the file as this environment would run it. Asks no provider and no running gateway,
//! hence knows nothing of keys that are cooling there, nor of models that were listed to it.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::{Format, USAGE, complain, config_path, not_good, print};
use crate::app;
use crate::dispatch::{KeyReason, Reason, explain};
use crate::id::ModelName;
use crate::project::Grant;
use crate::snapshot::Snapshot;
use crate::ticks::Ticks;

#[derive(clap::Args)]
pub struct Args {
    /// As a caller would write it: `provider/model`, `@route`, or a bare name.
    model: String,
    /// As this project, whose `models` may shut targets out.
    #[arg(long, value_name = "ID")]
    project: Option<String>,
    /// The config; else KEYWAY_CONFIG, else the one in this directory.
    #[arg(long, env = "KEYWAY_CONFIG", value_name = "PATH")]
    config: Option<PathBuf>,
    #[arg(long, value_enum, default_value = "human")]
    format: Format,
}

/// What there is to say of one model.
struct Answer {
    keys: Vec<KeyReason>,
    /// Why there is nobody at all, or why not all that the name stands for.
    note: Option<Note>,
}

struct Note {
    code: &'static str,
    message: String,
}

pub fn run(args: &Args) -> ExitCode {
    let snapshot = match snapshot(args) {
        Ok(snapshot) => snapshot,
        Err(text) => {
            complain(&text);
            return ExitCode::from(USAGE);
        }
    };
    let grant = match grant(args, &snapshot) {
        Ok(grant) => grant,
        Err(text) => {
            complain(&text);
            return ExitCode::from(USAGE);
        }
    };
    let answer = ask(&args.model, grant, &snapshot);
    let served = answer.keys.iter().any(|key| key.eligible);
    match args.format {
        Format::Json => print(&format!("{}\n", answer.to_json(args, served))),
        Format::Human => print(&answer.to_text()),
    }
    if served { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn snapshot(args: &Args) -> Result<Snapshot, String> {
    let path = config_path(args.config.as_ref())?;
    let name = path.display().to_string();
    let (compiled, problems) = app::compile_file(&path).map_err(|error| format!("{name}: {error}"))?;
    compiled.map(|compiled| compiled.snapshot).ok_or_else(|| not_good(&name, &problems))
}

fn grant<'s>(args: &Args, snapshot: &'s Snapshot) -> Result<Grant<'s>, String> {
    let Some(id) = &args.project else { return Ok(Grant::All) };
    let projects = snapshot.projects.as_deref().unwrap_or_default();
    let found = projects.iter().find(|project| project.id.as_str() == id);
    found.map(Grant::Project).ok_or_else(|| "the config has no project of that id".to_owned())
}

/// As a chat: what a bare name means may differ on a provider's own paths.
fn ask(model: &str, grant: Grant<'_>, snapshot: &Snapshot) -> Answer {
    let mut plan = match explain::about(snapshot, ModelName::new(model)) {
        Ok(plan) => plan,
        Err(why) => {
            let public = why.to_error().public;
            return Answer { keys: Vec::new(), note: Some(Note { code: public.code, message: public.message }) };
        }
    };
    let targets = plan.targets().count();
    let any_left = plan.keep(|target, route| {
        let provider = snapshot.providers.get(target.provider as usize).map_or("", |provider| provider.name.as_str());
        let model = target.model.as_ref().map_or("", ModelName::as_str);
        grant.admits(provider, model, route.map(ModelName::as_str))
    });
    let shut_out = targets - plan.targets().count();
    let note = (shut_out > 0).then(|| Note {
        code: "model_not_allowed",
        message: if any_left {
            format!("{shut_out} of {targets} targets are not in the project's models")
        } else {
            "the project may not use that model".to_owned()
        },
    });
    Answer { keys: plan.explain(snapshot, Ticks::default()), note }
}

impl Answer {
    fn to_json(&self, args: &Args, served: bool) -> Value {
        json!({
            "model": args.model, "project": args.project, "served": served,
            "code": self.note.as_ref().map(|note| note.code), "message": self.note.as_ref().map(|note| &note.message),
            "keys": self.keys.iter().map(KeyReason::to_json).collect::<Value>(),
        })
    }

    fn to_text(&self) -> String {
        let columns = |key: &KeyReason| {
            let turn = match &key.reason {
                Reason::First => format!("{:.1} %", key.share * 100.0),
                Reason::Later | Reason::Drained => "later".to_owned(),
                Reason::NotPinned | Reason::Ineligible(_) | Reason::Barred { .. } => "no".to_owned(),
            };
            let model = key.upstream_model.as_ref().map_or("", |model| model.as_str());
            [turn, format!("{}/{}", key.provider, key.name), model.to_owned(), key.reason.text()]
        };
        let rows: Vec<[String; 4]> = self.keys.iter().map(columns).collect();
        let mut width = [0; 3];
        for row in &rows {
            for (width, cell) in width.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let [turn, key, model] = width;
        let line = |[a, b, c, d]: &[String; 4]| format!("{a:>turn$}  {b:key$}  {c:model$}  {d}\n");
        let note = self.note.as_ref().map(|note| format!("{}\n", note.message)).unwrap_or_default();
        rows.iter().map(line).collect::<String>() + &note
    }
}
