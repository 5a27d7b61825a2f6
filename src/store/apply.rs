//! Answers one change of a management API, in the order of CONTRACT 2.4.
//!
//! Re-read, plan, check that no secret travels, seal, edit, compile the whole, bind, write, swap. A
//! hand edit is merged: the change is planned on what is on disk now, and planned anew when that
//! moves. Whatever fails, file and memory are both as before.

use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use rustix::io::Errno;

use super::attempt::{Built, Refused as Invalid, build, internal, unbound};
use super::replace::{NotReplaced, Replaced, Replacement};
use super::sight::{Care, Seen, View};
use super::writer::Writer;
use super::{ApplyError, Base, Change, Generation, Plan, PreparedToken, Written, draft};
use crate::config::Problems;
use crate::hash::ConfigHash;
use crate::limits::{APPLY_ATTEMPTS_MAX, SETTLE_INTERVAL, SETTLE_WINDOW};
use crate::snapshot::Snapshot;
use crate::ticks::Ticks;

/// What a change is planned on.
enum Ground {
    Running(Arc<Generation>),
    /// A hand edit that does not run yet.
    Edited(Box<Built>),
}

impl Ground {
    fn base(&self) -> Base<'_> {
        let (document, snapshot) = match self {
            Self::Running(generation) => (&*generation.document, &*generation.snapshot),
            Self::Edited(built) => (&*built.compiled.document, &built.compiled.snapshot),
        };
        Base { document, snapshot, hash: snapshot.mark.hash }
    }
}

/// Why one try came to nothing.
enum Hitch {
    /// The file moved meanwhile: another try is worth it.
    Changed,
    Final(ApplyError),
}

impl<E: Into<ApplyError>> From<E> for Hitch {
    fn from(error: E) -> Self {
        Self::Final(error.into())
    }
}

impl Writer {
    /// Makes the change part of the file and of what runs, or of neither.
    pub(super) async fn apply(&mut self, change: Box<dyn Change>) -> Result<Written, ApplyError> {
        if self.journal.store().load().management.locked {
            return Err(self.locked());
        }
        for _ in 0..=APPLY_ATTEMPTS_MAX {
            let seen = self.look_for_apply().await;
            let tried = self.try_apply(&*change, &seen);
            if tried.is_err() {
                // Health cells of keys that came to nothing are not kept for ever.
                let now = self.options.clock.now();
                self.options.compile.swapped(&self.journal.store().load(), now);
            }
            match tried {
                Ok(written) => {
                    self.publish();
                    return Ok(written);
                }
                Err(Hitch::Changed) => tracing::info!(event = "config_moved", "the config changed under an API write"),
                Err(Hitch::Final(error)) => return Err(error),
            }
        }
        Err(ApplyError::ConfigChanged)
    }

    /// What the file with the change in it compiles to; it is neither written nor run.
    pub(super) async fn try_out(&mut self, change: Box<dyn Change>) -> Result<Arc<Snapshot>, ApplyError> {
        let seen = self.look_for_apply().await;
        let now = self.options.clock.now();
        let ground = self.ground(&seen, now)?;
        let base = ground.base();
        if base.snapshot.management.locked {
            return Err(self.locked());
        }
        let plan = std::panic::catch_unwind(AssertUnwindSafe(|| change.plan(&base)));
        let plan = plan.map_err(|_panic| problems(internal(base.hash)))?.map_err(ApplyError::from)?;
        let text = draft::text(&base, &plan, &mut *self.options.sealer)?;
        let (built, _unused) = self.compile_draft(&base, &plan, &text, &seen, now)?;
        change.accept(&built.compiled.snapshot).map_err(ApplyError::from)?;
        // Cells of keys that came to nothing are not kept for ever.
        self.options.compile.swapped(&self.journal.store().load(), now);
        Ok(Arc::new(built.compiled.snapshot))
    }

    /// The file as it is now. One that somebody seems to be writing just now gets a little time.
    async fn look_for_apply(&mut self) -> Seen {
        let end = self.options.clock.now().after(SETTLE_WINDOW);
        let mut before: Option<View> = None;
        loop {
            let now = self.options.clock.now();
            let seen = self.eye.look(self.files(), Care::Full, now);
            let settled = seen.view.agrees_with(&self.running.seen.view)
                || self.settle.failed().is_some_and(|failed| seen.view.agrees_with(failed))
                || (before.as_ref() == Some(&seen.view) && self.is_whole(&seen));
            if settled || now >= end {
                return seen;
            }
            before = Some(seen.view);
            tokio::time::sleep(SETTLE_INTERVAL).await;
        }
    }

    fn is_whole(&self, seen: &Seen) -> bool {
        let is_tree = |text| crate::config::Tree::parse(text).is_ok();
        seen.view.is_whole(&self.running.seen.view) && std::str::from_utf8(&seen.bytes).is_ok_and(is_tree)
    }

