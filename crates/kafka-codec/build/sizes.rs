//! Emits `Wire::min_size`: the least bytes a struct takes, which bounds how many an array may claim to hold.

use crate::schema::{Field, Message, Struct, Type};

pub(crate) fn min_size(message: &Message, each: &Struct) -> Result<String, String> {
    let mut arms: Vec<(i16, usize)> = Vec::new();
    for version in each.versions.min..=each.versions.max {
        let size = struct_size(message, each, version)?;
        match arms.last_mut() {
            Some((last, same)) if *same == size => *last = version,
            _ => arms.push((version, size)),
        }
    }
    let (_, tail) = arms.pop().unwrap_or_default();
    let body = if arms.is_empty() {
        tail.to_string()
    } else {
        let arms: String = arms
            .iter()
            .map(|(last, size)| format!("..={last} => {size},\n"))
            .collect();
        format!("match v {{\n{arms}_ => {tail},\n}}")
    };
    Ok(format!("fn min_size(v: i16, _: bool) -> usize {{\n{body}\n}}\n"))
}

fn struct_size(message: &Message, each: &Struct, version: i16) -> Result<usize, String> {
    let mut size = usize::from(message.flexible.contains(version));
    for field in &each.fields {
        if each.present(field).contains(version) && !each.tagged(field).contains(version) {
            size += field_size(message, field, version)?;
        }
    }
    Ok(size)
}

fn field_size(message: &Message, field: &Field, version: i16) -> Result<usize, String> {
    let flexible = message.flexible.contains(version) && !field.classic;
    Ok(match &field.ty {
        Type::Bool | Type::Int8 => 1,
        Type::Int16 | Type::Uint16 => 2,
        Type::Int32 => 4,
        Type::Int64 | Type::Float64 => 8,
        Type::Uuid => 16,
        Type::String | Type::Bytes | Type::Records | Type::Array(_) if flexible => 1,
        Type::String => 2,
        Type::Bytes | Type::Records | Type::Array(_) => 4,
        Type::Struct(_) if field.nullable.contains(version) => 1,
        Type::Struct(name) => struct_size(message, message.struct_named(name)?, version)?,
    })
}
