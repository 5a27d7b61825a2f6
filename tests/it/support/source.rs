//! The gateway's own sources as text, for the tests of its structure.
//!
//! Not a parser: comments, the contents of string literals and unit tests are blanked out, so that a
//! search for a word finds code and nothing else. Line numbers stay those of the file.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// One file below `src/`.
pub struct Source {
    /// Relative to `src/`, with forward slashes.
    pub path: String,
    pub original: String,
    /// Code alone: comments, literals and unit tests are spaces.
    code: String,
    /// Code and literals: comments and unit tests are spaces.
    code_and_literals: String,
    /// Modules declared here that are compiled for tests only, as paths without an ending.
    test_modules: Vec<String>,
}

/// A `crate::…` path that stands in a file.
pub struct Import {
    pub line: usize,
    /// Without `crate::`, at least the module.
    pub path: String,
}

impl Import {
    pub fn module(&self) -> &str {
        self.path.split("::").next().unwrap_or(&self.path)
    }
}

/// All files below `src/`, in a stable order.
pub fn all() -> impl Iterator<Item = Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    walk(&root, &mut files);
    files.sort();
    assert!(files.len() > 20, "{} files below {}", files.len(), root.display());
    let mut sources: Vec<Source> = files
        .into_iter()
        .map(|file| {
            let original = std::fs::read_to_string(&file).unwrap();
            let path = file.strip_prefix(&root).unwrap().to_str().unwrap().replace('\\', "/");
            Source::new(path, original)
        })
        .collect();
    // `#[cfg(test)] mod tests;` makes test code of a file, or of a folder, that stands elsewhere.
    let tests: Vec<String> = sources.iter().flat_map(|source| source.test_modules.clone()).collect();
    for source in &mut sources {
        let of_tests =
            |module: &String| source.path == format!("{module}.rs") || source.path.starts_with(&format!("{module}/"));
        if tests.iter().any(of_tests) {
            source.code = "\n".repeat(source.lines());
            source.code_and_literals.clone_from(&source.code);
        }
    }
    sources.into_iter()
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

impl Source {
    pub fn new(path: String, original: String) -> Self {
        let (code, code_and_literals) = blank(&original);
        let tests = test_items(&code);
        let test_modules = tests.iter().filter_map(|span| declared(&path, &code[span.clone()])).collect();
        let cut = |text: String| {
            let mut bytes = text.into_bytes();
            for span in &tests {
                fill(&mut bytes, span.clone());
            }
            String::from_utf8(bytes).unwrap()
        };
        Self { path, code: cut(code), code_and_literals: cut(code_and_literals), original, test_modules }
    }

    /// The top-level module that the file belongs to.
    pub fn module(&self) -> &str {
        let first = self.path.split('/').next().unwrap_or(&self.path);
        first.strip_suffix(".rs").unwrap_or(first)
    }

    pub fn lines(&self) -> usize {
        self.original.lines().count()
    }

    /// Numbers of the lines whose code has `word`.
    pub fn lines_with(&self, word: &str) -> Vec<usize> {
        self.code.lines().enumerate().filter(|(_, line)| has_word(line, word)).map(|(at, _)| at + 1).collect()
    }

    /// Every string literal in code, with its line. Escapes are left as written.
    pub fn string_literals(&self) -> Vec<(usize, String)> {
        let mut found = Vec::new();
        for (at, (text, code)) in self.code_and_literals.lines().zip(self.code.lines()).enumerate() {
            // In `code` a literal is its quotes with spaces between them.
            let quotes: Vec<usize> = code.match_indices('"').map(|(at, _)| at).collect();
            for pair in quotes.chunks_exact(2) {
                found.push((at + 1, text[pair[0] + 1..pair[1]].to_owned()));
            }
        }
        found
    }

    /// Each `crate::` path, groups taken apart.
    pub fn imports(&self) -> Vec<Import> {
        let mut found = Vec::new();
        for (at, _) in self.code.match_indices("crate::") {
            let before = self.code[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '$' || c == ':') {
                continue;
            }
            let line = self.code[..at].matches('\n').count() + 1;
            for path in expand(&self.code[at + "crate::".len()..]) {
                found.push(Import { line, path });
            }
        }
        found
    }

