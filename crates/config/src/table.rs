//! Reads the embedded key tables (`keys/*.tsv`): one row per key, tab-separated, the first row naming the columns.

use thiserror::Error;

use crate::key::{Effect, Importance, Key, Kind, Retired, Scope, SynonymOf, Update};
use crate::valid::Valid;

/// A mistake in one of the embedded tables.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("keys/{file}.tsv line {line}: {problem}")]
pub struct TableError {
    pub file: &'static str,
    pub line: usize,
    pub problem: String,
}

const HEADER: &str = "name\ttype\tdefault\tvalid\timportance\tdynamic\tsynonyms\teffect\tdoc";
const RETIRED_HEADER: &str = "scope\tname\tdoc";

/// File name, scope, area of the documentation, content.
type Table = (&'static str, Scope, &'static str, &'static str);

macro_rules! tables {
    ($($file:literal, $scope:ident, $area:literal;)*) => {
        &[$(($file, Scope::$scope, $area, include_str!(concat!("../keys/", $file, ".tsv"))),)*]
    };
}

/// In the order of the documentation. A new file needs a line here and nothing else.
const TABLES: &[Table] = tables! {
    "strom", Broker, "Strom's own keys";
    "broker-cluster", Broker, "Nodes and controllers";
    "broker-network", Broker, "Listeners, connections, requests";
    "broker-log", Broker, "Logs";
    "broker-replication", Broker, "Replication";
    "broker-group", Broker, "Groups and offsets";
    "broker-transaction", Broker, "Transactions and producers";
    "broker-server", Broker, "Topics, metrics and the rest";
    "broker-quota", Broker, "Quotas";
    "broker-security", Broker, "Security";
    "authorizer", Broker, "Authorization";
    "broker-tiered", Broker, "Tiered storage";
    "broker-share", Broker, "Share groups";
    "topic", Topic, "Topics";
    "strom-topic", Topic, "Topics, Strom's own";
    "group", Group, "Groups";
    "client-metrics", ClientMetrics, "Client metrics subscriptions";
    "quota-user-client", UserClientQuota, "Quotas of users and client ids";
    "quota-ip", IpQuota, "Quotas of addresses";
};

const RETIRED: &str = include_str!("../keys/retired.tsv");

/// All keys, in table order.
pub(crate) fn parse_keys() -> Result<Vec<Key>, TableError> {
    let mut keys = Vec::new();
    for &(file, scope, area, text) in TABLES {
        for (line, row) in rows(file, HEADER, text)? {
            let key = parse_row(scope, area, row).map_err(|problem| TableError { file, line, problem })?;
            keys.push(key);
        }
    }
    Ok(keys)
}

pub(crate) fn parse_retired() -> Result<Vec<Retired>, TableError> {
    let file = "retired";
    let parse = |(line, row): (usize, &'static str)| {
        let bad = |problem: &str| TableError {
            file,
            line,
            problem: problem.to_owned(),
        };
        let mut cells = row.split('\t');
        let scope = match cells.next() {
            Some("topic") => Scope::Topic,
            Some("broker") => Scope::Broker,
            _ => return Err(bad("scope is topic or broker")),
        };
        match (cells.next(), cells.next(), cells.next()) {
            (Some(name), Some(doc), None) => Ok(Retired { scope, name, doc }),
            _ => Err(bad("three columns are needed")),
        }
    };
    rows(file, RETIRED_HEADER, RETIRED)?
        .into_iter()
        .map(parse)
        .collect()
}

/// The rows below the header, with their line numbers.
fn rows(
    file: &'static str,
    header: &str,
    text: &'static str,
) -> Result<Vec<(usize, &'static str)>, TableError> {
    let mut lines = text.lines().zip(1..).map(|(row, line)| (line, row));
    match lines.next() {
        Some((_, first)) if first == header => Ok(lines.filter(|(_, row)| !row.is_empty()).collect()),
        _ => Err(TableError {
            file,
            line: 1,
            problem: format!("the columns are {header:?}"),
        }),
    }
}

fn parse_row(scope: Scope, area: &'static str, row: &'static str) -> Result<Key, String> {
    let cells: Vec<&'static str> = row.split('\t').collect();
    let [
        name,
        kind,
        default,
        valid,
        importance,
        update,
        synonyms,
        effect,
        doc,
    ] = *cells.as_slice()
    else {
        return Err(format!("{} columns instead of 9", cells.len()));
    };
    let wrong = |column: &str, cell: &str| format!("{name}: {cell:?} is no {column}");
    let kind = kind_named(kind).ok_or_else(|| wrong("type", kind))?;
    Ok(Key {
        name,
        scope,
        area,
        kind,
        default: default_text(kind, default),
        required: default == "(required)",
        valid: Valid::from_notation(kind, valid).ok_or_else(|| wrong("range", valid))?,
        importance: match importance {
            "HIGH" => Importance::High,
            "MEDIUM" => Importance::Medium,
            "LOW" => Importance::Low,
            other => return Err(wrong("importance", other)),
        },
        update: match update {
            "read-only" => Update::ReadOnly,
            "per-broker" => Update::PerBroker,
            "cluster-wide" => Update::ClusterWide,
            "topic" | "group" | "resource" => Update::Resource,
            other => return Err(wrong("update mode", other)),
        },
        synonyms: parse_synonyms(synonyms).ok_or_else(|| wrong("list of synonyms", synonyms))?,
        effect: match effect {
            "honoured" => Effect::Honoured,
            "not-yet" => Effect::NotYet,
            "ignored" => Effect::Ignored,
            other => return Err(wrong("effect", other)),
        },
        doc: Some(doc)
            .filter(|doc| doc.ends_with('.'))
            .ok_or_else(|| wrong("sentence", doc))?,
    })
}

fn kind_named(text: &str) -> Option<Kind> {
    const KINDS: [Kind; 9] = [
        Kind::Boolean,
        Kind::String,
        Kind::Int,
        Kind::Short,
        Kind::Long,
        Kind::Double,
        Kind::List,
        Kind::Class,
        Kind::Password,
    ];
    KINDS.into_iter().find(|kind| kind.name() == text)
}

fn default_text(kind: Kind, cell: &'static str) -> Option<&'static str> {
    match cell {
        "null" | "(required)" => None,
        "\"\"" => Some(""),
        list if kind == Kind::List => Some(
            list.strip_prefix('[')
                .and_then(|rest| rest.strip_suffix(']'))
                .unwrap_or(list),
        ),
        text => Some(text),
    }
}

/// `log.retention.ms, log.retention.minutes (x60000)`.
fn parse_synonyms(cell: &'static str) -> Option<Vec<SynonymOf>> {
    if cell.is_empty() {
        return Some(Vec::new());
    }
    cell.split(", ")
        .map(|part| match part.split_once(" (x") {
            None => Some(SynonymOf {
                name: part,
                factor: 1,
            }),
            Some((name, factor)) => Some(SynonymOf {
                name,
                factor: factor.strip_suffix(')')?.parse().ok()?,
            }),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_row_names_its_cell() {
        let good = "x\tINT\t1\t[0,...]\tLOW\tread-only\t\thonoured\tSays what.";
        assert!(parse_row(Scope::Broker, "a", good).is_ok());
        for (bad, hint) in [
            ("x\tINT", "2 columns"),
            ("x\tFLOAT\t1\t\tLOW\tread-only\t\thonoured\tD.", "FLOAT"),
            ("x\tINT\t1\t[0,..]\tLOW\tread-only\t\thonoured\tD", "no sentence"),
            ("x\tINT\t1\t0..9\tLOW\tread-only\t\thonoured\tD.", "0..9"),
            ("x\tINT\t1\t\tSOME\tread-only\t\thonoured\tD.", "SOME"),
            ("x\tINT\t1\t\tLOW\tnever\t\thonoured\tD.", "never"),
            ("x\tINT\t1\t\tLOW\tread-only\ty (xz)\thonoured\tD.", "y (xz)"),
            ("x\tINT\t1\t\tLOW\tread-only\t\tmaybe\tD.", "maybe"),
        ] {
            let problem = parse_row(Scope::Broker, "a", bad).unwrap_err();
            assert!(problem.contains(hint), "{problem}");
        }
    }
}
