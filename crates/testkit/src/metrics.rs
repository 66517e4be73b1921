//! Reads single values out of a process's metrics text.

/// The sum of all samples of `name` whose labels contain every given `label="value"`; 0 when there is none.
pub(crate) fn sum(text: &str, name: &str, labels: &[(&str, &str)]) -> f64 {
    let wanted: Vec<String> = labels
        .iter()
        .map(|(label, value)| format!("{label}=\"{value}\""))
        .collect();
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let (of, labels) = series.split_once('{').unwrap_or((series, ""));
            // Counters are spelt with a suffix in the text.
            let named = of == name || of.strip_suffix("_total") == Some(name);
            (named && wanted.iter().all(|wanted| labels.contains(wanted.as_str())))
                .then(|| value.parse::<f64>().ok())?
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_found_by_name_and_labels() {
        let text = "# HELP a x\na_total{reason=\"idle\"} 3\na_total{reason=\"io\"} 4\nab 7\n";
        assert_eq!(sum(text, "a", &[]), 7.0);
        assert_eq!(sum(text, "a", &[("reason", "io")]), 4.0);
        assert_eq!(sum(text, "ab", &[]), 7.0);
        assert_eq!(sum(text, "b", &[]), 0.0);
    }
}
