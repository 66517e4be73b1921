//! Emits the `ApiKey` enum and its table.

use crate::schema::{Kind, Message};
use crate::structs::range;

pub(crate) fn emit(wire: &[Message]) -> Result<String, String> {
    let mut requests: Vec<(i16, &Message)> = wire
        .iter()
        .filter(|m| m.kind == Kind::Request)
        .filter_map(|m| Some((m.key?, m)))
        .collect();
    requests.sort_by_key(|(key, _)| *key);
    let mut variants = String::new();
    let mut all = String::new();
    let mut table = String::new();
    for (i, (key, message)) in requests.iter().enumerate() {
        if usize::try_from(*key) != Ok(i) {
            return Err(format!("api keys are not dense at {key}"));
        }
        let name = message.name.trim_end_matches("Request");
        variants += &format!("{name} = {key},\n");
        all += &format!("Self::{name},\n");
        table += &entry(name, message);
    }
    let count = requests.len();
    Ok(format!(
        "/// The APIs of Kafka 4.3.1 by number, the ones removed in 4.0 included.\n\
         #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]\n#[repr(i16)]\n\
         pub enum ApiKey {{\n{variants}}}\n\
         impl ApiKey {{\n/// Every key, in order of its number.\npub const ALL: [Self; {count}] = [\n{all}];\n}}\n\
         static TABLE: [Entry; {count}] = [\n{table}];\n"
    ))
}

fn entry(name: &str, message: &Message) -> String {
    let flexible = if message.flexible.is_empty() {
        i16::MAX
    } else {
        message.flexible.min
    };
    let stable = message.versions.max - i16::from(message.latest_unstable);
    let on = |listener: &str| message.listeners.iter().any(|l| l == listener);
    format!(
        "Entry {{ name: {name:?}, versions: {}, latest_stable: {stable}, flexible_from: {flexible}, \
         on_broker: {}, on_controller: {} }},\n",
        range(message.versions),
        on("broker"),
        on("controller"),
    )
}
