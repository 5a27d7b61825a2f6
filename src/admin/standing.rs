//! How a key stands: the word and the sentence of CONTRACT 2.3, for views and metrics.

use crate::health::{ListFault, Standing, Why};
use crate::snapshot::{Key, Unready};
use crate::ticks::Ticks;

/// `status`.
pub fn status(key: &Key, now: Ticks) -> &'static str {
    match (&key.ready, key.enabled) {
        (_, false) => "disabled",
        (Err(unready), true) => unready_word(unready),
        (Ok(_), true) => standing_word(key.health.standing(now)),
    }
}

/// `description`: why, in words; empty where there is nothing to say.
pub fn description(key: &Key, now: Ticks) -> String {
    match (&key.ready, key.enabled) {
        (_, false) => "disabled in the config".to_owned(),
        (Err(unready), true) => unready_text(unready),
        (Ok(_), true) => standing_text(key.health.standing(now), now),
    }
}

fn standing_word(standing: Standing) -> &'static str {
    let barred = |why| match why {
        Why::Unauthorized => "unauthorized",
        Why::ModelAccess | Why::Cooling | Why::Breaker | Why::Probing => "cooling",
    };
    match standing {
        Standing::Unknown => "unknown",
        Standing::Good => "success",
        Standing::ListModelsFailed { .. } => "list_models_failed",
        Standing::Barred { why, .. } | Standing::HalfOpen { why } => barred(why),
    }
}

fn standing_text(standing: Standing, now: Ticks) -> String {
    let reason = |why| match why {
        Why::Unauthorized => "refused by the upstream",
        Why::ModelAccess => "a model was refused by the upstream",
        Why::Cooling => "rate limited",
        Why::Breaker => "failing",
        Why::Probing => "being tried",
    };
    match standing {
        Standing::Unknown | Standing::Good => String::new(),
        Standing::ListModelsFailed { why } => format!("the models could not be listed: {}", list_fault(why)),
        Standing::Barred { until, why } => {
            format!("{}, tried again in {} s", reason(why), until.remaining(now).as_secs().max(1))
        }
        Standing::HalfOpen { why } => format!("{}, tried again with the next request", reason(why)),
    }
}

/// The only words that a probe's failure has for a client (CONTRACT 4).
pub fn list_fault(fault: ListFault) -> &'static str {
    match fault {
        ListFault::Unauthorized => "unauthorized",
        ListFault::Unreachable => "unreachable",
        ListFault::Timeout => "timeout",
        ListFault::Unexpected => "unexpected",
    }
}

fn unready_word(unready: &Unready) -> &'static str {
    match unready {
        Unready::EnvMissing { .. } => "env_missing",
        Unready::FileUnreadable { .. } => "file_unreadable",
        Unready::SealedUnreadable { .. } => "sealed_unreadable",
        Unready::Incomplete { .. } => "incomplete",
    }
}

fn unready_text(unready: &Unready) -> String {
    match unready {
        Unready::EnvMissing { name } => format!("environment variable {name} is not set"),
        Unready::FileUnreadable { path } => format!("secret file {} cannot be read", path.display()),
        Unready::SealedUnreadable { why } => format!("its sealed value cannot be opened: {why}"),
        Unready::Incomplete { what } => what.clone(),
    }
}
