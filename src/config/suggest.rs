//! Did-you-mean, and what of a stranger's name may be shown at all.

/// Longest name that a message repeats. A longer one may be a credential in the wrong place.
const SHOWN_NAME_CHARS_MAX: usize = 20;
/// Longest name that is compared; no name of ours comes near.
const COMPARED_NAME_CHARS_MAX: usize = 64;

/// The candidate that was probably meant: near enough that a slip of the hand explains it.
pub fn closest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = folded(name);
    if wanted.is_empty() || wanted.len() > COMPARED_NAME_CHARS_MAX {
        return None;
    }
    let far = (wanted.len() / 3).clamp(1, 3);
    candidates
        .into_iter()
        .map(|candidate| (distance(&wanted, &folded(candidate)), candidate))
        .filter(|(distance, _)| *distance <= far)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Whether a message may repeat a name that nobody asked for: it looks like an identifier and is
/// shorter than any credential that shows its edges.
pub fn is_showable(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= SHOWN_NAME_CHARS_MAX
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.$@/-".contains(&b))
}

/// Case and the choice of separator are not what people mean to say.
fn folded(name: &str) -> Vec<char> {
    name.chars().filter(|c| !matches!(c, '_' | '-' | ' ')).map(|c| c.to_ascii_lowercase()).collect()
}

/// Edits from one to the other: insert, delete, replace, swap two neighbours.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    let mut previous = None;
    for (i, x) in a.iter().enumerate() {
        let mut row = Vec::with_capacity(b.len() + 1);
        row.push(i + 1);
        let mut left = i + 1;
        for (j, y) in b.iter().enumerate() {
            let at = |row: &[usize], j: usize| row.get(j).copied().unwrap_or(usize::MAX - 1);
            let mut best = (at(&last, j) + usize::from(x != y)).min(at(&last, j + 1) + 1).min(left + 1);
            let swapped = j > 0 && previous == Some(y) && b.get(j - 1) == Some(x);
            if swapped {
                best = best.min(at(&before, j - 1) + 1);
            }
            row.push(best);
            left = best;
        }
        before = std::mem::replace(&mut last, row);
        previous = Some(x);
    }
    last.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_found_and_strangers_are_not() {
        let names = ["weight", "models", "blacklisted_models", "network_config", "enabled", "id"];
        for (written, meant) in [
            ("wieght", Some("weight")),
            ("Weight", Some("weight")),
            ("model", Some("models")),
            ("networkConfig", Some("network_config")),
            ("blacklistedModels", Some("blacklisted_models")),
            ("enable", Some("enabled")),
            ("di", Some("id")),
            ("temperature", None),
            ("", None),
            ("sk-proj-abcdefghijklmnop", None),
        ] {
            assert_eq!(closest(written, names), meant, "{written}");
        }
    }

    #[test]
    fn what_may_be_shown() {
        for (name, shown) in [
            ("temperature", true),
            ("$schema", true),
            ("@fast", true),
            ("", false),
            ("a b", false),
            ("línea", false),
            ("sk-proj-abcdefghijklmnop", false),
        ] {
            assert_eq!(is_showable(name), shown, "{name}");
        }
    }
}
