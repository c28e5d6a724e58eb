//! What to do about an error.

use crate::schema::Mapping;

/// The key that was probably meant.
pub(super) fn unknown_key(candidates: &[&Mapping], name: &str) -> Option<String> {
    if name == "<<" {
        return Some(
            "GitHub does not support merge keys; write an alias where the whole value goes".to_owned(),
        );
    }
    let keys = candidates.iter().flat_map(|mapping| &mapping.keys).map(|key| &*key.name);
    let (distance, key) = keys.map(|key| (distance(key, name), key)).min()?;
    // More than a third of the letters wrong is another word.
    (distance <= name.chars().count().max(3) / 3).then(|| format!("Did you mean '{key}'?"))
}

/// What an expression may use at its place.
pub(super) fn names(names: &[Box<str>]) -> Option<String> {
    if names.is_empty() {
        return None;
    }
    let names: Vec<&str> = names.iter().map(|name| name.split('(').next().unwrap_or(name)).collect();
    Some(format!("Available here: {}", names.join(", ")))
}

/// How many letters must be added, dropped, changed or swapped with their neighbour.
fn distance(left: &str, right: &str) -> usize {
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().collect(), right.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.iter().enumerate() {
        let mut next = vec![i + 1];
        for (j, b) in right.iter().enumerate() {
            let mut best = (row[j] + usize::from(a != b)).min(row[j + 1] + 1).min(next[j] + 1);
            if i > 0 && j > 0 && *a == right[j - 1] && left[i - 1] == *b {
                best = best.min(before[j - 1] + 1);
            }
            next.push(best);
        }
        before = std::mem::replace(&mut row, next);
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use crate::workflow::Workflow;

    fn hint(text: &str) -> Option<String> {
        Workflow::parse(text, "w.yml").expect_err("an error")[0].hint.clone()
    }

    #[test]
    fn a_misspelt_key_is_recognized() {
        let text = |key: &str| format!("on: push\njobs: {{a: {{runs-on: x, {key}: [{{run: x}}]}}}}");
        assert_eq!(hint(&text("setps")), Some("Did you mean 'steps'?".into()));
        assert_eq!(hint(&text("something")), None);
    }

    #[test]
    fn a_forbidden_context_gets_the_list() {
        let text = "on: push\nrun-name: ${{ matrix.x }}\njobs: {a: {runs-on: x}}";
        assert_eq!(hint(text), Some("Available here: github, inputs, vars".into()));
    }
}
