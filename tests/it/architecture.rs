//! The structure itself, tested: who imports whom, how long a file may be, who may expose a secret.
//!
//! Reads the sources as text. It knows no names but those of ARCHITECTURE.md, takes unit tests out
//! before it looks (they may know anything), and reports every breach at once with file and line.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use crate::support::source::{self, Source};

/// One row of the rank table: a module and what it may import beyond itself.
struct Rank {
    module: &'static str,
    rank: u8,
    may_import: &'static [&'static str],
}

/// Rank 0: flat files that may import each other.
const BASE: [&str; 14] = [
    "id",
    "secret",
    "hash",
    "weight",
    "limits",
    "error",
    "ticks",
    "chunks",
    "cell",
    "permit",
    "rate",
    "budget",
    "token",
    "base64url",
];

/// Everything of ranks 1 to 3.
const DOMAIN: [&str; 5] = ["dialect", "config", "provider", "health", "snapshot"];

/// ARCHITECTURE.md, "Ranks". `a::b` admits that part of `a` alone. Rank 0 is open to all, and
/// telemetry to rank 4 and up; neither is repeated here.
const RANKS: &[Rank] = &[
    Rank { module: "dialect", rank: 1, may_import: &[] },
    Rank { module: "config", rank: 1, may_import: &[] },
    Rank { module: "provider", rank: 2, may_import: &["dialect"] },
    Rank { module: "health", rank: 2, may_import: &[] },
    Rank { module: "snapshot", rank: 3, may_import: &["provider", "health", "config", "dialect"] },
    // What a listener is made of is decided in the snapshot; server reads those types and nothing else of it.
    Rank {
        module: "server",
        rank: 4,
        may_import: &["snapshot::ListenSpec", "snapshot::ServerLimits", "snapshot::TlsFiles"],
    },
    Rank { module: "telemetry", rank: 4, may_import: &[] },
    Rank { module: "clock", rank: 4, may_import: &[] },
    // A row of the management table says what it asks of its caller.
    Rank { module: "router", rank: 4, may_import: &["dialect", "project::Scope"] },
    Rank { module: "state", rank: 4, may_import: &[] },
    Rank { module: "dispatch", rank: 4, may_import: &["snapshot", "provider", "health", "dialect"] },
    Rank { module: "project", rank: 4, may_import: &["dispatch", "snapshot", "health", "dialect"] },
    Rank { module: "upstream", rank: 4, may_import: &["snapshot", "provider"] },
    Rank { module: "identity", rank: 4, may_import: &["upstream", "snapshot", "provider"] },
    Rank { module: "store", rank: 4, may_import: &["snapshot", "health", "provider", "config"] },
    Rank { module: "mock", rank: 4, may_import: &["dialect"] },
    Rank { module: "import", rank: 4, may_import: &["provider", "config"] },
    Rank {
        module: "proxy",
        rank: 5,
        may_import: &[
            "clock",
            "router::DataMatch",
            "dispatch",
            "project",
            "upstream",
            "identity",
            "state",
            // Reading within bounds, nothing else of the server.
            "server::BodyError",
            "server::Flowing",
            "server::hold",
            "server::read_held",
            "dialect",
            "config",
            "provider",
            "health",
            "snapshot",
        ],
    },
    Rank {
        module: "admin",
        rank: 5,
        may_import: &[
            "clock",
            "router",
            "store",
            "state",
            "project",
            "dispatch::ModelRequest",
            "dispatch::explain",
            "identity",
            "upstream",
            "server::BodyError",
            "server::read_held",
            "dialect",
            "config",
            "provider",
            "health",
            "snapshot",
        ],
    },
    Rank { module: "app", rank: 7, may_import: &["*"] },
    Rank { module: "cli", rank: 8, may_import: &["*"] },
    Rank { module: "main", rank: 8, may_import: &["*"] },
    Rank { module: "lib", rank: 8, may_import: &["*"] },
];

/// Crates that ranks 0 to 3 may know: data and parsers, nothing that waits or reads the world.
const PURE_CRATES: [&str; 6] = ["blake3", "bytes", "http", "memchr", "serde_json", "smallvec"];

