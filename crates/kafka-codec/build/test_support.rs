//! Emits what only the crate's own tests compile: Kafka's JSON form, random messages, and a list of all messages.

use crate::names;
use crate::schema::{Condition, Field, Message, Struct, Type};
use crate::structs::{default_value, differs};

#[derive(Default)]
pub(crate) struct Emitter {
    impls: String,
    list: String,
}

impl Emitter {
    pub(crate) fn add(&mut self, root: &str, messages: &[Message]) -> Result<(), String> {
        for message in messages.iter().filter(|m| !m.versions.is_empty()) {
            let path = format!("{root}::{}", names::snake(&message.name));
            self.list += &format!("$m!({path}::{});\n", message.name);
            for each in &message.structs {
                let ty = format!("{path}::{}", each.name);
                self.impls += &json(&ty, each);
                self.impls += &random(&ty, each);
            }
        }
        Ok(())
    }

    pub(crate) fn finish(self) -> String {
        let Self { impls, list } = self;
        format!("{impls}\nmacro_rules! for_each_message {{\n($m:ident) => {{\n{list}}};\n}}\n")
    }
}

fn json(ty: &str, each: &Struct) -> String {
    let mut out =
        format!("impl ToJson for {ty} {{\nfn json(&self, v: i16) -> Value {{\nlet mut m = Map::new();\n");
    for field in &each.fields {
        let name = names::field(&field.name);
        let value = match (&field.ty, each.optional(field)) {
            (Type::Records, true) => format!("records(self.{name}.as_ref())"),
            (Type::Records, false) => format!("records(Some(&self.{name}))"),
            _ => format!("self.{name}.json(v)"),
        };
        let mut tests = Vec::new();
        match each.present(field).condition(each.versions) {
            Condition::Always => {}
            Condition::Never => continue,
            Condition::When(test) => tests.push(test),
        }
        if !each.tagged(field).is_empty() {
            tests.push(differs(each, field));
        }
        let test = if tests.is_empty() {
            "true".to_owned()
        } else {
            tests.join(" && ")
        };
        out += &format!(
            "if {test} {{ m.insert({:?}.to_owned(), {value}); }}\n",
            names::camel(&field.name)
        );
    }
    out + "Value::Object(m)\n}\n}\n"
}

fn random(ty: &str, each: &Struct) -> String {
    let mut out = format!("impl Random for {ty} {{\nfn random(g: &mut Gen, v: i16) -> Self {{\nSelf {{\n");
    for field in &each.fields {
        let default = default_value(each, field);
        let value = match each.present(field).condition(each.versions) {
            Condition::Always => random_value(each, field),
            Condition::Never => default,
            Condition::When(test) => format!(
                "if {test} {{ {} }} else {{ {default} }}",
                random_value(each, field)
            ),
        };
        out += &format!("{}: {value},\n", names::field(&field.name));
    }
    out + "}\n}\n}\n"
}

fn random_value(each: &Struct, field: &Field) -> String {
    if each.optional(field) {
        let allowed = field.nullable.condition(each.present(field));
        return format!("g.optional(v, {})", allowed.expression());
    }
    "Random::random(g, v)".to_owned()
}
