//! What a caller may ask for once inside: models, passthrough, pins (CONTRACT 3.4).
//!
//! Models are matched against what a request was resolved to, never against what the caller wrote:
//! otherwise a route or a fallback would lead around the list.

use super::Caller;
use crate::error::{GatewayError, Kind};
use crate::snapshot::{Project, Snapshot};

/// The rights of one caller under one snapshot. Copy: asked once per target.
#[derive(Clone, Copy, Debug)]
pub enum Grant<'s> {
    /// No projects, or an operator: everything.
    All,
    Project(&'s Project),
    /// A project that this snapshot does not have: nothing.
    Nothing,
}

impl<'s> Grant<'s> {
    pub fn of(caller: &Caller, snapshot: &'s Snapshot) -> Self {
        match caller {
            Caller::Project { project, .. } => snapshot
                .projects
                .as_ref()
                .and_then(|projects| projects.get(*project))
                .map_or(Self::Nothing, Self::Project),
            Caller::Open | Caller::Loopback | Caller::Management { .. } => Self::All,
        }
    }

    /// Whether a target may be used; `route` is the `@name` by which it was reached.
    pub fn admits(self, provider: &str, model: &str, route: Option<&str>) -> bool {
        match self {
            Self::All => true,
            Self::Project(project) => admits(project, provider, model, route),
            Self::Nothing => false,
        }
    }

    /// [`Grant::admits`] with the refusal to answer with.
    pub fn model(self, provider: &str, model: &str, route: Option<&str>) -> Result<(), GatewayError> {
        self.admits(provider, model, route).then_some(()).ok_or_else(|| {
            GatewayError::caller(Kind::Forbidden, "model_not_allowed", "this project may not use that model")
                .param("model")
        })
    }

    pub fn passthrough(self) -> Result<(), GatewayError> {
        self.flag(|project| project.passthrough).then_some(()).ok_or_else(|| {
            GatewayError::caller(Kind::Forbidden, "passthrough_not_allowed", "this project may not use passthrough")
        })
    }

    pub fn pin(self) -> Result<(), GatewayError> {
        self.flag(|project| project.pin).then_some(()).ok_or_else(|| {
            GatewayError::caller(Kind::Forbidden, "pin_not_allowed", "this project may not choose a key")
        })
    }

    fn flag(self, of: impl FnOnce(&Project) -> bool) -> bool {
        match self {
            Self::All => true,
            Self::Project(project) => of(project),
            Self::Nothing => false,
        }
    }
}

/// Whether a project's `models` admit a resolved target. A pattern with a `/` is matched against
/// `provider/model`, one with an `@` against the route, any other against the model of any
/// provider. `*` stands for any run of characters; case does not matter.
pub fn admits(project: &Project, provider: &str, model: &str, route: Option<&str>) -> bool {
    project.models.iter().any(|pattern| {
        let pattern = pattern.as_bytes();
        if pattern.starts_with(b"@") {
            route.is_some_and(|route| matches(pattern, Text { head: None, tail: route.as_bytes() }))
        } else if pattern.contains(&b'/') {
            matches(pattern, Text { head: Some(provider.as_bytes()), tail: model.as_bytes() })
        } else {
            matches(pattern, Text { head: None, tail: model.as_bytes() })
        }
    })
}

/// `head/tail` or `tail`, without joining them: this runs once per target and request.
#[derive(Clone, Copy)]
struct Text<'a> {
    head: Option<&'a [u8]>,
    tail: &'a [u8],
}

impl Text<'_> {
    fn at(self, index: usize) -> Option<u8> {
        let Some(head) = self.head else { return self.tail.get(index).copied() };
        match index.checked_sub(head.len()) {
            None => head.get(index).copied(),
            Some(0) => Some(b'/'),
            Some(past) => self.tail.get(past - 1).copied(),
        }
    }
}