/// Parsers that one room of ranks 0 to 3 needs, with the room.
const PURE_CRATES_BY_ROOM: [(&str, &str); 13] = [
    ("serde", "dialect/"),
    ("time", "snapshot/compile/"),
    ("jsonc_parser", "config/"),
    ("annotate_snippets", "config/"),
    ("httpdate", "provider/"),
    ("time", "provider/"),
    ("percent_encoding", "provider/"),
    ("percent_encoding", "dialect/"),
    ("rustls_pki_types", "snapshot/compile/"),
    ("rustls_pki_types", "provider/credential/"),
    ("aws_sigv4", "provider/sigv4.rs"),
    ("aws_credential_types", "provider/sigv4.rs"),
    ("aws_lc_rs", "provider/sigv4.rs"),
];

/// Words that let the world into code that must be a function of its arguments.
const IMPURE: [&str; 8] = [
    "std::fs",
    "std::env",
    "std::net::Tcp",
    "std::thread",
    "Instant::now",
    "SystemTime::now",
    "std::process",
    "RandomState",
];

/// Tables: long by nature, and read like a table.
const TABLES: [&str; 5] =
    ["limits.rs", "provider/catalog.rs", "provider/fault.rs", "dialect/family.rs", "dispatch/verdict.rs"];

/// Lines that a file of logic may have, unit tests counted; 400 is what is aimed at.
const FILE_LINES_MAX: usize = 600;

/// The only files that open a secret.
const EXPOSE_CALLERS: [&str; 17] = [
    "identity/aws.rs",
    "identity/azure.rs",
    "identity/google.rs",
    "identity/jwt.rs",
    "identity/profile.rs",
    "identity/sts.rs",
    "provider/auth.rs",
    "provider/credential/aws.rs",
    "provider/credential/azure.rs",
    "provider/credential/google.rs",
    "provider/sigv4.rs",
    "server/tls.rs",
    "snapshot/compile/secrets.rs",
    "state/resp.rs",
    "store/seal.rs",
    "store/sealing_key.rs",
    "upstream/tunnel.rs",
];

/// Modules that run on a worker: they may neither block nor read files or environment.
const WORKER_MODULES: [&str; 7] =
    ["proxy/", "router/", "dispatch/", "project/", "server/body.rs", "server/conn.rs", "upstream/"];

#[test]
fn every_module_has_a_rank_and_imports_downwards() {
    let mut breaches = Breaches::new("imports against the rank table");
    for source in source::all() {
        let from = source.module();
        if BASE.contains(&from) {
            for import in source.imports() {
                if !BASE.contains(&import.module()) {
                    breaches.add(&source, import.line, &format!("rank 0 imports `{}`", import.path));
                }
            }
            continue;
        }
        let Some(row) = RANKS.iter().find(|row| row.module == from) else {
            breaches.add(&source, 1, &format!("module `{from}` has no row in the rank table"));
            continue;
        };
        for import in source.imports() {
            if !allowed(row, &import.path) {
                breaches.add(&source, import.line, &format!("`{from}` (rank {}) imports `{}`", row.rank, import.path));
            }
        }
    }
    breaches.report();
}

#[test]
fn the_rank_table_itself_points_downwards() {
    let rank_of: BTreeMap<&str, u8> = RANKS.iter().map(|row| (row.module, row.rank)).collect();
    // Listed exceptions of the table: same rank, one direction.
    let listed = [("project", "dispatch"), ("identity", "upstream"), ("router", "project")];
    for row in RANKS {
        for import in row.may_import.iter().filter(|import| **import != "*") {
            let module = import.split("::").next().unwrap();
            let below = rank_of.get(module).copied().unwrap_or_else(|| panic!("unknown module {module}"));
            assert!(
                below < row.rank || listed.contains(&(row.module, module)),
                "{} (rank {}) lists {module} (rank {below})",
                row.module,
                row.rank
            );
        }
    }
}

