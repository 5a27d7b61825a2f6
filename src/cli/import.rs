//! `keyway import`: a config of another gateway as a config.json, and what was lost on the way.
//!
//! The config goes to standard output, the report to standard error. Writes no file.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;

use super::{USAGE, complain, print};
use crate::app;
use crate::import::{self, FindingKind, Imported, Judgement, Unreadable};

#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    from: From,
}

#[derive(Subcommand)]
enum From {
    /// A config.json of Bifrost.
    Bifrost { file: PathBuf },
    /// A config.yaml of LiteLLM's proxy.
    Litellm { file: PathBuf },
}

pub fn run(args: &Args) -> ExitCode {
    let file = match &args.from {
        From::Bifrost { file } | From::Litellm { file } => file,
    };
    let path = file.display().to_string();
    let imported = match read(&args.from, file, &path) {
        Ok(imported) => imported,
        Err(text) => {
            complain(&text);
            return ExitCode::from(USAGE);
        }
    };
    eprint!("{}", imported.findings.render(&path));
    let count = |kind| imported.findings.count(kind);
    let (dropped, changed) = (count(FindingKind::Dropped), count(FindingKind::Changed));
    let Some(config) = imported.config else {
        complain(&format!("{path}: nothing in it can serve here; {dropped} dropped"));
        return ExitCode::FAILURE;
    };
    print(&config);
    let clear = count(FindingKind::InClear);
    complain(&format!("{path}: imported; {dropped} dropped, {changed} changed, {clear} in clear"));
    ExitCode::SUCCESS
}

fn read(from: &From, file: &Path, path: &str) -> Result<Imported, String> {
    let text = app::read_text(file).map_err(|error| format!("{path}: {error}"))?;
    let imported = match from {
        From::Bifrost { .. } => import::bifrost(&text, &judge),
        From::Litellm { .. } => import::litellm(&text, &judge),
    };
    imported.map_err(|error| match error {
        Unreadable::Json(problems) => format!("{path} is not JSON\n{}", problems.render(path).trim_end()),
        Unreadable::At { line, column, message } => format!("{path}:{line}:{column}: {message}"),
    })
}

/// The compiler's word, as a dry run: an import looks at no variable and no other file.
fn judge(text: &str) -> Judgement {
    let (compiled, problems) = app::dry_run(text);
    let literals = compiled.map(|it| crate::snapshot::plaintext_literals(&it.document.file)).unwrap_or_default();
    Judgement { problems, literals }
}
