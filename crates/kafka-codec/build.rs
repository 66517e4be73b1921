//! Generates the message structs and their codecs from the definition files in `proto/kafka`.

#[path = "build/decode.rs"]
mod decode;
#[path = "build/encode.rs"]
mod encode;
#[path = "build/errors.rs"]
mod errors;
#[path = "build/keys.rs"]
mod keys;
#[path = "build/names.rs"]
mod names;
#[path = "build/parse.rs"]
mod parse;
#[path = "build/schema.rs"]
mod schema;
#[path = "build/sizes.rs"]
mod sizes;
#[path = "build/structs.rs"]
mod structs;
#[path = "build/test_support.rs"]
mod test_support;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

use schema::Message;

fn main() -> Result<(), Box<dyn Error>> {
    let definitions = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../../proto/kafka");
    println!("cargo:rerun-if-changed={}", definitions.display());
    println!("cargo:rerun-if-changed=build");
    println!("cargo:rerun-if-changed=build.rs");
    let out = PathBuf::from(env::var("OUT_DIR")?);

    let wire = load(&definitions.join("wire"))?;
    let coordinator = load(&definitions.join("coordinator"))?;
    fs::write(out.join("messages.rs"), structs::emit_all(&wire)?)?;
    fs::write(out.join("coordinator.rs"), structs::emit_all(&coordinator)?)?;
    fs::write(out.join("api_keys.rs"), keys::emit(&wire)?)?;
    let mut support = test_support::Emitter::default();
    support.add("crate::messages", &wire)?;
    support.add("crate::coordinator", &coordinator)?;
    fs::write(out.join("test_support.rs"), support.finish())?;
    Ok(())
}

/// All messages of one folder in the order of their file names. Removed APIs (no versions left) are kept: their keys
/// still have names.
fn load(folder: &Path) -> Result<Vec<Message>, Box<dyn Error>> {
    let mut files = fs::read_dir(folder)?
        .map(|e| e.map(|e| e.path()))
        .collect::<Result<Vec<_>, _>>()?;
    files.retain(|path| path.extension().is_some_and(|e| e == "txt"));
    files.sort();
    files
        .iter()
        .map(|path| {
            let text = fs::read_to_string(path)?;
            parse::message(&text).map_err(|e| format!("{}: {e}", path.display()).into())
        })
        .collect()
}
