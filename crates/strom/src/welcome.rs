//! What a person who started a node reads first.

use std::io::Write;
use std::path::Path;

/// Where the node listens, where its data lies, and what to try next.
pub(crate) fn print(kafka: &[String], admin: &str, data: &Path, mut out: impl Write) -> std::io::Result<()> {
    let data = std::path::absolute(data).unwrap_or_else(|_| data.to_owned());
    let first = kafka.first().map_or("", String::as_str);
    writeln!(out, "strom is ready")?;
    writeln!(out, "  kafka   {}", kafka.join(", "))?;
    writeln!(out, "  admin   http://{admin}/metrics  (also /readyz, /status)")?;
    writeln!(out, "  data    {}", data.display())?;
    writeln!(out, "try")?;
    writeln!(
        out,
        "  strom topic create hello --partitions 3 --bootstrap-server {first}"
    )?;
    writeln!(
        out,
        "  echo 'hi' | strom produce hello --bootstrap-server {first}"
    )?;
    writeln!(
        out,
        "  strom consume hello --from-beginning --bootstrap-server {first}"
    )?;
    out.flush()
}
