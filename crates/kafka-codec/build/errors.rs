//! Emits the walk over a response's error codes: which structs hold some, and where.

use std::fmt::Write;

use crate::names;
use crate::schema::{Field, Message, Struct, Type};

/// Kafka's names of the fields that hold one.
const ERROR_FIELDS: [&str; 2] = ["ErrorCode", "PartitionErrorCode"];

/// `error_codes` of the message's struct as a method of `Response`.
pub(crate) fn response_method(message: &Message) -> Result<String, String> {
    let head = message.structs.first().ok_or("a message without a struct")?;
    Ok(method(message, head, ""))
}

/// The same of the structs nested in it, those that hold error codes.
pub(crate) fn nested_methods(message: &Message) -> Result<String, String> {
    let mut out = String::new();
    for each in message.structs.iter().skip(1).filter(|each| holds(message, each)) {
        let body = method(message, each, "pub(crate) ");
        writeln!(out, "impl {} {{\n{body}}}", each.name).map_err(|e| e.to_string())?;
    }
    Ok(out)
}

fn method(message: &Message, each: &Struct, visibility: &str) -> String {
    let mut out = format!("{visibility}fn error_codes(&self, visit: &mut dyn FnMut(i16)) {{\n");
    for field in &each.fields {
        let name = format!("self.{}", names::field(&field.name));
        if is_error(field) {
            out += &format!("visit({name});\n");
        } else if nested(message, field) {
            let optional = each.optional(field);
            let many = matches!(field.ty, Type::Array(_));
            let items = match (many, optional) {
                (true, true) => format!("{name}.iter().flatten()"),
                (true, false) | (false, true) => format!("{name}.iter()"),
                (false, false) => format!("std::iter::once(&{name})"),
            };
            out += &format!("{items}.for_each(|part| part.error_codes(visit));\n");
        }
    }
    out + "}\n"
}

fn is_error(field: &Field) -> bool {
    field.ty == Type::Int16 && ERROR_FIELDS.contains(&field.name.as_str())
}

/// Whether the field's structs hold error codes.
fn nested(message: &Message, field: &Field) -> bool {
    let ty = match &field.ty {
        Type::Array(of) => of,
        other => other,
    };
    match ty {
        Type::Struct(name) => message.struct_named(name).is_ok_and(|each| holds(message, each)),
        _ => false,
    }
}

fn holds(message: &Message, each: &Struct) -> bool {
    each.fields
        .iter()
        .any(|field| is_error(field) || nested(message, field))
}
