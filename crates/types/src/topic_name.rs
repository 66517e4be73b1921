//! Kafka's rules for topic names (`org.apache.kafka.common.internals.Topic`).

use thiserror::Error;

const NAME_LENGTH_MAX: usize = 249;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum TopicNameError {
    #[error("topic name is empty")]
    Empty,
    #[error("topic name cannot be \".\" or \"..\"")]
    Dots,
    #[error("topic name is longer than {NAME_LENGTH_MAX} characters")]
    TooLong,
    #[error("topic name has a character other than ASCII alphanumerics, '.', '_' and '-'")]
    IllegalCharacter,
}

pub fn validate_topic_name(name: &str) -> Result<(), TopicNameError> {
    if name.is_empty() {
        return Err(TopicNameError::Empty);
    }
    if name == "." || name == ".." {
        return Err(TopicNameError::Dots);
    }
    if name.len() > NAME_LENGTH_MAX {
        return Err(TopicNameError::TooLong);
    }
    if !name
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
    {
        return Err(TopicNameError::IllegalCharacter);
    }
    Ok(())
}

/// Two names with one key collide in Kafka's metric names (`.` and `_` look alike): the second is refused.
pub fn collision_key(name: &str) -> String {
    name.replace('.', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let long = "a".repeat(250);
        for (name, want) in [
            ("a.b_c-9", Ok(())),
            ("", Err(TopicNameError::Empty)),
            ("..", Err(TopicNameError::Dots)),
            ("../../etc", Err(TopicNameError::IllegalCharacter)),
            ("a\0b", Err(TopicNameError::IllegalCharacter)),
            ("ü", Err(TopicNameError::IllegalCharacter)),
            (long.as_str(), Err(TopicNameError::TooLong)),
        ] {
            assert_eq!(validate_topic_name(name), want, "{name}");
        }
        assert_eq!(collision_key("a.b"), collision_key("a_b"));
    }
}