#[test]
fn ranks_0_to_3_know_only_data_crates() {
    let dependencies = dependency_names();
    let mut breaches = Breaches::new("crates of ranks 0 to 3");
    for source in pure_sources() {
        for (line, name) in source.paths_rooted_in(&dependencies) {
            let here = source.path.as_str();
            let admitted = PURE_CRATES.contains(&name.as_str())
                || PURE_CRATES_BY_ROOM.iter().any(|(of, room)| *of == name && here.starts_with(room));
            if !admitted {
                breaches.add(&source, line, &format!("knows the crate `{name}`"));
            }
        }
    }
    breaches.report();
}

#[test]
fn ranks_0_to_3_are_functions_of_their_arguments() {
    let mut breaches = Breaches::new("world in ranks 0 to 3");
    for source in pure_sources().filter(|source| source.path != "ticks.rs") {
        for word in IMPURE {
            for line in source.lines_with(word) {
                breaches.add(&source, line, &format!("`{word}`"));
            }
        }
    }
    breaches.report();
}

#[test]
fn files_stay_under_their_roofs() {
    let mut breaches = Breaches::new("length of files");
    for source in source::all().filter(|source| !TABLES.contains(&source.path.as_str())) {
        let lines = source.lines();
        if lines > FILE_LINES_MAX {
            breaches.add(&source, lines, &format!("{lines} lines, the roof is {FILE_LINES_MAX}"));
        }
    }
    breaches.report();
}

#[test]
fn every_file_says_what_it_is() {
    let mut breaches = Breaches::new("`//!` heads");
    for source in source::all().filter(|source| !source.original.starts_with("//!")) {
        breaches.add(&source, 1, "opens without a `//!` head");
    }
    breaches.report();
}

#[test]
fn nothing_is_called_utils() {
    let vague = ["utils", "util", "helpers", "helper", "common", "types", "manager", "misc"];
    let mut breaches = Breaches::new("vague file names");
    for source in source::all() {
        if source.path.split(['/', '.']).any(|part| vague.contains(&part)) {
            breaches.add(&source, 1, "name the thing");
        }
    }
    breaches.report();
}

#[test]
fn only_the_listed_files_expose_secrets() {
    let mut breaches = Breaches::new("callers of expose()");
    let mut callers = BTreeSet::new();
    for source in source::all() {
        let lines = source.lines_with(".expose()");
        if EXPOSE_CALLERS.contains(&source.path.as_str()) && !lines.is_empty() {
            callers.insert(source.path.clone());
            continue;
        }
        for line in lines {
            breaches.add(&source, line, "calls expose()");
        }
    }
    breaches.report();
    // A door that nobody uses is closed.
    let listed: BTreeSet<String> = EXPOSE_CALLERS.map(str::to_owned).into();
    assert_eq!(listed, callers, "files that are listed and do not call expose()");
}

#[test]
fn provider_ids_are_literals_in_provider_alone() {
    let ids: BTreeSet<String> = keyway::provider::rows().iter().map(|row| row.id.to_owned()).collect();
    assert!(ids.len() >= 20, "the catalogue has {} rows", ids.len());
    // router/: a path that is one provider's own (`/openai/…`) means that provider. The admin APIs'
    // vendor tables translate names of other APIs; mock/, import/ and cli/ name themselves.
    // A model family of an alias is no provider, though it may be called the same.
    let rooms = [
        "provider/",
        "router/",
        "mock/",
        "import/",
        "cli/",
        "admin/modelux/",
        "admin/redeo/",
        "admin/bifrost/",
        "config/file/alias.rs",
    ];
    let mut breaches = Breaches::new("provider ids as literals");
    for source in source::all().filter(|source| !rooms.iter().any(|room| source.path.starts_with(room))) {
        for (line, literal) in source.string_literals().into_iter().filter(|(_, literal)| ids.contains(literal)) {
            breaches.add(&source, line, &format!("provider id {literal:?}: read it from the row"));
        }
    }
    breaches.report();
}

#[test]
fn the_relay_path_has_no_json_trees_and_no_joined_bodies() {
    let mut breaches = Breaches::new("relay path");
    for source in source::all() {
        let relay = ["proxy/relay.rs", "proxy/request.rs", "proxy/peek.rs"].contains(&source.path.as_str());
        for word in ["serde_json::Value", "Value::", ".flatten("] {
            for line in source.lines_with(word).into_iter().filter(|_| relay) {
                breaches.add(&source, line, &format!("`{word}`"));
            }
        }
    }
    breaches.report();
}