/// Glob with `*` only: on a mismatch the last star takes one more byte. At most pattern × text steps.
fn matches(pattern: &[u8], text: Text<'_>) -> bool {
    let (mut at_pattern, mut at_text) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    loop {
        match (pattern.get(at_pattern), text.at(at_text)) {
            (None, None) => return true,
            (Some(b'*'), _) => {
                at_pattern += 1;
                retry = Some((at_pattern, at_text));
            }
            (Some(wanted), Some(got)) if wanted.eq_ignore_ascii_case(&got) => {
                at_pattern += 1;
                at_text += 1;
            }
            _ => match retry {
                Some((after_star, from)) if text.at(from).is_some() => {
                    retry = Some((after_star, from + 1));
                    (at_pattern, at_text) = (after_star, from + 1);
                }
                _ => return false,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ProjectId;
    use proptest::prelude::*;

    fn project(models: &[&str]) -> Project {
        let models = models.iter().map(|m| (*m).into()).collect();
        Project {
            id: ProjectId::from("p"),
            keys: vec![],
            models,
            passthrough: false,
            pin: true,
            budgets: vec![],
            spend: std::sync::Arc::default(),
            closed_on_outage: false,
        }
    }

    #[test]
    fn table() {
        for (models, provider, model, route, expected) in [
            (vec![], "openai", "gpt-mini", None, false),
            (vec!["*"], "openai", "gpt-mini", None, true),
            (vec!["*"], "openrouter", "meta/llama", None, true),
            (vec!["openai/*"], "openai", "gpt-mini", None, true),
            (vec!["openai/*"], "OpenAI", "GPT-mini", None, true),
            (vec!["openai/*"], "openrouter", "openai/gpt-mini", None, false),
            (vec!["openai/gpt-*"], "openai", "gpt-mini", None, true),
            (vec!["openai/gpt-*"], "openai", "o3", None, false),
            (vec!["openai/gpt-mini"], "openai", "gpt-mini-2", None, false),
            (vec!["openrouter/meta/*"], "openrouter", "meta/llama", None, true),
            (vec!["gpt-mini"], "azure", "gpt-mini", None, true),
            (vec!["gpt-mini"], "azure", "gpt-mini-2", None, false),
            (vec!["*mini"], "azure", "gpt-mini", None, true),
            (vec!["*/gpt-*-mini"], "azure", "gpt-4-x-mini", None, true),
            (vec!["*/gpt-*-mini"], "azure", "gpt-4-x-mina", None, false),
            (vec!["@fast"], "groq", "llama", Some("@fast"), true),
            (vec!["@FAST"], "groq", "llama", Some("@fast"), true),
            (vec!["@fast"], "groq", "llama", Some("@slow"), false),
            (vec!["@*"], "groq", "llama", Some("@slow"), true),
            (vec!["@fast"], "groq", "llama", None, false),
            (vec!["@fast"], "groq", "@fast", None, false),
            (vec!["groq/llama"], "groq", "llama", Some("@fast"), true),
            (vec!["o3", "groq/*"], "groq", "llama", None, true),
        ] {
            assert_eq!(admits(&project(&models), provider, model, route), expected, "{models:?} {provider}/{model}");
        }
    }

    #[test]
    fn grants() {
        let project = project(&["gpt-*"]);
        let grant = Grant::Project(&project);
        assert!(grant.model("openai", "gpt-mini", None).is_ok());
        assert_eq!(grant.model("openai", "o3", None).unwrap_err().public.code, "model_not_allowed");
        assert_eq!(grant.passthrough().unwrap_err().public.code, "passthrough_not_allowed");
        assert!(grant.pin().is_ok());
        assert!(
            Grant::All.model("x", "y", None).is_ok() && Grant::All.passthrough().is_ok() && Grant::All.pin().is_ok()
        );
        assert!(Grant::Nothing.model("x", "y", None).is_err() && Grant::Nothing.pin().is_err());
    }

    /// The obvious exponential matcher, as oracle.
    fn slow(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, None) => true,
            (Some((b'*', rest)), _) => {
                slow(rest, text) || text.split_first().is_some_and(|(_, shorter)| slow(pattern, shorter))
            }
            (Some((a, rest)), Some((b, shorter))) => a == b && slow(rest, shorter),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_oracle(pattern in "[ab/*]{0,8}", head in proptest::option::of("[ab]{0,4}"), tail in "[ab/]{0,6}") {
            let whole = match &head { Some(head) => format!("{head}/{tail}"), None => tail.clone() };
            let text = Text { head: head.as_deref().map(str::as_bytes), tail: tail.as_bytes() };
            prop_assert_eq!(matches(pattern.as_bytes(), text), slow(pattern.as_bytes(), whole.as_bytes()));
        }
    }
}
