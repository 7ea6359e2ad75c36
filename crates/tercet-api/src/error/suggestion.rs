//! "Perhaps you meant …": the existing name most similar to a missing one.
//!
//! Two steps, so that a schema with thousands of names is searched quickly: trigram and bigram similarity selects
//! fifty names, the edit distance decides among them.

use std::collections::{HashMap, HashSet};

/// The minimum similarity for suggesting a table or routine.
pub const SIMILAR: f64 = 0.75;

/// The minimum similarity for any suggestion.
pub const RELATED: f64 = 0.33;

/// The number of names compared by edit distance.
const CANDIDATES: usize = 50;

/// The name most similar to `wanted`, if its similarity is between `minimum` and 1; the first of equally similar
/// ones.
pub fn closest<'n>(
    wanted: &str,
    names: &(impl Iterator<Item = &'n str> + Clone),
    minimum: f64,
) -> Option<(f64, &'n str)> {
    let folded = wanted.to_lowercase();
    if let Some(name) = names.clone().find(|name| name.to_lowercase() == folded) {
        return Some((1.0, name));
    }
    [3, 2].into_iter().find_map(|size| {
        let wanted_grams = grams(&folded, size);
        let mut seen = HashSet::new();
        let mut candidates: Vec<(f64, String, &str)> = names
            .clone()
            .map(|name| (name.to_lowercase(), name))
            .filter(|(folded, _)| seen.insert(folded.clone()))
            .filter_map(|(candidate, name)| {
                let cosine = cosine(&wanted_grams, &grams(&candidate, size));
                (cosine > 0.0).then_some((cosine, candidate, name))
            })
            .collect();
        candidates.sort_by(|left, right| right.0.total_cmp(&left.0));
        candidates.truncate(CANDIDATES);
        let mut scored: Vec<_> =
            candidates.iter().map(|(_, candidate, name)| (similarity(&folded, candidate), *name)).collect();
        scored.sort_by(|left, right| right.0.total_cmp(&left.0));
        scored.first().copied().filter(|(score, _)| *score >= minimum)
    })
}

/// The number of occurrences of each group of `size` characters in the name, padded with dashes.
fn grams(name: &str, size: usize) -> HashMap<String, u32> {
    let letters: Vec<char> = std::iter::once('-')
        .chain(name.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | ',')))
        .chain(std::iter::once('-'))
        .collect();
    let mut counts = HashMap::new();
    for group in letters.windows(size) {
        *counts.entry(group.iter().collect()).or_default() += 1;
    }
    counts
}

fn cosine(left: &HashMap<String, u32>, right: &HashMap<String, u32>) -> f64 {
    let product: f64 =
        left.iter().filter_map(|(gram, count)| right.get(gram).map(|other| f64::from(count * other))).sum();
    let length = |grams: &HashMap<String, u32>| {
        grams.values().map(|&count| f64::from(count).powi(2)).sum::<f64>().sqrt()
    };
    product / (length(left) * length(right)).max(f64::MIN_POSITIVE)
}

/// 1 for equal texts, 0 for texts without anything in common (Levenshtein distance over the longer length).
fn similarity(left: &str, right: &str) -> f64 {
    let left: Vec<char> = left.chars().collect();
    let right: Vec<char> = right.chars().collect();
    let longest = left.len().max(right.len()).max(1);
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in right.iter().enumerate() {
            let substituted = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    1.0 - row[right.len()] as f64 / longest as f64
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(wanted: &str, names: &[&str], minimum: f64, expect: &Expect) {
        let found = closest(wanted, &names.iter().copied(), minimum);
        expect.assert_eq(&found.map(|(score, name)| format!("{name} {score:.2}")).unwrap_or_default());
    }

    #[test]
    fn suggests_the_name_with_the_fewest_edits() {
        let films = ["films", "film_actors", "actors"];
        check("film", &films, SIMILAR, &expect!["films 0.80"]);
        check("FILMS", &films, SIMILAR, &expect!["films 1.00"]);
        check("actor", &films, SIMILAR, &expect!["actors 0.83"]);
        check("director", &films, SIMILAR, &expect![""]);
        check("filmed", &films, SIMILAR, &expect![""]);
        check("filmed", &films, RELATED, &expect!["films 0.67"]);
        check("", &films, RELATED, &expect![""]);
        check("x", &[], RELATED, &expect![""]);
    }
}