    fn try_apply(&mut self, change: &dyn Change, seen: &Seen) -> Result<Written, Hitch> {
        let now = self.options.clock.now();
        let ground = self.ground(seen, now)?;
        let base = ground.base();
        if base.snapshot.management.locked {
            return Err(self.locked().into());
        }
        // A planner that panics must not end the one who owns the file.
        let plan = std::panic::catch_unwind(AssertUnwindSafe(|| change.plan(&base)));
        let plan = plan.map_err(|_panic| problems(internal(base.hash)))?.map_err(ApplyError::from)?;
        let text = draft::text(&base, &plan, &mut *self.options.sealer)?;
        if text == base.document.tree.text() {
            return self.nothing_to_write(ground, now);
        }
        let (built, prepared) = self.compile_draft(&base, &plan, &text, seen, now)?;
        change.accept(&built.compiled.snapshot).map_err(ApplyError::from)?;
        self.serial = self.serial.wrapping_add(1);
        let replaced = Replacement {
            disk: &*self.options.disk,
            path: &self.options.path,
            old: &seen.bytes,
            new: text.as_bytes(),
            serial: self.serial,
        }
        .run();
        match replaced {
            Ok(Replaced { mode, left_over }) => {
                if let Some(error) = left_over {
                    tracing::warn!(event = "config_temp_left", error = %error, "a temporary file is left until the next start");
                }
                let before = self.journal.store().snapshot();
                self.journal.written(&before, &built.compiled.snapshot, mode);
                Ok(self.written(built, prepared, now))
            }
            Err(NotReplaced::Changed) => Err(Hitch::Changed),
            Err(NotReplaced::Failed(error)) => Err(self.failed(&error).into()),
        }
    }

    fn ground(&mut self, seen: &Seen, now: Ticks) -> Result<Ground, ApplyError> {
        if seen.view.agrees_with(&self.running.seen.view) {
            return Ok(Ground::Running(self.journal.store().generation()));
        }
        let number = self.running.mark.number.saturating_add(1);
        match build(&mut self.options, &self.directory, seen, number, now) {
            Ok(built) if self.running.is(&built) => Ok(Ground::Running(self.journal.store().generation())),
            Ok(built) => Ok(Ground::Edited(Box::new(built))),
            Err(Invalid { problems, .. }) => Err(ApplyError::ConfigOnDiskInvalid(Arc::new(problems))),
        }
    }

    /// The file says so already. Where that is news to us, it is a reload.
    fn nothing_to_write(&mut self, ground: Ground, now: Ticks) -> Result<Written, Hitch> {
        let built = match ground {
            Ground::Running(generation) => return Ok(Written { generation, changed: false }),
            Ground::Edited(built) => *built,
        };
        let snapshot = &built.compiled.snapshot;
        let prepared = self.options.listeners.prepare(&snapshot.server, &snapshot.management);
        let prepared = prepared.map_err(|error| ApplyError::ConfigOnDiskInvalid(Arc::new(unbound(error))))?;
        Ok(Written { changed: false, ..self.written(built, prepared, now) })
    }

    /// The new text, compiled whole, with its listeners bound.
    fn compile_draft(
        &mut self,
        base: &Base<'_>,
        plan: &Plan,
        text: &str,
        seen: &Seen,
        now: Ticks,
    ) -> Result<(Built, PreparedToken), ApplyError> {
        let view = View { config: Ok(ConfigHash::of_bytes(text.as_bytes())), files: seen.view.files.clone() };
        let draft = Seen { view, bytes: text.as_bytes().into() };
        let number = self.running.mark.number.saturating_add(1);
        let built = build(&mut self.options, &self.directory, &draft, number, now);
        let built = built.map_err(|invalid| problems(invalid.problems))?;
        let snapshot = &built.compiled.snapshot;
        draft::check_compiled(base.snapshot, snapshot, plan)?;
        let prepared = self.options.listeners.prepare(&snapshot.server, &snapshot.management);
        Ok((built, prepared.map_err(|error| problems(unbound(error)))?))
    }

    /// What is in the file runs.
    fn written(&mut self, built: Built, prepared: PreparedToken, now: Ticks) -> Written {
        self.take_over(built, prepared, now);
        // It may refer to files that nobody has watched yet.
        self.follow(now);
        Written { generation: self.journal.store().generation(), changed: true }
    }

    fn locked(&self) -> ApplyError {
        ApplyError::Locked { path: self.options.path.clone() }
    }

    /// What the system said, as somebody can act on it.
    fn failed(&self, error: &io::Error) -> ApplyError {
        let path = self.options.path.clone();
        match error.raw_os_error().and_then(fix) {
            Some(fix) => ApplyError::ReadOnly { path, fix: fix.to_owned() },
            None => ApplyError::Io { path, reason: error.to_string() },
        }
    }
}

fn problems(problems: Problems) -> ApplyError {
    ApplyError::Problems(Arc::new(problems))
}

/// What would help, where the file cannot be written at all.
fn fix(number: i32) -> Option<&'static str> {
    let is = |errnos: &[Errno]| errnos.iter().any(|errno| errno.raw_os_error() == number);
    if is(&[Errno::ROFS]) {
        return Some("the file system is mounted read-only: mount the directory of the file writable");
    }
    if is(&[Errno::BUSY, Errno::XDEV]) {
        return Some("the file is a mount of its own and cannot be replaced: mount its directory instead");
    }
    if is(&[Errno::ACCESS, Errno::PERM]) {
        return Some(
            "permission denied: let keyway's user own the file and write to its directory, for the file is replaced by a new one",
        );
    }
    None
}
