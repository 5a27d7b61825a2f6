//! A waker that tells "woken from outside" from "woken by what I am just doing".
//!
//! An upstream connection is driven by the task of the request that uses it, not by a task of its
//! own. Inside one poll, the parts of that connection wake each other (a chunk taken makes room for
//! the next); passed on to the task, each such wake would be one more poll of the whole caller's
//! connection. While [`Gate`] is entered it notes them instead, and whoever polls goes round again.
//! A wake from outside reaches the task that polled last, so a connection can move between tasks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

const RESTING: u8 = 0;
const POLLING: u8 = 1;
const WOKEN: u8 = 2;

/// One per connection, for its whole life.
#[derive(Debug, Default)]
pub struct Gate {
    state: AtomicU8,
    task: Mutex<Option<Waker>>,
}

impl Gate {
    /// Begins a poll on behalf of the task behind `task`. Wakes from now on are noted.
    pub fn enter(&self, task: &Waker) {
        let mut held = self.task();
        if !held.as_ref().is_some_and(|waker| waker.will_wake(task)) {
            *held = Some(task.clone());
        }
        drop(held);
        self.state.store(POLLING, Ordering::Release);
    }

    /// Ends a poll that found nothing: true when something woke meanwhile and another round is due
    /// (the gate is then still entered).
    #[must_use]
    pub fn woken_meanwhile(&self) -> bool {
        if self.state.compare_exchange(POLLING, RESTING, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            return false;
        }
        self.state.store(POLLING, Ordering::Release);
        true
    }

    /// Ends a poll whatever woke meanwhile: for a poll that found something, since its caller comes
    /// back for more.
    pub fn leave(&self) {
        self.state.store(RESTING, Ordering::Release);
    }

    /// Lets go of the task, which would otherwise stay in memory as long as the connection idles.
    pub fn forget_task(&self) {
        self.state.store(RESTING, Ordering::Release);
        *self.task() = None;
    }

    fn task(&self) -> MutexGuard<'_, Option<Waker>> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Gate {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let noted = self
            .state
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| (state != RESTING).then_some(WOKEN))
            .is_ok();
        if !noted && let Some(task) = self.task().as_ref() {
            task.wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn inner_wakes_are_noted_and_outer_ones_passed_on() {
        let count = Arc::new(Count::default());
        let task = Waker::from(Arc::clone(&count));
        let gate = Arc::new(Gate::default());
        let waker = Waker::from(Arc::clone(&gate));
        waker.wake_by_ref();
        assert_eq!(count.0.load(Ordering::SeqCst), 0, "nobody to wake");

        gate.enter(&task);
        assert!(!gate.woken_meanwhile());
        waker.wake_by_ref();
        assert_eq!(count.0.load(Ordering::SeqCst), 1);

        gate.enter(&task);
        waker.wake_by_ref();
        waker.wake_by_ref();
        assert_eq!(count.0.load(Ordering::SeqCst), 1, "noted only");
        assert!(gate.woken_meanwhile());
        assert!(!gate.woken_meanwhile());
        waker.wake_by_ref();
        assert_eq!(count.0.load(Ordering::SeqCst), 2);

        gate.forget_task();
        waker.wake_by_ref();
        assert_eq!(count.0.load(Ordering::SeqCst), 2);
        assert_eq!(Arc::strong_count(&count), 2, "the gate holds no waker of the task");
    }
}