    /// Paths that begin with one of `roots` (`tokio::…`, `use tokio;`), with the root's name.
    pub fn paths_rooted_in(&self, roots: &BTreeSet<String>) -> Vec<(usize, String)> {
        let mut found = Vec::new();
        for (at, line) in self.code.lines().enumerate() {
            for (place, _) in line.match_indices("::") {
                let start = line[..place].rfind(|c: char| !(c.is_alphanumeric() || c == '_')).map_or(0, |i| i + 1);
                let name = &line[start..place];
                let inner = line[..start].ends_with("::");
                if !inner && roots.contains(name) {
                    found.push((at + 1, name.to_owned()));
                }
            }
        }
        found
    }
}

/// `word` in `line`, not as the tail of a longer name.
fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let opens_a_name = word.starts_with(|c: char| c.is_alphanumeric() || c == '_');
        !opens_a_name || !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
    })
}

/// The paths of a use tree, as `a::b` with groups taken apart; stops where the tree ends.
fn expand(text: &str) -> Vec<String> {
    let tree: String = {
        let mut depth = 0_usize;
        text.chars()
            .take_while(|c| {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => return false,
                    '}' => depth -= 1,
                    _ => {}
                }
                c.is_alphanumeric()
                    || matches!(c, '_' | ':' | '{' | '}' | '*')
                    || (depth > 0 && matches!(c, ',' | ' ' | '\n'))
            })
            .filter(|c| !c.is_whitespace())
            .collect()
    };
    let mut paths = Vec::new();
    branch("", &tree, &mut paths);
    paths
}

fn branch(prefix: &str, tree: &str, paths: &mut Vec<String>) {
    let Some(open) = tree.find('{') else {
        let whole = format!("{prefix}{tree}");
        if !whole.is_empty() {
            paths.push(whole.trim_end_matches(':').to_owned());
        }
        return;
    };
    let prefix = format!("{prefix}{}", &tree[..open]);
    let inner = tree[open + 1..].strip_suffix('}').unwrap_or(&tree[open + 1..]);
    let (mut depth, mut start) = (0_usize, 0);
    for (at, c) in inner.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                branch(&prefix, &inner[start..at], paths);
                start = at + 1;
            }
            _ => {}
        }
    }
    if start < inner.len() {
        branch(&prefix, &inner[start..], paths);
    }
}

