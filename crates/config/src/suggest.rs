//! "Did you mean": the known name that is the fewest edits away.

/// The nearest of `names`, when it is near enough to be a slip of the pen: at most a quarter of the letters.
pub fn suggest<'a>(wrong: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wrong = wrong.to_ascii_lowercase().replace(['_', '-'], ".");
    // Longer ones are no slips, and the distance costs the product of both lengths.
    if wrong.len() > 200 {
        return None;
    }
    names
        .into_iter()
        .map(|name| (distance(&wrong, name), name))
        .filter(|(edits, name)| *edits <= (name.len() / 4).max(1))
        .min()
        .map(|(_, name)| name)
}

/// Insertions, deletions, replacements and swaps of neighbours (optimal string alignment).
fn distance(from: &str, to: &str) -> usize {
    let from: Vec<char> = from.chars().collect();
    let to: Vec<char> = to.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for (row, a) in from.iter().enumerate() {
        let mut next = Vec::with_capacity(to.len() + 1);
        next.push(row + 1);
        for (column, b) in to.iter().enumerate() {
            let replaced = last[column] + usize::from(a != b);
            let mut best = replaced.min(last[column + 1] + 1).min(next[column] + 1);
            if row > 0 && column > 0 && from[row - 1] == *b && to[column - 1] == *a {
                best = best.min(before[column - 1] + 1);
            }
            next.push(best);
        }
        before = std::mem::replace(&mut last, next);
    }
    last.last().copied().unwrap_or(from.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_found_and_nonsense_is_not() {
        let names = ["retention.ms", "retention.bytes", "segment.ms"];
        assert_eq!(suggest("retention.mss", names), Some("retention.ms"));
        assert_eq!(suggest("retenton_ms", names), Some("retention.ms"));
        assert_eq!(suggest("retnetion.bytes", names), Some("retention.bytes"));
        assert_eq!(suggest("colour", names), None);
        assert_eq!(suggest("", names), None);
        assert_eq!(suggest(&"x".repeat(10_000), names), None);
    }

    #[test]
    fn distances() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", ""), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("ab", "ba"), 1);
    }
}
