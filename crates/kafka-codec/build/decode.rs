//! Emits `Wire::read`.

use crate::names;
use crate::schema::{Condition, Field, Message, Struct, Type};
use crate::structs::default_value;

pub(crate) fn read(message: &Message, each: &Struct) -> String {
    let tagged: Vec<&Field> = each
        .fields
        .iter()
        .filter(|f| !each.tagged(f).is_empty())
        .collect();
    let mut out = "fn read(d: &mut Decoder, v: i16) -> Result<Self, DecodeError> {\n".to_owned();
    out += if tagged.is_empty() {
        "let s = Self {\n"
    } else {
        "let mut s = Self {\n"
    };
    for field in &each.fields {
        out += &format!("{}: {},\n", names::field(&field.name), untagged(each, field));
    }
    out += "};\n";
    if tagged.is_empty() {
        if !message.flexible.and(each.versions).is_empty() {
            out += "d.skip_tags()?;\n";
        }
    } else {
        out += "d.tags(&mut |d, tag| {\nmatch tag {\n";
        for field in tagged {
            out += &tag_arm(each, field);
        }
        out += "_ => return Ok(false),\n}\nOk(true)\n})?;\n";
    }
    out + "Ok(s)\n}\n"
}

/// The value of a field as far as it is not tagged.
fn untagged(each: &Struct, field: &Field) -> String {
    let default = default_value(each, field);
    if !each.tagged(field).is_empty() {
        return default;
    }
    match each.present(field).condition(each.versions) {
        Condition::Always => value(each, field),
        Condition::Never => default,
        Condition::When(test) => format!("if {test} {{ {} }} else {{ {default} }}", value(each, field)),
    }
}

fn value(each: &Struct, field: &Field) -> String {
    if field.classic {
        return "d.classic_nullable_string()?".to_owned();
    }
    if each.optional(field) {
        let allowed = field.nullable.condition(each.present(field));
        return match allowed {
            Condition::Always => "d.nullable(v)?".to_owned(),
            other => format!("d.nullable_if(v, {})?", other.expression()),
        };
    }
    let method = match &field.ty {
        Type::Bool => "bool",
        Type::Int8 => "i8",
        Type::Int16 => "i16",
        Type::Uint16 => "u16",
        Type::Int32 => "i32",
        Type::Int64 => "i64",
        Type::Float64 => "f64",
        Type::Uuid => "uuid",
        _ => return "Wire::read(d, v)?".to_owned(),
    };
    format!("d.{method}()?")
}

fn tag_arm(each: &Struct, field: &Field) -> String {
    let Some((tag, _)) = field.tag else {
        return String::new();
    };
    let guard = match each.tagged(field).condition(each.versions) {
        Condition::When(test) => format!(" if {test}"),
        _ => String::new(),
    };
    let read = match (&field.ty, each.optional(field)) {
        (Type::Struct(_), true) => "d.tagged_nullable_struct(v)?".to_owned(),
        _ => value(each, field),
    };
    format!("{tag}{guard} => s.{} = {read},\n", names::field(&field.name))
}
