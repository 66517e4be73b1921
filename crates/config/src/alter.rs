//! The operations of IncrementalAlterConfigs on one value (KIP-339).

use crate::error::ConfigError;
use crate::key::{Key, Kind};

/// Kafka's `AlterConfigOp.OpType`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AlterOp {
    Set,
    Delete,
    Append,
    Subtract,
}

impl AlterOp {
    /// The number in IncrementalAlterConfigs requests; `None` for any other.
    pub const fn from_wire(id: i8) -> Option<AlterOp> {
        match id {
            0 => Some(AlterOp::Set),
            1 => Some(AlterOp::Delete),
            2 => Some(AlterOp::Append),
            3 => Some(AlterOp::Subtract),
            _ => None,
        }
    }
}

/// What the resource's own value becomes: `Some` to store, `None` to remove. `current` is its own value before,
/// if any; a list without one starts from the key's default, as Kafka's controller does. The result still has
/// to pass the validation of the whole resource.
pub fn alter(
    key: &Key,
    op: AlterOp,
    current: Option<&str>,
    operand: &str,
) -> Result<Option<String>, ConfigError> {
    let name = match op {
        AlterOp::Set => return Ok(Some(operand.to_owned())),
        AlterOp::Delete => return Ok(None),
        AlterOp::Append => "APPEND",
        AlterOp::Subtract => "SUBTRACT",
    };
    if key.kind != Kind::List {
        return Err(ConfigError::NotAList {
            op: name,
            name: key.name.to_owned(),
        });
    }
    let split = |text: &str| -> Vec<String> {
        text.split(',')
            .map(|item| item.trim().to_owned())
            .filter(|item| !item.is_empty())
            .collect()
    };
    let mut items = split(current.or(key.default).unwrap_or_default());
    for item in split(operand) {
        match op {
            AlterOp::Append if !items.contains(&item) => items.push(item),
            AlterOp::Subtract => items.retain(|other| *other != item),
            _ => {}
        }
    }
    Ok(Some(items.join(",")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Scope;
    use crate::registry::registry;

    #[test]
    fn lists_grow_and_shrink() {
        let key = registry().get(Scope::Topic, "cleanup.policy").unwrap();
        let run = |op, current, operand| alter(key, op, current, operand).unwrap();
        assert_eq!(
            run(AlterOp::Append, None, "compact").as_deref(),
            Some("delete,compact")
        );
        assert_eq!(
            run(AlterOp::Append, Some("compact"), "compact,delete").as_deref(),
            Some("compact,delete")
        );
        assert_eq!(
            run(AlterOp::Subtract, Some("compact, delete"), "delete").as_deref(),
            Some("compact")
        );
        assert_eq!(run(AlterOp::Subtract, None, "delete").as_deref(), Some(""));
        assert_eq!(run(AlterOp::Set, Some("x"), "y").as_deref(), Some("y"));
        assert_eq!(run(AlterOp::Delete, Some("x"), ""), None);
    }

    #[test]
    fn only_lists_can() {
        let key = registry().get(Scope::Topic, "retention.ms").unwrap();
        let error = alter(key, AlterOp::Append, None, "1").unwrap_err();
        assert_eq!(
            error.to_string(),
            "Can't APPEND to key retention.ms because its type is not LIST."
        );
    }
}