/// The text twice, byte for byte as long: without comments and literals, and without comments.
fn blank(text: &str) -> (String, String) {
    let (mut code, mut with_literals) = (text.as_bytes().to_vec(), text.as_bytes().to_vec());
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &text[at..];
        if rest.starts_with("//") {
            let end = at + rest.find('\n').unwrap_or(rest.len());
            fill(&mut code, at..end);
            fill(&mut with_literals, at..end);
            at = end;
        } else if rest.starts_with("/*") {
            let end = at + rest.find("*/").map_or(rest.len(), |i| i + 2);
            fill(&mut code, at..end);
            fill(&mut with_literals, at..end);
            at = end;
        } else if let Some(length) = raw_literal(rest, at, bytes) {
            fill(&mut code, at..at + length);
            at += length;
        } else if bytes[at] == b'"' {
            let end = at + 1 + quoted(&bytes[at + 1..]);
            fill(&mut code, at + 1..end.min(bytes.len()));
            at = end + 1;
        } else if let Some(length) = character(rest) {
            fill(&mut code, at..at + length);
            fill(&mut with_literals, at..at + length);
            at += length;
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    (String::from_utf8(code).unwrap(), String::from_utf8(with_literals).unwrap())
}

fn fill(bytes: &mut [u8], range: Range<usize>) {
    for byte in &mut bytes[range] {
        if *byte != b'\n' {
            *byte = b' ';
        }
    }
}

/// Bytes up to the closing quote.
fn quoted(bytes: &[u8]) -> usize {
    let mut at = 0;
    while at < bytes.len() && bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    at
}

/// Length of a raw string literal that begins here (`r"`, `r#"`, `br#"`).
fn raw_literal(rest: &str, at: usize, bytes: &[u8]) -> Option<usize> {
    let in_name = at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
    let marked = rest.strip_prefix("br").or_else(|| rest.strip_prefix('r')).filter(|_| !in_name)?;
    let hashes = marked.bytes().take_while(|b| *b == b'#').count();
    let inner = marked[hashes..].strip_prefix('"')?;
    let close = format!("\"{}", "#".repeat(hashes));
    let end = inner.find(&close)?;
    Some(rest.len() - inner.len() + end + close.len())
}

/// Length of a character literal that begins here; a lifetime is none.
fn character(rest: &str) -> Option<usize> {
    let inner = rest.strip_prefix('\'')?;
    let first = inner.chars().next()?;
    if first == '\\' {
        return inner[2..].find('\'').map(|i| i + 4);
    }
    inner[first.len_utf8()..].starts_with('\'').then(|| first.len_utf8() + 2)
}

/// The module that `item`, which stands in the file `path`, declares without a body.
fn declared(path: &str, item: &str) -> Option<String> {
    let name = item.trim_end().strip_suffix(';')?.rsplit_once("mod ")?.1.trim();
    let folder = match path.strip_suffix("/mod.rs") {
        Some(folder) => folder,
        None if ["lib.rs", "main.rs"].contains(&path) => return Some(name.to_owned()),
        None => path.strip_suffix(".rs")?,
    };
    Some(format!("{folder}/{name}"))
}

/// Where the items under `#[cfg(test)]` stand. Braces are counted in `code`, where literals cannot confuse.
fn test_items(code: &str) -> Vec<Range<usize>> {
    let mut spans: Vec<Range<usize>> = Vec::new();
    for (at, _) in code.match_indices("#[cfg(test)]") {
        if spans.last().is_some_and(|span| span.contains(&at)) {
            continue;
        }
        let mut depth = 0_usize;
        let ends = |c: char| {
            match c {
                '{' => depth += 1,
                '}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            depth == 0 && matches!(c, '}' | ';')
        };
        let end = code[at..].find(ends).map_or(code.len(), |place| at + place + 1);
        spans.push(at..end);
    }
    spans
}

mod tests {
    use super::Source;

    fn source(text: &str) -> Source {
        Source::new("proxy/x.rs".to_owned(), text.to_owned())
    }

    fn paths(text: &str) -> Vec<String> {
        source(text).imports().into_iter().map(|import| import.path).collect()
    }

    #[test]
    fn imports_are_found_in_every_form() {
        let cases: [(&str, &[&str]); 6] = [
            ("use crate::a::B;", &["a::B"]),
            ("use crate::{a::{B, c::D}, e};\n", &["a::B", "a::c::D", "e"]),
            ("fn f() -> crate::a::B { crate::g::h(1) }", &["a::B", "g::h"]),
            ("// crate::a\nlet s = \"crate::b\"; /* crate::c */", &[]),
            ("#[cfg(test)]\nmod tests { use crate::a; fn f() { let s = \"}\"; } }\nuse crate::z;", &["z"]),
            ("use crate::a::{\n    B,\n    C,\n};", &["a::B", "a::C"]),
        ];
        for (text, want) in cases {
            assert_eq!(paths(text), want, "{text}");
        }
    }

    #[test]
    fn words_are_found_in_code_alone() {
        let text = "let a = \"tokio::spawn\"; // tokio::spawn\nlet c = '\"'; tokio::spawn(x);\nlet r = r#\"tokio::spawn \"\"#;\n";
        assert_eq!(source(text).lines_with("tokio::spawn"), [2]);
        let literals = source("f(\"openai\"); g(\"a b\", 'x', \"\")").string_literals();
        let literals: Vec<_> = literals.iter().map(|(_, literal)| literal.as_str()).collect();
        assert_eq!(literals, ["openai", "a b", ""]);
    }

    #[test]
    fn unit_tests_are_not_code() {
        let text = "fn f() { a() }\n#[cfg(test)]\nmod tests {\n    fn h() { a() }\n}\nfn g() { a() }\n";
        assert_eq!(source(text).lines_with("a()"), [1, 6]);
        let text = "#[cfg(test)]\nuse a::b;\nuse a::c;\n";
        assert_eq!(source(text).lines_with("a::"), [3]);
    }

    #[test]
    fn test_modules_in_files_of_their_own_are_found() {
        let declares = |path: &str, text: &str| Source::new(path.to_owned(), text.to_owned()).test_modules;
        assert_eq!(declares("a/mod.rs", "mod b;\n#[cfg(test)]\nmod c;\n"), ["a/c"]);
        assert_eq!(declares("a/x.rs", "#[cfg(test)]\npub mod fixture;\n"), ["a/x/fixture"]);
        assert_eq!(declares("lib.rs", "#[cfg(test)] mod c;\n#[cfg(test)] mod d { mod e {} }"), ["c"]);
    }
}
