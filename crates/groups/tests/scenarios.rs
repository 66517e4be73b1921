//! Datadriven scenarios: each file of `tests/scenarios` is a list of commands, each followed by what the coordinator
//! did. `UPDATE=1 cargo test -p strom-groups --test scenarios` rewrites the outputs; read the diff.

mod harness;

use std::fs;
use std::path::Path;

fn run_file(path: &Path) -> Result<(), String> {
    let text = fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let mut runner = harness::script::Runner::new();
    let mut out = String::new();
    for line in text.lines() {
        if line.starts_with('#') || line.is_empty() {
            out.push_str(line);
            out.push('\n');
        } else if let Some(command) = line.strip_prefix("> ") {
            out.push_str(line);
            out.push('\n');
            for printed in runner.run(command) {
                out.push_str(&printed);
                out.push('\n');
            }
        }
    }
    if out == text {
        return Ok(());
    }
    if std::env::var_os("UPDATE").is_some() {
        return fs::write(path, out).map_err(|e| e.to_string());
    }
    let differing = out.lines().zip(text.lines()).find(|(got, want)| got != want);
    Err(format!(
        "{}: first difference (got, want): {differing:#?}",
        path.display()
    ))
}

#[test]
fn scenarios() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut files: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "txt"))
        .collect();
    files.sort();
    assert!(files.len() >= 20, "scenario files are missing");
    let failures: Vec<String> = files.iter().filter_map(|path| run_file(path).err()).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
