//! What is known of one credential: its pass, when that ends, and whether somebody is on the way for
//! the next.
//!
//! The lock is held for a few comparisons and never over an await.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::{NoPass, Pass};
use crate::limits::{IDENTITY_AHEAD, IDENTITY_BACKOFF_FIRST, IDENTITY_BACKOFF_MAX, IDENTITY_LIFE_MAX, IDENTITY_MARGIN};
use crate::ticks::Ticks;

pub struct Cell {
    state: Mutex<State>,
    /// A flight has landed.
    pub changed: Notify,
}

struct State {
    held: Option<Held>,
    /// Somebody fetches. Whoever sets it must see to it that [`Cell::settle`] is called.
    flying: bool,
    /// After a failure: no flight before this.
    barred: Option<(Ticks, NoPass)>,
    failures: u32,
    asked: Ticks,
}

struct Held {
    pass: Pass,
    /// From here on the next one is fetched.
    due: Ticks,
    /// From here on it is not sent.
    until: Ticks,
}

/// A pass as its issuer gave it.
#[derive(Debug)]
pub struct Fetched {
    pub pass: Pass,
    /// How much longer it is good.
    pub life: Duration,
}

/// What a look shows.
#[derive(PartialEq, Eq, Debug)]
pub enum Look {
    Good(Pass),
    /// Good, and the caller is the one who sees to the next.
    Due(Pass),
    /// None, and the caller is the one who sees to it.
    Cold,
    /// None, and somebody is on the way.
    Flying,
    /// None, and nobody tries before the back-off is over.
    Barred(NoPass),
}

impl Cell {
    pub fn new(now: Ticks) -> Self {
        let state = State { held: None, flying: false, barred: None, failures: 0, asked: now };
        Self { state: Mutex::new(state), changed: Notify::new() }
    }

    /// [`Look::Due`] and [`Look::Cold`] are told to one caller until the flight has landed.
    pub fn look(&self, now: Ticks) -> Look {
        let mut state = self.state();
        state.asked = now;
        let barred = state.barred.as_ref().filter(|(until, _)| now < *until).map(|(_, why)| why.clone());
        let may_fly = !state.flying && barred.is_none();
        let held = state.held.as_ref().filter(|held| now < held.until);
        let look = match (held, barred) {
            (Some(held), _) if may_fly && now >= held.due => Look::Due(held.pass.clone()),
            (Some(held), _) => Look::Good(held.pass.clone()),
            (None, _) if state.flying => Look::Flying,
            (None, Some(why)) => Look::Barred(why),
            (None, None) => Look::Cold,
        };
        state.flying |= matches!(look, Look::Due(_) | Look::Cold);
        look
    }

