//! Emits `Wire::write`.

use crate::names;
use crate::schema::{Condition, Field, Message, Struct, Type};
use crate::structs::differs;

pub(crate) fn write(message: &Message, each: &Struct) -> String {
    let mut out = "fn write(&self, e: &mut Encoder, v: i16) -> Result<(), EncodeError> {\n".to_owned();
    for field in &each.fields {
        out += &untagged(message, each, field);
    }
    if !message.flexible.and(each.versions).is_empty() {
        out += &tags(each);
    }
    out + "Ok(())\n}\n"
}

fn label(each: &Struct, field: &Field) -> String {
    format!("{:?}", format!("{}.{}", each.name, names::snake(&field.name)))
}

/// Writes a field where it exists; where it does not, refuses a value that would be lost (unless it is ignorable).
fn untagged(message: &Message, each: &Struct, field: &Field) -> String {
    let lost = if field.ignorable {
        String::new()
    } else {
        format!(
            "if {} {{ return Err(e.unavailable({}, v)); }}\n",
            differs(each, field),
            label(each, field)
        )
    };
    let tagged = !each.tagged(field).is_empty();
    debug_assert!(
        !tagged || each.tagged(field) == each.present(field),
        "{}",
        message.name
    );
    let written = if tagged { String::new() } else { value(each, field) };
    match each.present(field).condition(each.versions) {
        Condition::Always => written,
        Condition::Never => lost,
        Condition::When(test) => match (written.is_empty(), lost.is_empty()) {
            (true, true) => String::new(),
            (false, true) => format!("if {test} {{\n{written}}}\n"),
            (true, false) => format!("if !({test}) {{\n{lost}}}\n"),
            (false, false) => format!("if {test} {{\n{written}}} else {{\n{lost}}}\n"),
        },
    }
}

fn value(each: &Struct, field: &Field) -> String {
    let name = format!("self.{}", names::field(&field.name));
    if field.classic {
        return format!("e.classic_nullable_string({name}.as_ref())?;\n");
    }
    if each.optional(field) {
        return match field.nullable.condition(each.present(field)) {
            Condition::Always => format!("e.nullable({name}.as_ref(), v)?;\n"),
            other => {
                let allowed = other.expression();
                format!(
                    "e.nullable_if({name}.as_ref(), v, {allowed}, {})?;\n",
                    label(each, field)
                )
            }
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
        _ => return format!("{name}.write(e, v)?;\n"),
    };
    format!("e.{method}({name});\n")
}

/// The tagged section: fields that differ from their defaults, in the order of their tags.
fn tags(each: &Struct) -> String {
    let mut tagged: Vec<(u32, &Field)> = each
        .fields
        .iter()
        .filter(|f| !each.tagged(f).is_empty())
        .filter_map(|f| f.tag.map(|(tag, _)| (tag, f)))
        .collect();
    if tagged.is_empty() {
        return "e.no_tags();\n".to_owned();
    }
    tagged.sort_by_key(|(tag, _)| *tag);
    let mut out = "if e.is_flexible() {\nlet mut tags = e.begin_tags();\n".to_owned();
    for (tag, field) in tagged {
        let differs = differs(each, field);
        let test = match each.tagged(field).condition(each.versions) {
            Condition::When(test) => format!("{test} && {differs}"),
            _ => differs,
        };
        let write = match (&field.ty, each.optional(field)) {
            (Type::Struct(_), true) => {
                format!(
                    "e.tagged_nullable_struct(self.{}.as_ref(), v)?;\n",
                    names::field(&field.name)
                )
            }
            _ => value(each, field),
        };
        out += &format!(
            "if {test} {{\nlet start = e.begin_tag({tag});\n{write}e.end_tag(&mut tags, start);\n}}\n"
        );
    }
    out + "e.end_tags(&tags);\n}\n"
}
