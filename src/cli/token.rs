//! `keyway token new`: a token, printed once, and the record that lets it in.
//!
//! Writes nowhere and keeps nothing: config.json gets the hash, whoever calls gets the token.

use std::process::ExitCode;

use clap::{Subcommand, ValueEnum};
use serde_json::json;

use super::{USAGE, complain, print};
use crate::app;
use crate::hash::token_digest;
use crate::limits::KEY_NAME_CHARS_MAX;
use crate::token::{TokenKind, mint};

/// Longest prefix: it is to be read at a glance.
const PREFIX_CHARS_MAX: usize = 16;
/// Digits of the hash in the name of a token that was given none.
const NAME_HEX_CHARS: usize = 8;

#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a token and the record to put into config.json.
    New(New),
}

#[derive(clap::Args)]
struct New {
    /// What it opens: the data plane as one project, or the management APIs.
    #[arg(value_enum)]
    kind: Kind,
    /// For logs; else made of the kind and the hash.
    #[arg(long)]
    name: Option<String>,
    /// What it begins with, instead of `mlx_sk_` or `mlx_mk_`; such a token is not checked for slips.
    #[arg(long)]
    prefix: Option<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    Project,
    Management,
}

pub fn run(args: &Args) -> ExitCode {
    let Command::New(new) = &args.command;
    let kind = match new.kind {
        Kind::Project => TokenKind::Project,
        Kind::Management => TokenKind::Management,
    };
    let (prefix, name) = match (prefix(kind, new.prefix.as_deref()), name(new.name.as_deref())) {
        (Ok(prefix), Ok(name)) => (prefix, name),
        (Err(text), _) | (_, Err(text)) => {
            complain(&text);
            return ExitCode::from(USAGE);
        }
    };
    let Some(token) = mint(prefix, app::random) else {
        complain("the machine gives no random numbers");
        return ExitCode::FAILURE;
    };
    let digest = token_digest(token.as_bytes()).to_hex();
    let (word, place) = match kind {
        TokenKind::Project => ("project", "`keys` of a project"),
        TokenKind::Management => ("management", "`management.keys`"),
    };
    let name =
        name.map_or_else(|| format!("{word}-{}", digest.get(..NAME_HEX_CHARS).unwrap_or_default()), str::to_owned);
    // By hand: the name first, as it stands in every config.
    let record = format!("{{\"name\": {}, \"hash\": {}}}", json!(name), json!(format!("blake3:{digest}")));
    print(&format!("{token}\n{record}\n"));
    complain(&format!("the token is shown this once; the record goes into {place} of config.json"));
    ExitCode::SUCCESS
}

fn prefix(kind: TokenKind, given: Option<&str>) -> Result<&str, String> {
    let Some(given) = given else { return Ok(kind.prefix()) };
    let plain = given.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    if !plain || !(1..=PREFIX_CHARS_MAX).contains(&given.len()) {
        return Err(format!("a prefix has 1 to {PREFIX_CHARS_MAX} letters, digits, `_` or `-`"));
    }
    match TokenKind::ALL.into_iter().find(|other| given.starts_with(other.prefix())) {
        Some(other) if other != kind || given != kind.prefix() => {
            Err(format!("tokens that begin with `{}` are made without --prefix", other.prefix()))
        }
        _ => Ok(given),
    }
}

fn name(given: Option<&str>) -> Result<Option<&str>, String> {
    match given {
        Some(name)
            if !(1..=KEY_NAME_CHARS_MAX).contains(&name.chars().count()) || name.chars().any(char::is_control) =>
        {
            Err(format!("a name has 1 to {KEY_NAME_CHARS_MAX} characters, none of them a control character"))
        }
        other => Ok(other),
    }
}
