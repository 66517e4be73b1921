//! Reads the definition files: one line a field, nesting by indentation.

use crate::schema::{Field, Kind, Message, Struct, Type, Versions};

/// Kafka's schemas are not recursive, so the deepest nesting of a decoded message is that of its definition.
const DEPTH_MAX: usize = 16;

struct Line<'a> {
    depth: usize,
    words: Vec<&'a str>,
}

/// Parses one definition file.
pub(crate) fn message(text: &str) -> Result<Message, String> {
    let mut lines = text.lines().filter(|l| !l.trim().is_empty());
    let mut message = head(lines.next().ok_or("empty file")?)?;
    let lines: Vec<Line<'_>> = lines.map(line).collect();
    message.structs.push(Struct {
        name: message.name.clone(),
        versions: message.versions,
        fields: Vec::new(),
    });
    let mut at = 0;
    let fields = block(&lines, &mut at, 1, message.versions, &mut message)?;
    if at != lines.len() {
        return Err(format!("line {}: unexpected indent", at + 2));
    }
    message.structs[0].fields = fields;
    check(&message)?;
    Ok(message)
}

fn line(text: &str) -> Line<'_> {
    let body = text.trim_start();
    Line {
        depth: (text.len() - body.len()) / 2,
        words: body.split_whitespace().collect(),
    }
}

fn head(text: &str) -> Result<Message, String> {
    let mut words = text.split_whitespace();
    let kind = match words.next() {
        Some("request") => Kind::Request,
        Some("response") => Kind::Response,
        Some("header") => Kind::Header,
        Some("data") => Kind::Data,
        Some("coordinator-key") => Kind::CoordinatorKey,
        Some("coordinator-value") => Kind::CoordinatorValue,
        other => return Err(format!("unknown kind {other:?}")),
    };
    let mut message = Message {
        kind,
        name: words.next().ok_or("no name")?.to_owned(),
        key: None,
        versions: Versions::NONE,
        flexible: Versions::NONE,
        latest_unstable: false,
        listeners: Vec::new(),
        structs: Vec::new(),
    };
    while let Some(word) = words.next() {
        if word == "latest-unstable" {
            message.latest_unstable = true;
            continue;
        }
        let value = words.next().ok_or_else(|| format!("{word} without a value"))?;
        match word {
            "key" => message.key = Some(number(value)?),
            "versions" => message.versions = versions(value)?,
            "flexible" => message.flexible = versions(value)?,
            "listeners" => message.listeners = value.split(',').map(str::to_owned).collect(),
            _ => return Err(format!("unknown word {word}")),
        }
    }
    Ok(message)
}

/// The fields at `depth`, which belong to a struct that occurs in the versions `outer`.
fn block(
    lines: &[Line<'_>],
    at: &mut usize,
    depth: usize,
    outer: Versions,
    message: &mut Message,
) -> Result<Vec<Field>, String> {
    if depth > DEPTH_MAX {
        return Err(format!("nested deeper than {DEPTH_MAX}"));
    }
    let mut fields = Vec::new();
    while let Some(line) = lines.get(*at).filter(|l| l.depth == depth) {
        *at += 1;
        let (name, inner) = match line.words.as_slice() {
            ["struct", name, v] => (Some((*name).to_owned()), versions(v)?.and(message.versions)),
            words => {
                let field = field(words).map_err(|e| format!("line {}: {e}", *at + 1))?;
                let inner = field.versions.and(outer);
                let name = struct_name(&field.ty).map(str::to_owned);
                fields.push(field);
                (name, inner)
            }
        };
        if lines.get(*at).is_some_and(|l| l.depth > depth) {
            let name = name.ok_or_else(|| format!("line {}: fields of a plain type", *at + 1))?;
            let nested = block(lines, at, depth + 1, inner, message)?;
            message.structs.push(Struct {
                name,
                versions: inner,
                fields: nested,
            });
        }
    }
    Ok(fields)
}

fn field(words: &[&str]) -> Result<Field, String> {
    let [name, ty, present, options @ ..] = words else {
        return Err(format!("not a field: {words:?}"));
    };
    let mut field = Field {
        name: name
            .strip_suffix(':')
            .ok_or("a field's name ends with a colon")?
            .to_owned(),
        ty: type_named(ty),
        versions: versions(present)?,
        nullable: Versions::NONE,
        default: None,
        tag: None,
        ignorable: false,
        classic: false,
    };
    let mut rest = options;
    loop {
        rest = match rest {
            [] => return Ok(field),
            ["ignorable", rest @ ..] => {
                field.ignorable = true;
                rest
            }
            ["key" | "bulk", rest @ ..] | ["is", _, rest @ ..] => rest,
            ["flexible", "none", rest @ ..] => {
                field.classic = true;
                rest
            }
            ["nullable", v, rest @ ..] => {
                field.nullable = versions(v)?;
                rest
            }
            ["default", value, rest @ ..] => {
                field.default = Some((*value).to_owned());
                rest
            }
            ["tag", tag, v, rest @ ..] => {
                field.tag = Some((number(tag)?, versions(v)?));
                rest
            }
            [word, ..] => return Err(format!("unknown option {word}")),
        };
    }
}

fn type_named(name: &str) -> Type {
    if let Some(element) = name.strip_prefix("[]") {
        return Type::Array(Box::new(type_named(element)));
    }
    match name {
        "bool" => Type::Bool,
        "int8" => Type::Int8,
        "int16" => Type::Int16,
        "uint16" => Type::Uint16,
        "int32" => Type::Int32,
        "int64" => Type::Int64,
        "float64" => Type::Float64,
        "uuid" => Type::Uuid,
        "string" => Type::String,
        "bytes" => Type::Bytes,
        "records" => Type::Records,
        other => Type::Struct(other.to_owned()),
    }
}

fn struct_name(ty: &Type) -> Option<&str> {
    match ty {
        Type::Struct(name) => Some(name),
        Type::Array(element) => struct_name(element),
        _ => None,
    }
}

fn versions(text: &str) -> Result<Versions, String> {
    if text == "none" {
        return Ok(Versions::NONE);
    }
    if let Some(min) = text.strip_suffix('+') {
        return Ok(Versions {
            min: number(min)?,
            max: i16::MAX,
        });
    }
    let (min, max) = text.split_once('-').unwrap_or((text, text));
    Ok(Versions {
        min: number(min)?,
        max: number(max)?,
    })
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("not a number: {text}"))
}

/// What the generator relies on: names resolve and are unique, a struct's count of tagged fields fits one byte.
fn check(message: &Message) -> Result<(), String> {
    for (i, each) in message.structs.iter().enumerate() {
        if message.structs[..i].iter().any(|other| other.name == each.name) {
            return Err(format!("struct {} twice", each.name));
        }
        if each.fields.iter().filter(|f| f.tag.is_some()).count() > 127 {
            return Err(format!("{} has too many tagged fields", each.name));
        }
        for field in &each.fields {
            if let Some(name) = struct_name(&field.ty) {
                message.struct_named(name)?;
            }
            if field.classic && (field.ty != Type::String || field.nullable.is_empty()) {
                return Err(format!("{} is not a nullable string", field.name));
            }
        }
    }
    Ok(())
}
