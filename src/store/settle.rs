//! When to try what is on disk: not while it is being written, not the same failure at each tick.
//!
//! Pure: is shown views and times, answers what to do next. Two equal looks a settle interval
//! apart mean that a writer has finished; empty, torn or missing inside the settle window means
//! "not yet"; what failed is tried again with back-off, since the cause may lie outside the file.

use std::time::Duration;

use super::sight::View;
use crate::limits::{RELOAD_RETRY_MAX, RELOAD_RETRY_MIN, SETTLE_INTERVAL, SETTLE_WINDOW};
use crate::ticks::Ticks;

/// What to do after a look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Next {
    /// Disk and memory agree.
    Rest,
    /// Look again at this time, or earlier when somebody knocks.
    LookAt(Ticks),
    /// Compile what was seen. A text that is torn may be handed back ([`Settle::torn`]).
    Try,
    /// The same, and torn is now an error.
    TryForLast,
}

/// The change that is being waited out, and the failure that is being retried.
#[derive(Debug, Default)]
pub(super) struct Settle {
    open: Option<Open>,
    failed: Option<Failed>,
    /// Somebody asked for a reload: what is on disk is tried even if it is what runs.
    forced: bool,
}

#[derive(Debug)]
struct Open {
    since: Ticks,
    last: View,
    /// When `last` was first seen.
    seen_at: Ticks,
    /// `last` was tried and is no whole JSON text.
    torn: bool,
}

#[derive(Debug)]
struct Failed {
    view: View,
    retry_at: Ticks,
    backoff: Duration,
}

impl Settle {
    /// A reload was asked for.
    pub fn force(&mut self) {
        self.forced = true;
    }

    /// Whether a change is being waited out: looks must then be careful ones.
    pub fn is_open(&self) -> bool {
        self.open.is_some() || self.forced
    }

    /// The view that failed last: its secret files are watched too.
    pub fn failed(&self) -> Option<&View> {
        self.failed.as_ref().map(|failed| &failed.view)
    }

    /// Judges one look.
    pub fn see(&mut self, view: &View, running: &View, now: Ticks) -> Next {
        if !self.forced {
            if view.agrees_with(running) {
                *self = Self::default();
                return Next::Rest;
            }
            if let Some(failed) = &self.failed
                && view.agrees_with(&failed.view)
            {
                // It has settled long ago; only the world around it can have changed.
                self.open = None;
                return if now >= failed.retry_at { Next::TryForLast } else { Next::LookAt(failed.retry_at) };
            }
        }
        let Some(open) = &mut self.open else {
            self.open = Some(Open { since: now, last: view.clone(), seen_at: now, torn: false });
            return Next::LookAt(now.after(SETTLE_INTERVAL));
        };
        if open.last != *view {
            open.last = view.clone();
            open.seen_at = now;
            open.torn = false;
        }
        let settled_at = open.seen_at.after(SETTLE_INTERVAL);
        let end = open.since.after(SETTLE_WINDOW);
        let whole = view.is_whole(running) && !open.torn;
        if now >= end {
            // A writer who never pauses gets what is whole taken between two of his writes; what is
            // not whole is no error before it stands still, but he cannot put that off for ever.
            let moving = now < settled_at && now < end.after(SETTLE_WINDOW);
            return match (moving, whole) {
                (false, _) => Next::TryForLast,
                (true, true) => Next::Try,
                (true, false) => Next::LookAt(settled_at),
            };
        }
        if now >= settled_at && whole {
            return Next::Try;
        }
        let again = if now >= settled_at { now.after(SETTLE_INTERVAL) } else { settled_at };
        Next::LookAt(again.min(end))
    }

    /// What was tried is no whole JSON text: not yet. Says when to look again.
    pub fn torn(&mut self, now: Ticks) -> Ticks {
        if let Some(open) = &mut self.open {
            open.torn = true;
        }
        now.after(SETTLE_INTERVAL)
    }

    /// What was tried runs now, or ran already.
    pub fn applied(&mut self) {
        *self = Self::default();
    }