#[test]
fn tasks_have_an_owner() {
    let mut breaches = Breaches::new("bare spawns");
    for source in source::all() {
        for word in ["tokio::spawn", "task::spawn(", "spawn_local("] {
            for line in source.lines_with(word) {
                breaches.add(&source, line, &format!("`{word}`: spawn on a JoinSet that somebody drains"));
            }
        }
        if source.path.starts_with("proxy/") {
            for line in source.lines_with(".spawn(") {
                breaches.add(&source, line, "proxy/ has no tasks: cancellation is Drop");
            }
        }
    }
    breaches.report();
}

#[test]
fn workers_do_not_block() {
    let words = ["std::fs", "tokio::fs", "std::env::var", "rusqlite", "redis::", "to_socket_addrs", "thread::sleep"];
    let mut breaches = Breaches::new("blocking calls in worker modules");
    for source in source::all() {
        let on_worker =
            WORKER_MODULES.iter().any(|room| source.path.starts_with(room)) || source.path == "app/worker.rs";
        for word in words {
            for line in source.lines_with(word).into_iter().filter(|_| on_worker) {
                breaches.add(&source, line, &format!("`{word}`"));
            }
        }
    }
    breaches.report();
}

#[test]
fn the_swap_stands_in_the_store_alone() {
    let mut breaches = Breaches::new("ArcSwap");
    for source in source::all().filter(|source| source.path != "store/mod.rs") {
        for line in source.lines_with("arc_swap") {
            breaches.add(&source, line, "`arc_swap` outside store/mod.rs");
        }
    }
    breaches.report();
}

#[test]
fn domain_types_are_not_serialisable() {
    // Rooms that know JSON: wire types and writers.
    let rooms =
        ["dialect/", "provider/credential", "identity/", "ledger/", "admin/", "telemetry/", "mock/", "import/", "cli/"];
    let mut breaches = Breaches::new("serde derives");
    for source in source::all().filter(|source| !rooms.iter().any(|room| source.path.starts_with(room))) {
        for word in ["Serialize", "Deserialize"] {
            for line in source.lines_with(word) {
                breaches.add(&source, line, &format!("`{word}`"));
            }
        }
    }
    breaches.report();
}

/// Whether `path` (`module::rest`) may be imported from `row`'s module.
fn allowed(row: &Rank, path: &str) -> bool {
    let module = path.split("::").next().unwrap_or(path);
    module == row.module
        || BASE.contains(&module)
        || (module == "telemetry" && row.rank >= 4)
        || row.may_import.iter().any(|listed| {
            *listed == "*" || path == *listed || path.strip_prefix(listed).is_some_and(|rest| rest.starts_with("::"))
        })
}

fn pure_sources() -> impl Iterator<Item = Source> {
    source::all().filter(|source| BASE.contains(&source.module()) || DOMAIN.contains(&source.module()))
}

/// Names of all dependencies as they are spelled in code.
fn dependency_names() -> BTreeSet<String> {
    let manifest = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).unwrap();
    let section = manifest.split("\n[dependencies]\n").nth(1).unwrap();
    let section = section.split("\n[").next().unwrap();
    let names: BTreeSet<String> = section
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, _)| name.trim().replace('-', "_"))
        .collect();
    assert!(names.contains("tokio") && names.contains("hyper"), "{names:?}");
    names
}

/// What was found, told all at once: a test that stops at the first breach is run ten times.
struct Breaches {
    what: &'static str,
    text: String,
    count: usize,
}

impl Breaches {
    fn new(what: &'static str) -> Self {
        Self { what, text: String::new(), count: 0 }
    }

    fn add(&mut self, source: &Source, line: usize, why: &str) {
        self.count += 1;
        let _ = writeln!(self.text, "  src/{}:{line}: {why}", source.path);
    }

    fn report(self) {
        assert!(self.count == 0, "{}: {} breaches\n{}", self.what, self.count, self.text);
    }
}
