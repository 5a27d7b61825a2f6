//! `ETag`, `If-Match` and `If-None-Match`: the config_hash of what is shown, in quotes.

use http::header::{HeaderMap, HeaderName, HeaderValue, IF_MATCH, IF_NONE_MATCH};

use crate::hash::ConfigHash;
use crate::store::Refused;

/// What a caller knows of the state that it is about to change.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum IfMatch {
    /// Nothing was said.
    #[default]
    None,
    /// `*`: it must be there, whatever its state.
    Any,
    /// One of these. A weak tag matches nothing here (RFC 9110 13.1.1).
    Tags(Vec<String>),
}

impl IfMatch {
    pub fn of(head: &HeaderMap) -> Self {
        match tags(head, &IF_MATCH) {
            None => Self::None,
            Some(tags) if tags.iter().any(|tag| tag == "*") => Self::Any,
            Some(tags) => Self::Tags(tags),
        }
    }

    /// Whether the change may go on; `None` = there is no such thing yet.
    pub fn admits(&self, current: Option<ConfigHash>) -> Result<(), Refused> {
        let fits = match (self, current) {
            (Self::None, _) | (Self::Any, Some(_)) => true,
            (Self::Any | Self::Tags(_), None) => false,
            (Self::Tags(tags), Some(current)) => {
                let current = quoted(current);
                tags.contains(&current)
            }
        };
        fits.then_some(()).ok_or(Refused::Stale)
    }
}

/// Whether the caller has this state already, so that 304 will do.
pub fn is_known(head: &HeaderMap, current: ConfigHash) -> bool {
    let current = quoted(current);
    tags(head, &IF_NONE_MATCH)
        .unwrap_or_default()
        .iter()
        .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == current)
}

/// The value of `ETag`.
pub fn header(hash: ConfigHash) -> HeaderValue {
    // Quotes and hex always fit.
    HeaderValue::from_str(&quoted(hash)).unwrap_or_else(|_| HeaderValue::from_static("\"\""))
}

fn quoted(hash: ConfigHash) -> String {
    format!("\"{}\"", hash.hex())
}

/// Our own tags hold no comma, hence a list can be split at them.
fn tags(head: &HeaderMap, name: &HeaderName) -> Option<Vec<String>> {
    let mut values = head.get_all(name).iter().peekable();
    values.peek()?;
    let texts = values.map(|value| value.to_str().unwrap_or_default());
    Some(
        texts.flat_map(|text| text.split(',')).map(|tag| tag.trim().to_owned()).filter(|tag| !tag.is_empty()).collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(name: HeaderName, value: &str) -> HeaderMap {
        [(name, HeaderValue::from_str(value).unwrap())].into_iter().collect()
    }

    #[test]
    fn table() {
        let hash = ConfigHash::of_bytes(b"now");
        let (mine, old) = (quoted(hash), quoted(ConfigHash::of_bytes(b"old")));
        for (value, admits, known) in [
            (mine.clone(), true, true),
            (format!("{old}, {mine}"), true, true),
            (format!("W/{mine}"), false, true),
            ("*".to_owned(), true, true),
            (old.clone(), false, false),
            (hash.hex(), false, false),
            (String::new(), false, false),
        ] {
            assert_eq!(IfMatch::of(&head(IF_MATCH, &value)).admits(Some(hash)).is_ok(), admits, "{value}");
            assert_eq!(is_known(&head(IF_NONE_MATCH, &value), hash), known, "{value}");
            assert_eq!(IfMatch::of(&head(IF_MATCH, &value)).admits(None), Err(Refused::Stale), "{value}");
        }
        assert_eq!(IfMatch::of(&HeaderMap::new()).admits(None), Ok(()));
        assert!(!is_known(&HeaderMap::new(), hash));
        assert_eq!(header(hash), &*mine);
    }
}
