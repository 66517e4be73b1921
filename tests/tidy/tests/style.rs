//! The style rules that a reader relies on: small files and functions, a sentence on top, no banned calls.

use std::fs;
use std::path::{Path, PathBuf};

use syn::spanned::Spanned;
use syn::visit::{self, Visit};

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;
const LINE_CHARS_MAX: usize = 140;

/// Calls with a better replacement, and the folders where they may stand.
const BANNED: &[(&str, &str, &[&str])] = &[
    (
        "Instant::now()",
        "pass strom_types::Mono in, or use strom_runtime's Clock",
        &[
            "runtime",
            "client",
            "cli",
            "log",
            "raft-node",
            "gateway",
            "broker",
            "controller",
            "strom",
            "testkit",
        ],
    ),
    // log: the age of what recovery finds is judged by the wall clock.
    (
        "SystemTime::now()",
        "use strom_runtime's Clock",
        &["runtime", "cli", "log"],
    ),
    ("block_in_place", "use a thread of its own", &[]),
    ("process::exit", "return an error to main", &["strom", "runtime"]),
    (
        " println!",
        "log, or write to the output passed in",
        &["strom", "cli", "sim"],
    ),
    (
        " eprintln!",
        "log, or write to the output passed in",
        &["strom", "cli", "runtime", "sim"],
    ),
];

struct SourceFile {
    krate: String,
    path: PathBuf,
    text: String,
}

/// Production sources: `crates/*/src`, without test modules in files of their own.
fn sources() -> Vec<SourceFile> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crates");
    let mut found = Vec::new();
    for krate in fs::read_dir(&root).expect("crates/").flatten() {
        let name = krate.file_name().to_string_lossy().into_owned();
        let mut folders = vec![krate.path().join("src"), krate.path().join("build")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                let file = entry.file_name().to_string_lossy().into_owned();
                if path.is_dir() {
                    if file != "tests" && !file.ends_with("_tests") {
                        folders.push(path);
                    }
                } else if file.ends_with(".rs") && file != "tests.rs" && !file.ends_with("_tests.rs") {
                    let text = fs::read_to_string(&path).expect("a readable source file");
                    found.push(SourceFile {
                        krate: name.clone(),
                        path,
                        text,
                    });
                }
            }
        }
    }
    assert!(found.len() > 50, "the sources were not found");
    found
}

/// The file up to its inline test module.
fn production(text: &str) -> &str {
    text.find("#[cfg(test)]\nmod ").map_or(text, |end| &text[..end])
}

#[test]
fn files_are_small_and_open_with_a_sentence() {
    let mut wrong = Vec::new();
    for file in sources() {
        let lines = production(&file.text).lines().count();
        if lines > FILE_LINES_MAX {
            wrong.push(format!(
                "{}: {lines} lines, at most {FILE_LINES_MAX}",
                file.path.display()
            ));
        }
        if !file.text.starts_with("//! ") {
            wrong.push(format!("{}: no //! sentence on top", file.path.display()));
        }
        if let Some(line) = file
            .text
            .lines()
            .find(|l| l.chars().count() > LINE_CHARS_MAX && !l.contains('"'))
        {
            wrong.push(format!("{}: a line is too long: {line}", file.path.display()));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[derive(Default)]
struct LongFunctions {
    found: Vec<(String, usize)>,
}

impl LongFunctions {
    fn check(&mut self, name: &syn::Ident, span: proc_macro2::Span) {
        let lines = span.end().line - span.start().line + 1;
        if lines > FUNCTION_LINES_MAX {
            self.found.push((name.to_string(), lines));
        }
    }
}

impl<'a> Visit<'a> for LongFunctions {
    fn visit_item_fn(&mut self, item: &'a syn::ItemFn) {
        self.check(&item.sig.ident, item.block.span());
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'a syn::ImplItemFn) {
        self.check(&item.sig.ident, item.block.span());
        visit::visit_impl_item_fn(self, item);
    }
}

#[test]
fn functions_are_short() {
    let mut wrong = Vec::new();
    for file in sources() {
        let parsed = syn::parse_file(production(&file.text)).expect("a source file that parses");
        let mut long = LongFunctions::default();
        long.visit_file(&parsed);
        for (name, lines) in long.found {
            wrong.push(format!(
                "{}: {name} has {lines} lines, at most {FUNCTION_LINES_MAX}",
                file.path.display()
            ));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn banned_calls_have_their_replacements() {
    let mut wrong = Vec::new();
    for file in sources() {
        for (call, instead, allowed) in BANNED {
            if production(&file.text).contains(call) && !allowed.contains(&file.krate.as_str()) {
                wrong.push(format!("{}: {call}: {instead}", file.path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn names_say_what_they_hold() {
    for file in sources() {
        for name in [
            "utils", "util", "common", "helpers", "helper", "manager", "impls", "misc",
        ] {
            assert_ne!(
                file.path.file_stem().and_then(|s| s.to_str()),
                Some(name),
                "{}",
                file.path.display()
            );
        }
    }
}
