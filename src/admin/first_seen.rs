//! When a key that the file says nothing of was first seen, and when it last changed: the times of
//! the generations in which a process with this state met it. Bounded by the keys of the running
//! generation.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::OnceCell;

use crate::config::syntax::{Kind, Value};
use crate::id::KeyId;
use crate::snapshot::{Key, Snapshot};
use crate::state::{Sight, State};

/// RFC 3339, never null (CONTRACT 2.3).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Times {
    pub created_at: String,
    pub updated_at: String,
}

/// What is remembered of keys without times of their own.
#[derive(Debug, Default)]
pub struct FirstSeen {
    known: Mutex<Known>,
    recalled: OnceCell<()>,
}

#[derive(Debug, Default)]
struct Known {
    /// The generation that was looked at last.
    generation: u64,
    keys: HashMap<KeyId, Sight>,
}

impl FirstSeen {
    /// Takes in what earlier processes have seen, before the first look. A state that does not
    /// answer remembers nothing.
    pub async fn recall(&self, state: &State) {
        let all = async || {
            let sights = state.all_seen().await.unwrap_or_default();
            self.known.lock().unwrap_or_else(PoisonError::into_inner).keys.extend(sights);
        };
        self.recalled.get_or_init(all).await;
    }

    /// Looks at a generation that was applied at a time; keys that it lacks are forgotten. Returns
    /// what is to be remembered anew.
    pub fn look(&self, snapshot: &Snapshot, applied_at: SystemTime) -> Vec<(KeyId, Sight)> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.generation == snapshot.mark.number {
            return Vec::new();
        }
        let mut news = Vec::new();
        let keys = snapshot.providers.iter().flat_map(|provider| &provider.keys);
        let next = keys.map(|key| {
            let sight = match known.keys.get(&key.id) {
                Some(sight) if sight.hash == key.hash => return (key.id.clone(), *sight),
                Some(sight) => Sight { hash: key.hash, first: sight.first, changed: applied_at },
                None => Sight { hash: key.hash, first: applied_at, changed: applied_at },
            };
            news.push((key.id.clone(), sight));
            (key.id.clone(), sight)
        });
        let keys = next.collect();
        *known = Known { generation: snapshot.mark.number, keys };
        news
    }

    /// What the file says of the key, else what was seen of it.
    pub fn times(&self, stored: &Value, key: &Key) -> Times {
        let seen = self.known.lock().unwrap_or_else(PoisonError::into_inner).keys.get(&key.id).copied();
        let (first, changed) = seen.map_or((SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH), |s| (s.first, s.changed));
        let created_at = text(stored, "created_at");
        let updated_at = text(stored, "updated_at").or_else(|| created_at.clone());
        Times {
            created_at: created_at.unwrap_or_else(|| rfc3339(first)),
            updated_at: updated_at.unwrap_or_else(|| rfc3339(changed)),
        }
    }
}

fn text(stored: &Value, member: &str) -> Option<String> {
    match &stored.member(member)?.value.kind {
        Kind::Text(text) => Some(text.to_string()),
        _ => None,
    }
}

/// To the second. A time before 1970 or after 9999 does not occur; it would be shown as the epoch.
pub fn rfc3339(at: SystemTime) -> String {
    let at = OffsetDateTime::from(at);
    let at = at.replace_nanosecond(0).unwrap_or(at);
    at.format(&Rfc3339).unwrap_or_else(|_| "1970-01-01T00:00:00Z".to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::config::Tree;
    use crate::hash::ConfigHash;
    use crate::snapshot::GenerationMark;
    use crate::snapshot::fixture::{key, provider, snapshot};

    #[test]
    fn first_sight_stays_and_a_change_is_noticed() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let seen = FirstSeen::default();
        let bare = Tree::parse("{}").unwrap();
        let numbered = |number, key| {
            let mut made = snapshot(vec![provider("openai", vec![key])]);
            made.mark = Arc::new(GenerationMark::new(number, ConfigHash::of_bytes(b"")));
            made
        };
        let one = numbered(1, key("a"));
        assert_eq!(seen.look(&one, at(10)).len(), 1);
        assert_eq!(seen.look(&one, at(20)), []);
        assert_eq!(seen.look(&numbered(2, key("a")), at(25)), []);
        let held = &one.providers[0].keys[0];
        let times = seen.times(bare.root(), held);
        assert_eq!((times.created_at.as_str(), &times.updated_at), ("1970-01-01T00:00:10Z", &times.created_at));

        let mut other = key("a");
        other.hash = ConfigHash::of_bytes(b"other");
        let other = numbered(3, other);
        assert_eq!(seen.look(&other, at(30)).len(), 1);
        let times = seen.times(bare.root(), &other.providers[0].keys[0]);
        assert_eq!(times.created_at, "1970-01-01T00:00:10Z");
        assert_eq!(times.updated_at, "1970-01-01T00:00:30Z");

        let written = Tree::parse(r#"{"created_at": "2026-01-02T03:04:05Z"}"#).unwrap();
        let times = seen.times(written.root(), held);
        assert_eq!((times.created_at.as_str(), &times.updated_at), ("2026-01-02T03:04:05Z", &times.created_at));
    }
}
