//! What a request has been through: who may still be asked, at whose expense, and who is asked again.
//!
//! Made at the first failure, so that a request without one carries nothing of it. Decides by the
//! verdict's columns and the target's `max_retries`; knows no class and no status.

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use super::verdict::{Again, Load, Next};
use super::{Dice, Pick, Verdict, backoff};
use crate::health::OriginHealth;
use crate::limits::CONNECTS_PER_ORIGIN_MAX;
use crate::snapshot::{Key, Retry};
use crate::ticks::Ticks;

/// An origin as one target of the plan sees it: the next target of a chain is asked afresh, for its
/// author chose so.
type Of = (usize, Arc<OriginHealth>);

#[derive(Clone, Debug, Default)]
pub(super) struct Trouble {
    /// Origins that could not be reached, once for each time.
    unreached: SmallVec<[Arc<OriginHealth>; 2]>,
    /// Origins that have been asked.
    asked: SmallVec<[Of; 1]>,
    /// Origins whose budget has no retry left.
    closed: SmallVec<[Of; 1]>,
    /// A retry that was taken from a budget for the next attempt.
    loan: Option<Arc<OriginHealth>>,
    /// Whom to ask again when every other key of the target has had its turn.
    again: Option<(Pick, Option<Duration>)>,
    /// Of `max_retries`, at this target.
    used: u32,
    /// The next attempt on this target is one of `max_retries`, whichever key makes it.
    owed: bool,
}

fn is_in(list: &[Of], target: usize, origin: &Arc<OriginHealth>) -> bool {
    list.iter().any(|(of, it)| *of == target && Arc::ptr_eq(it, origin))
}

impl Trouble {
    /// A pick failed. Returns whether this target may be asked further.
    pub(super) fn take_in(
        &mut self,
        target: usize,
        pick: &Pick,
        verdict: &Verdict,
        retry: &Retry,
        named: Option<Duration>,
        now: Ticks,
    ) -> bool {
        let origin = &pick.key.origin;
        if !is_in(&self.asked, target, origin) {
            self.asked.push((target, Arc::clone(origin)));
        }
        if verdict.unreached() {
            self.unreached.push(Arc::clone(origin));
        }
        if verdict.request == Next::NextTarget {
            if self.used >= retry.max {
                return false;
            }
            self.owed = true;
        }
        if verdict.again() == Again::AfterOthers {
            self.again = Some((pick.clone(), named));
        }
        if verdict.load() == Load::Counted {
            if origin.retries.take(now) {
                self.loan = Some(Arc::clone(origin));
            } else {
                self.closed.push((target, Arc::clone(origin)));
            }
        }
        true
    }

    /// Whether the key's origin may be asked by this request.
    pub(super) fn admits(&self, target: usize, key: &Key) -> bool {
        let unreached = self.unreached.iter().filter(|origin| Arc::ptr_eq(origin, &key.origin)).count();
        unreached < CONNECTS_PER_ORIGIN_MAX && !is_in(&self.closed, target, &key.origin)
    }

    /// A key has been drawn for its first turn: settles what the attempt costs its origin.
    pub(super) fn drawn(&mut self, target: usize, key: &Key) {
        let paid = self.loan.take_if(|loan| Arc::ptr_eq(loan, &key.origin)).is_some();
        self.repay();
        if !paid && !is_in(&self.asked, target, &key.origin) {
            key.origin.retries.earn();
        }
        self.used += u32::from(std::mem::take(&mut self.owed));
    }

    /// The key to ask again, all others of the target having had their turn, with the time to wait.
    pub(super) fn again(&mut self, target: usize, retry: &Retry, now: Ticks, dice: &mut Dice) -> Option<Pick> {
        if self.used >= retry.max {
            return None;
        }
        let (pick, named) = self.again.take()?;
        let origin = &pick.key.origin;
        if pick.is_stopped(now) || is_in(&self.closed, target, origin) {
            return None;
        }
        let wait = backoff::wait(self.used, retry, named, dice)?;
        // A second try of one key is always a retry, whatever became of the first.
        let paid = self.loan.take_if(|loan| Arc::ptr_eq(loan, origin)).is_some();
        if !paid && !origin.retries.take(now) {
            return None;
        }
        self.owed = false;
        self.used += 1;
        Some(Pick { wait, ..pick })
    }

    /// The target is left: what was counted for it alone begins anew.
    pub(super) fn leave(&mut self) {
        self.again = None;
        self.used = 0;
        self.owed = false;
    }

    /// A retry that nobody made.
    pub(super) fn repay(&mut self) {
        if let Some(origin) = self.loan.take() {
            origin.retries.give_back();
        }
    }
}
