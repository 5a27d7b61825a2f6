//! The README's walk through git: its commands are run as they stand, and must print what it shows.
//!
//! What differs from run to run (ids, hashes, times, the sealed text) is compared by its shape. The
//! port is chosen by the kernel here. Commands are bash's, as a reader would type them.

use std::path::Path;
use std::process::Command;

use crate::support::gateway::launch;

const README: &str = include_str!("../../README.md");
const SECTION: &str = "## Your file is the database";
const ADDRESS: &str = "127.0.0.1:8080";

/// The first fenced block of a kind in a text, and what follows it.
fn block<'t>(text: &'t str, kind: &str) -> (&'t str, &'t str) {
    let open = format!("```{kind}\n");
    let (_, rest) = text.split_once(&open).unwrap_or_else(|| panic!("no {kind} block"));
    rest.split_once("```\n").unwrap()
}

/// Commands, continued lines joined, each with what is shown below it.
fn steps(console: &str) -> Vec<(String, String)> {
    let mut steps: Vec<(String, String)> = Vec::new();
    let mut open = false;
    for line in console.lines() {
        match (line.strip_prefix("$ "), steps.last_mut()) {
            (Some(command), _) => steps.push((command.to_owned(), String::new())),
            (None, Some((command, _))) if open => {
                command.push('\n');
                command.push_str(line);
            }
            (None, Some((_, output))) => {
                output.push_str(line);
                output.push('\n');
            }
            (None, None) => panic!("output before any command: {line}"),
        }
        open = line.ends_with('\\');
    }
    steps
}

/// Words of seven characters and more that hold a digit become `*`, other digits `0`: hashes, ids,
/// sealed texts and times keep their place and lose their value. A generation keeps its number.
fn shape(output: &str) -> String {
    let mut shaped = String::new();
    for line in output.lines() {
        if line.starts_with("\"generation\"") {
            shaped.push_str(line);
        } else {
            let is_word = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            let mut rest = line;
            while let Some(first) = rest.chars().next() {
                let end = rest.find(|c| is_word(c) != is_word(first)).unwrap_or(rest.len());
                let (word, behind) = rest.split_at(end);
                let varies = is_word(first) && word.len() >= 7 && word.contains(|c: char| c.is_ascii_digit());
                match varies {
                    true => shaped.push('*'),
                    false => shaped.push_str(&word.replace(|c: char| c.is_ascii_digit(), "0")),
                }
                rest = behind;
            }
        }
        shaped.push('\n');
    }
    shaped
}

/// The provider on this machine: a new key is tried out, and no test calls anybody outside.
fn at_home(text: &str) -> String {
    text.replace("\"openai\": {\n", "\"openai\": {\"network_config\": {\"base_url\": \"http://127.0.0.1:9\"},\n")
}

/// Runs all commands in one shell, with a mark behind the output of each.
fn run(dir: &Path, commands: &[String]) -> Vec<String> {
    const MARK: &str = "-- end of step --";
    let identity = "export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b \
                    GIT_CONFIG_GLOBAL=/dev/null GIT_PAGER=cat\n";
    let script: String = commands.iter().map(|command| format!("{command}\necho '{MARK}'\n")).collect();
    let output = Command::new("bash").args(["-c", &format!("{identity}{script}")]).current_dir(dir).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.is_empty(), "{errors}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.split(&format!("{MARK}\n")).map(str::to_owned).take(commands.len()).collect()
}

#[test]
fn the_walk_through_git_is_what_happens() {
    let (_, section) = README.split_once(SECTION).unwrap();
    let (config, rest) = block(section, "jsonc");
    let (console, _) = block(rest, "console");
    let gateway = launch(at_home(config).replace(ADDRESS, "127.0.0.1:0"))
        .env("OPENAI_API_KEY", "sk-a-0123456789abcdef")
        .env("OPENAI_SEARCH_KEY", "sk-b-0123456789abcdef")
        .start();
    let made = Command::new("git").args(["init", "-q"]).current_dir(gateway.dir()).status().unwrap();
    assert!(made.success());

    let address = gateway.base().strip_prefix("http://").unwrap();
    let steps = steps(console);
    assert!(steps.len() > 8, "{} steps", steps.len());
    let commands: Vec<String> = steps.iter().map(|(command, _)| command.replace(ADDRESS, address)).collect();
    for ((command, shown), printed) in steps.iter().zip(run(gateway.dir(), &commands)) {
        assert_eq!(shape(&printed), shape(&at_home(shown)), "$ {command}\nprinted:\n{printed}");
    }
    println!("{} commands of the README ran as shown", steps.len());
}