    /// What was tried was refused. Says when it is tried again.
    pub fn refused(&mut self, view: View, now: Ticks) -> Ticks {
        let backoff = match &self.failed {
            Some(failed) if failed.view == view => (failed.backoff * 2).min(RELOAD_RETRY_MAX),
            _ => RELOAD_RETRY_MIN,
        };
        let retry_at = now.after(backoff);
        *self = Self { open: None, failed: Some(Failed { view, retry_at, backoff }), forced: false };
        retry_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::ConfigHash;
    use crate::store::Refusal;
    use proptest::prelude::*;

    fn text(text: &str) -> View {
        View { config: Ok(ConfigHash::of_bytes(text.as_bytes())), files: super::super::resolve::Files::new() }
    }

    fn gone() -> View {
        View { config: Err(Refusal::Missing), files: super::super::resolve::Files::new() }
    }

    /// A script of (time, what is seen) and what is answered.
    fn check(script: &[(u64, View, Next)]) {
        let mut settle = Settle::default();
        for (at, view, expected) in script {
            assert_eq!(settle.see(view, &text("old"), Ticks(*at)), *expected, "at {at}");
        }
    }

    #[test]
    fn a_finished_write_is_tried_after_one_interval() {
        check(&[
            (0, text("old"), Next::Rest),
            (1000, text("new"), Next::LookAt(Ticks(1050))),
            (1020, text("new"), Next::LookAt(Ticks(1050))),
            (1050, text("new"), Next::Try),
        ]);
    }

    #[test]
    fn a_write_that_goes_on_is_waited_for_but_not_for_ever() {
        check(&[
            (0, text("a"), Next::LookAt(Ticks(50))),
            (50, text("b"), Next::LookAt(Ticks(100))),
            (100, text("c"), Next::LookAt(Ticks(150))),
            (980, text("d"), Next::LookAt(Ticks(1000))),
            (1000, text("e"), Next::Try),
        ]);
        // What just vanished or emptied may be about to be written; twice the window is the end.
        check(&[
            (0, text("a"), Next::LookAt(Ticks(50))),
            (990, text("b"), Next::LookAt(Ticks(1000))),
            (1000, gone(), Next::LookAt(Ticks(1050))),
            (1040, text("c"), Next::Try),
        ]);
        check(&[
            (0, text("a"), Next::LookAt(Ticks(50))),
            (1000, gone(), Next::LookAt(Ticks(1050))),
            (1050, gone(), Next::TryForLast),
        ]);
        check(&[
            (0, text("a"), Next::LookAt(Ticks(50))),
            (1000, text("b"), Next::Try),
            (1990, gone(), Next::LookAt(Ticks(2040))),
            (2000, text("c"), Next::TryForLast),
        ]);
    }

    #[test]
    fn missing_is_not_yet_until_the_window_ends() {
        check(&[
            (0, gone(), Next::LookAt(Ticks(50))),
            (50, gone(), Next::LookAt(Ticks(100))),
            (990, gone(), Next::LookAt(Ticks(1000))),
            (1000, gone(), Next::TryForLast),
        ]);
        check(&[
            (0, gone(), Next::LookAt(Ticks(50))),
            (50, text("new"), Next::LookAt(Ticks(100))),
            (100, text("new"), Next::Try),
        ]);
        check(&[(0, gone(), Next::LookAt(Ticks(50))), (50, text("old"), Next::Rest)]);
    }

    #[test]
    fn torn_text_is_not_tried_again_until_it_moves_or_the_window_ends() {
        let mut settle = Settle::default();
        let old = text("old");
        settle.see(&text("{"), &old, Ticks(0));
        assert_eq!(settle.see(&text("{"), &old, Ticks(50)), Next::Try);
        assert_eq!(settle.torn(Ticks(50)), Ticks(100));
        assert_eq!(settle.see(&text("{"), &old, Ticks(100)), Next::LookAt(Ticks(150)));
        assert_eq!(settle.see(&text("{}"), &old, Ticks(150)), Next::LookAt(Ticks(200)));
        assert_eq!(settle.see(&text("{}"), &old, Ticks(200)), Next::Try);
        settle.torn(Ticks(200));
        assert_eq!(settle.see(&text("{}"), &old, Ticks(1000)), Next::TryForLast);
    }

    #[test]
    fn failures_back_off_and_heal() {
        let mut settle = Settle::default();
        let old = text("old");
        let mut now = Ticks(0);
        let mut waits = Vec::new();
        for _ in 0..8 {
            let retry = settle.refused(text("bad"), now);
            waits.push(retry.since(now).as_secs());
            assert_eq!(settle.see(&text("bad"), &old, now), Next::LookAt(retry));
            assert_eq!(settle.see(&text("bad"), &old, retry), Next::TryForLast);
            now = retry;
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30, 30]);
        // Other bytes are a new matter, and what runs is no matter at all.
        assert_eq!(settle.see(&text("good"), &old, now), Next::LookAt(now.after(SETTLE_INTERVAL)));
        assert_eq!(settle.see(&old, &old, now), Next::Rest);
        assert!(settle.failed().is_none());
    }

    #[test]
    fn a_forced_reload_tries_what_runs_already() {
        let mut settle = Settle::default();
        settle.force();
        assert_eq!(settle.see(&text("old"), &text("old"), Ticks(0)), Next::LookAt(Ticks(50)));
        assert_eq!(settle.see(&text("old"), &text("old"), Ticks(50)), Next::Try);
        settle.applied();
        assert_eq!(settle.see(&text("old"), &text("old"), Ticks(100)), Next::Rest);
    }

    proptest! {
        /// Whatever the disk shows and whenever we look: a change is tried or gone within two
        /// windows, and we are never told to look in the past or later than that.
        #[test]
        fn always_decides_in_time(steps in proptest::collection::vec((0u64..200, 0u8..4), 1..200)) {
            let mut settle = Settle::default();
            let old = text("old");
            let mut now = Ticks(0);
            let mut since = None;
            for (gap, what) in steps {
                let view = match what { 0 => gone(), 1 => text("old"), 2 => text("a"), _ => text("b") };
                match settle.see(&view, &old, now) {
                    Next::Rest => since = None,
                    Next::LookAt(at) => {
                        prop_assert!(at > now);
                        prop_assert!(at <= now.after(SETTLE_INTERVAL));
                        let since = *since.get_or_insert(now);
                        prop_assert!(now.since(since) < SETTLE_WINDOW * 2);
                    }
                    Next::Try => {
                        prop_assert!(view.config.is_ok());
                        settle.applied();
                        since = None;
                    }
                    Next::TryForLast => {
                        settle.applied();
                        since = None;
                    }
                }
                now = Ticks(now.0 + gap);
            }
        }
    }
}