    /// The flight has landed. What failed leaves the pass that is still good.
    pub fn settle(&self, outcome: Result<Fetched, NoPass>, now: Ticks) {
        let mut state = self.state();
        state.flying = false;
        match outcome {
            Ok(Fetched { pass, life }) => {
                let life = life.min(IDENTITY_LIFE_MAX);
                let ahead = IDENTITY_AHEAD.min(life / 4);
                let until = now.after(life.saturating_sub(IDENTITY_MARGIN.min(life / 8)));
                state.held = Some(Held { pass, due: now.after(life.saturating_sub(ahead)), until });
                (state.barred, state.failures) = (None, 0);
            }
            Err(why) => {
                let doubled = IDENTITY_BACKOFF_FIRST.saturating_mul(1 << state.failures.min(10));
                state.failures = state.failures.saturating_add(1);
                state.barred = Some((now.after(doubled.min(IDENTITY_BACKOFF_MAX)), why));
            }
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// This pass is no good, whatever its issuer said. One that came since is kept.
    pub fn forget(&self, pass: &Pass) {
        self.state().held.take_if(|held| held.pass == *pass);
    }

    /// Nothing in it is worth keeping.
    pub fn is_spent(&self, now: Ticks) -> bool {
        let state = self.state();
        let held = state.held.as_ref().is_some_and(|held| now < held.until);
        let barred = state.barred.as_ref().is_some_and(|(until, _)| now < *until);
        !state.flying && !held && !barred && now.since(state.asked) > IDENTITY_BACKOFF_MAX
    }

    pub fn last_asked(&self) -> Ticks {
        self.state().asked
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn pass(text: &'static str) -> Pass {
        Pass::Bearer(HeaderValue::from_static(text))
    }

    fn at(seconds: u64) -> Ticks {
        Ticks(seconds * 1000)
    }

    fn fetched(text: &'static str, seconds: u64) -> Result<Fetched, NoPass> {
        Ok(Fetched { pass: pass(text), life: Duration::from_secs(seconds) })
    }

    #[test]
    fn a_life() {
        let cell = Cell::new(at(0));
        assert_eq!(cell.look(at(0)), Look::Cold);
        assert_eq!(cell.look(at(0)), Look::Flying, "one flight at a time");
        cell.settle(fetched("a", 3600), at(1));
        assert_eq!(cell.look(at(3300)), Look::Good(pass("a")));
        assert_eq!(cell.look(at(3301)), Look::Due(pass("a")), "five minutes ahead");
        assert_eq!(cell.look(at(3302)), Look::Good(pass("a")), "somebody is on the way");
        cell.settle(Err(NoPass::Unreachable), at(3303));
        assert_eq!(cell.look(at(3303)), Look::Good(pass("a")), "backed off");
        assert_eq!(cell.look(at(3304)), Look::Due(pass("a")));
        cell.settle(Err(NoPass::Unreachable), at(3305));
        assert_eq!(cell.look(at(3306)), Look::Good(pass("a")));
        assert_eq!(cell.look(at(3307)), Look::Due(pass("a")), "twice as long");
        cell.settle(fetched("b", 3600), at(3400));
        assert_eq!(cell.look(at(3590)), Look::Good(pass("b")));
        assert_eq!(cell.look(at(7000)), Look::Cold, "it has ended");
    }

    #[test]
    fn the_last_moments_are_not_used() {
        let cell = Cell::new(at(0));
        assert_eq!(cell.look(at(0)), Look::Cold);
        cell.settle(fetched("a", 3600), at(0));
        assert!(matches!(cell.look(at(3589)), Look::Due(_)));
        assert_eq!(cell.look(at(3590)), Look::Flying);
    }

    #[test]
    fn failures_back_off_to_a_bound() {
        let cell = Cell::new(at(0));
        let mut now = 0;
        for wait in [1, 2, 4, 8, 16, 30, 30, 30] {
            assert_eq!(cell.look(at(now)), Look::Cold);
            cell.settle(Err(NoPass::Refused("invalid_client".into())), at(now));
            assert_eq!(cell.look(Ticks(at(now + wait).0 - 1)), Look::Barred(NoPass::Refused("invalid_client".into())));
            now += wait;
        }
    }

    #[test]
    fn forgetting_and_spent() {
        let cell = Cell::new(at(0));
        assert!(!cell.is_spent(at(0)));
        assert_eq!(cell.look(at(0)), Look::Cold);
        assert!(!cell.is_spent(at(1000)), "somebody is on the way");
        cell.settle(fetched("a", 3600), at(0));
        assert!(!cell.is_spent(at(3000)) && cell.is_spent(at(3600)));
        cell.forget(&fetched("b", 1).unwrap().pass);
        assert!(matches!(cell.look(at(1)), Look::Good(_)));
        cell.forget(&fetched("a", 1).unwrap().pass);
        assert_eq!(cell.look(at(2)), Look::Cold);
    }

    /// A life of no length, and one that nobody would believe.
    #[test]
    fn odd_lives() {
        let cell = Cell::new(at(0));
        assert_eq!(cell.look(at(0)), Look::Cold);
        cell.settle(fetched("a", 0), at(0));
        assert_eq!(cell.look(at(0)), Look::Cold);
        cell.settle(fetched("a", u64::MAX), at(0));
        assert!(matches!(cell.look(at(24 * 3600)), Look::Cold));
    }
}
