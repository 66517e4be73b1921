//! Emits the structs, their defaults and the trait impls that tie messages together.

use std::fmt::Write;

use crate::schema::{Field, Kind, Message, Struct, Type, Versions};
use crate::{decode, encode, errors, names, sizes};

/// The Rust of a folder of messages: one module each, the message itself re-exported.
pub(crate) fn emit_all(messages: &[Message]) -> Result<String, String> {
    let mut out = String::new();
    for message in messages.iter().filter(|m| !m.versions.is_empty()) {
        let module = names::snake(&message.name);
        writeln!(out, "pub use {module}::{};", message.name).map_err(|e| e.to_string())?;
        let body = emit(message, messages)?;
        let doc = format!("Structs of `{}`.", message.name);
        writeln!(
            out,
            "/// {doc}\npub mod {module} {{\nuse crate::generated::*;\n{body}}}"
        )
        .map_err(|e| e.to_string())?;
    }
    Ok(out)
}

fn emit(message: &Message, all: &[Message]) -> Result<String, String> {
    let mut out = String::new();
    for (i, each) in message.structs.iter().enumerate() {
        if i == 0 {
            out += &head_doc(message);
        }
        out += &definition(each);
        out += &default_impl(each);
        let Struct { name, .. } = each;
        out += &format!("impl Wire for {name} {{\n");
        out += &decode::read(message, each);
        out += &encode::write(message, each);
        out += &sizes::min_size(message, each)?;
        out += &format!("}}\nimpl Struct for {name} {{}}\n");
    }
    out += &message_impls(message, all)?;
    Ok(out)
}

fn head_doc(message: &Message) -> String {
    let Message {
        name,
        versions,
        flexible,
        key,
        ..
    } = message;
    let key = key.map_or_else(String::new, |key| format!(" (key {key})"));
    let flexible = if flexible.is_empty() {
        "never flexible".to_owned()
    } else {
        format!("flexible from {}", flexible.min)
    };
    format!(
        "/// `{name}`{key}, versions {}-{}, {flexible}.\n",
        versions.min, versions.max
    )
}

fn definition(each: &Struct) -> String {
    let derived = if each.fields.iter().all(|f| is_rust_default(each, f)) {
        ", Default"
    } else {
        ""
    };
    let mut out = format!(
        "#[derive(Clone, Debug, PartialEq{derived})]\npub struct {} {{\n",
        each.name
    );
    for field in &each.fields {
        out += &format!(
            "pub {}: {},\n",
            names::field(&field.name),
            field_type(each, field)
        );
    }
    out + "}\n"
}

fn field_type(each: &Struct, field: &Field) -> String {
    let plain = names::rust_type(&field.ty);
    if each.optional(field) {
        format!("Option<{plain}>")
    } else {
        plain
    }
}

fn default_impl(each: &Struct) -> String {
    if each.fields.iter().all(|f| is_rust_default(each, f)) {
        return String::new();
    }
    let name = &each.name;
    let mut out = format!("impl Default for {name} {{\nfn default() -> Self {{\nSelf {{\n");
    for field in &each.fields {
        out += &format!("{}: {},\n", names::field(&field.name), default_value(each, field));
    }
    out + "}\n}\n}\n"
}

/// Kafka's rule: the stated default, else zero, empty or (records alone) null.
fn defaults_to_null(each: &Struct, field: &Field) -> bool {
    each.optional(field) && (field.default.as_deref() == Some("null") || field.ty == Type::Records)
}

fn is_rust_default(each: &Struct, field: &Field) -> bool {
    match default_value(each, field).as_str() {
        "0" | "0.0" | "false" | "None" => true,
        other => other == "Default::default()",
    }
}

/// The default as a Rust expression.
pub(crate) fn default_value(each: &Struct, field: &Field) -> String {
    if defaults_to_null(each, field) {
        return "None".to_owned();
    }
    let stated = field.default.as_deref().filter(|d| *d != "null" && *d != "\"\"");
    let plain = match &field.ty {
        Type::Bool => stated.unwrap_or("false").to_owned(),
        Type::Int8 | Type::Int16 | Type::Uint16 | Type::Int32 | Type::Int64 => {
            stated.unwrap_or("0").to_owned()
        }
        Type::Float64 => stated.unwrap_or("0.0").to_owned(),
        _ => "Default::default()".to_owned(),
    };
    if each.optional(field) {
        format!("Some({plain})")
    } else {
        plain
    }
}

/// A test whether the field of `self` differs from its default.
pub(crate) fn differs(each: &Struct, field: &Field) -> String {
    let name = format!("self.{}", names::field(&field.name));
    if defaults_to_null(each, field) {
        return format!("{name}.is_some()");
    }
    let optional = each.optional(field);
    let empty = match &field.ty {
        Type::String | Type::Bytes | Type::Records | Type::Array(_) => "is_empty",
        Type::Uuid => "is_nil",
        Type::Bool if default_value(each, field) == "true" => return format!("!{name}"),
        Type::Bool => return name,
        Type::Struct(_) if optional => return format!("{name}.as_ref() != Some(&Default::default())"),
        Type::Struct(_) => return format!("{name} != Default::default()"),
        _ => return format!("{name} != {}", default_value(each, field)),
    };
    if optional {
        format!("!{name}.as_ref().is_some_and(|x| x.{empty}())")
    } else {
        format!("!{name}.{empty}()")
    }
}

fn message_impls(message: &Message, all: &[Message]) -> Result<String, String> {
    let Message {
        name,
        versions,
        flexible,
        ..
    } = message;
    let flexible_from = if flexible.is_empty() {
        "i16::MAX".to_owned()
    } else {
        flexible.min.to_string()
    };
    let mut out = format!(
        "impl Message for {name} {{\nconst NAME: &'static str = {name:?};\n\
         const VERSIONS: VersionRange = {};\nconst FLEXIBLE_FROM: i16 = {flexible_from};\n}}\n",
        range(*versions)
    );
    let pair = |from: &str, to: &str| {
        let other = name
            .strip_suffix(from)
            .map(|stem| format!("{stem}{to}"))
            .unwrap_or_default();
        let found = all.iter().any(|m| m.name == other);
        if found {
            Ok(other)
        } else {
            Err(format!("{name} has no {to}"))
        }
    };
    let module = |name: &str| format!("super::{}", name);
    match message.kind {
        Kind::Request => {
            let other = module(&pair("Request", "Response")?);
            let key = name.trim_end_matches("Request");
            out += &format!(
                "impl Request for {name} {{\nconst KEY: ApiKey = ApiKey::{key};\ntype Response = {other};\n}}\n"
            );
        }
        Kind::Response => {
            let other = module(&pair("Response", "Request")?);
            let key = name.trim_end_matches("Response");
            out += &format!(
                "impl Response for {name} {{\nconst KEY: ApiKey = ApiKey::{key};\ntype Request = {other};\n{}}}\n{}",
                errors::response_method(message)?,
                errors::nested_methods(message)?
            );
        }
        Kind::CoordinatorKey => {
            let other = module(&pair("Key", "Value")?);
            let number = message.key.ok_or("a coordinator key without its number")?;
            out += &format!(
                "impl RecordKey for {name} {{\nconst TYPE: i16 = {number};\ntype Value = {other};\n}}\n"
            );
        }
        Kind::CoordinatorValue | Kind::Header | Kind::Data => {}
    }
    Ok(out)
}

pub(crate) fn range(versions: Versions) -> String {
    format!("VersionRange {{ min: {}, max: {} }}", versions.min, versions.max)
}
