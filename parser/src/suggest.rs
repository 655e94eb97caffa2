//! "Did you mean …?"

/// How many letters a name may be off and still be taken for a slip.
const MAX_DISTANCE: usize = 2;

/// Names longer than this are not compared: nobody mistypes them by two letters, and the cost is their square.
const MAX_LENGTH: usize = 128;

/// The candidate nearest to `name`, upper and lower case being equal, if it is near enough to be what was
/// meant. None where `name` is one of the candidates.
pub fn did_you_mean<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted: Vec<char> = name.to_lowercase().chars().take(MAX_LENGTH + 1).collect();
    if wanted.len() > MAX_LENGTH {
        return None;
    }
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates {
        let letters: Vec<char> = candidate.to_lowercase().chars().take(MAX_LENGTH + 1).collect();
        if letters.len().abs_diff(wanted.len()) > MAX_DISTANCE {
            continue;
        }
        let distance = distance(&wanted, &letters);
        if distance == 0 {
            return None;
        }
        // Short names are two slips away from everything: at most one letter in three may be wrong.
        let near = distance <= MAX_DISTANCE && distance * 3 <= wanted.len().max(letters.len());
        if near && best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// ` (did you mean X?)`, or nothing.
pub(crate) fn suffix<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    did_you_mean(name, candidates).map(|near| format!(" (did you mean {near}?)")).unwrap_or_default()
}

/// Insertions, deletions, replacements and swaps of neighbours from one word to the other.
fn distance(from: &[char], to: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in to.iter().enumerate() {
            let mut least = (last[j] + usize::from(a != b)).min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == to[j - 1] && from[i - 1] == *b {
                least = least.min(before[j - 1] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_found_and_far_ones_are_not() {
        assert_eq!(did_you_mean("bulid", ["base", "build"]), Some("build"));
        assert_eq!(did_you_mean("FNTRYPOINT", ["ENV", "ENTRYPOINT"]), Some("ENTRYPOINT"));
        assert_eq!(did_you_mean("BUILD", ["build"]), None, "the same but for case is no slip");
        assert_eq!(did_you_mean("xyz", ["build"]), None);
        assert_eq!(did_you_mean("ab", ["cd"]), None, "nothing in common");
        assert_eq!(did_you_mean("rnu", ["ENV", "RUN"]), Some("RUN"), "swapped letters are one slip");
        assert_eq!(did_you_mean("NOPE", ["COPY"]), None, "half of it is wrong");
        assert_eq!(did_you_mean(&"x".repeat(1 << 20), ["x"]), None);
    }
}
