//! The generated part of `docs/configuration.md`: every key in tables, by area.

use std::fmt::Write as _;

use crate::key::{Effect, Key, Kind, Update};
use crate::registry::registry;

/// Markdown tables of all keys, in the order of the registry.
pub fn reference_tables() -> String {
    let mut text = String::new();
    let mut area = "";
    for key in registry().all() {
        if key.area != area {
            area = key.area;
            let _ = write!(
                text,
                "\n### {area}\n\n| key | type | default | valid | change | effect | what it is |\n\
                 |---|---|---|---|---|---|---|\n"
            );
        }
        row(&mut text, key);
    }
    let _ = write!(
        text,
        "\n### Keys of older Kafkas\n\nAccepted, without effect.\n\n| key | why |\n|---|---|\n"
    );
    for retired in registry().all_retired() {
        let _ = writeln!(text, "| `{}` | {} |", retired.name, retired.doc);
    }
    text
}

fn row(text: &mut String, key: &Key) {
    let default = match (key.default, key.required) {
        (_, true) => "(by role)".to_owned(),
        (None, false) => "none".to_owned(),
        (Some(""), false) => "empty".to_owned(),
        (Some(value), false) => format!("`{value}`"),
    };
    let update = match key.update {
        Update::ReadOnly => "restart",
        Update::PerBroker => "per broker",
        Update::ClusterWide => "cluster",
        Update::Resource => "any time",
    };
    let effect = match key.effect {
        Effect::Honoured => "honoured",
        Effect::NotYet => "not yet",
        Effect::Ignored => "ignored",
    };
    let _ = writeln!(
        text,
        "| `{}` | {} | {default} | {} | {update} | {effect} | {} |",
        key.name,
        kind(key.kind),
        key.valid,
        key.doc
    );
}

fn kind(kind: Kind) -> String {
    kind.name().to_ascii_lowercase()
}
