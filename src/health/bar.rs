//! One bar: until when, why, and who probes. Lock-free to read and to raise.
//!
//! Until and why share one atomic, so that no reader sees the one without the other, and raising is
//! `fetch_max`: the longest deadline wins whatever the order of arrival.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Admission, Why};
use crate::id::UpstreamModel;
use crate::limits::{MODEL_BARS_MAX, PROBE_SPAN, RAMP_SPAN};
use crate::ticks::Ticks;

/// Low bits of the packed word hold the reason, the rest the milliseconds: room for 10^16 of them.
const WHY_BITS: u32 = 8;
const WHY_MASK: u64 = (1 << WHY_BITS) - 1;

/// A bar over a key, an origin, or one model of a key.
#[derive(Debug, Default)]
pub(super) struct Bar {
    /// `until << 8 | why`; 0 = never barred. A lifted bar keeps the time of its end, from which the
    /// share ramps up.
    packed: AtomicU64,
    /// Until when the running probe is waited for; 0 = nobody probes.
    probe: AtomicU64,
}

/// The bar ended in good standing: only the ramp remains.
const LIFTED: u8 = 0;

fn code(why: Why) -> u8 {
    match why {
        Why::Cooling => 1,
        Why::Breaker => 2,
        Why::ModelAccess => 3,
        Why::Unauthorized => 4,
        // Never stored: it is derived from `probe`.
        Why::Probing => LIFTED,
    }
}

fn why(code: u64) -> Option<Why> {
    match code {
        1 => Some(Why::Cooling),
        2 => Some(Why::Breaker),
        3 => Some(Why::ModelAccess),
        4 => Some(Why::Unauthorized),
        _ => None,
    }
}

fn pack(until: Ticks, code: u8) -> u64 {
    (until.0.min(u64::MAX >> WHY_BITS) << WHY_BITS) | u64::from(code)
}

impl Bar {
    pub(super) fn raise(&self, until: Ticks, why: Why) {
        self.packed.fetch_max(pack(until, code(why)), Ordering::AcqRel);
        self.release();
    }

    /// Ends a bar whose time is over, after a success. One that still runs stays: the success is of
    /// a request that began before it.
    pub(super) fn lift(&self, now: Ticks) {
        let packed = self.packed.load(Ordering::Acquire);
        if packed == 0 {
            return;
        }
        if Ticks(packed >> WHY_BITS) <= now && needs_probe(packed) {
            // Lost to a raise in between: that one is newer, and stays.
            let lifted = self.packed.compare_exchange(packed, pack(now, LIFTED), Ordering::AcqRel, Ordering::Acquire);
            if lifted.is_ok() {
                self.release();
            }
        }
    }

    /// Gives the probe back, so that the next request may be one.
    pub(super) fn release(&self) {
        if self.probe.load(Ordering::Relaxed) != 0 {
            self.probe.store(0, Ordering::Release);
        }
    }

    pub(super) fn why(&self) -> Option<Why> {
        why(self.packed.load(Ordering::Acquire) & WHY_MASK)
    }

    /// Ends a bar before its time, if it was raised for this reason.
    pub(super) fn pardon(&self, reason: Why, now: Ticks) {
        let packed = self.packed.load(Ordering::Acquire);
        if why(packed & WHY_MASK) != Some(reason) {
            return;
        }
        // Lost to a raise in between: that one is newer, and stays.
        if self.packed.compare_exchange(packed, pack(now, LIFTED), Ordering::AcqRel, Ordering::Acquire).is_ok() {
            self.release();
        }
    }

    pub(super) fn look(&self, now: Ticks) -> Admission {
        let packed = self.packed.load(Ordering::Acquire);
        if packed == 0 {
            return Admission::Free;
        }
        let until = Ticks(packed >> WHY_BITS);
        match why(packed & WHY_MASK) {
            Some(why) if until > now => Admission::Barred { until, why },
            Some(_) if needs_probe(packed) => {
                let probe = Ticks(self.probe.load(Ordering::Acquire));
                if probe > now { Admission::Barred { until: probe, why: Why::Probing } } else { Admission::Probe }
            }
            _ => ramp(now.since(until).as_millis()),
        }
    }

    /// As [`look`](Self::look), and takes the probe where there is one to take.
    pub(super) fn admits(&self, now: Ticks) -> Admission {
        let seen = self.look(now);
        if seen != Admission::Probe {
            return seen;
        }
        let until = now.after(PROBE_SPAN);
        let free = self.probe.load(Ordering::Acquire);
        let won =
            free <= now.0 && self.probe.compare_exchange(free, until.0, Ordering::AcqRel, Ordering::Acquire).is_ok();
        if won { Admission::Probe } else { Admission::Barred { until, why: Why::Probing } }
    }
}

/// A cool-down ends by itself, for the upstream said when; all else is tried by one request first.
fn needs_probe(packed: u64) -> bool {
    matches!(why(packed & WHY_MASK), Some(Why::Breaker | Why::ModelAccess | Why::Unauthorized))
}

/// From a tenth of the weight to all of it over RAMP_SPAN.
fn ramp(since_ms: u128) -> Admission {
    let span = RAMP_SPAN.as_millis();
    if since_ms >= span {
        return Admission::Free;
    }
    let permille = 100 + since_ms * 900 / span;
    Admission::Ramping { permille: u16::try_from(permille).unwrap_or(1000) }
}

/// Bars of single models of one key.
#[derive(Debug, Default)]
pub(super) struct ModelBars {
    rows: [ModelBar; MODEL_BARS_MAX],
    /// Taken to give a row to a model, never to read one.
    writer: Mutex<()>,
}

#[derive(Debug, Default)]
struct ModelBar {
    /// Hash of the upstream model; 0 = free.
    model: AtomicU64,
    bar: Bar,
}

fn hash(model: &UpstreamModel) -> u64 {
    let mut hasher = DefaultHasher::new();
    model.hash(&mut hasher);
    hasher.finish().max(1)
}

impl ModelBars {
    pub(super) fn find(&self, model: &UpstreamModel) -> Option<&Bar> {
        let wanted = hash(model);
        self.rows.iter().find(|row| row.model.load(Ordering::Acquire) == wanted).map(|row| &row.bar)
    }

    pub(super) fn raise(&self, model: &UpstreamModel, until: Ticks, why: Why, now: Ticks) {
        // Nothing panics while it is held; a poisoned lock guards no broken state.
        let _writing = self.writer.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(bar) = self.find(model) {
            bar.raise(until, why);
            return;
        }
        // Full: the bar that ends first gives way, an ended one before all others.
        let end = |row: &ModelBar| match row.model.load(Ordering::Acquire) {
            0 => Ticks(0),
            _ => Ticks(row.bar.packed.load(Ordering::Acquire) >> WHY_BITS),
        };
        let Some(row) = self.rows.iter().min_by_key(|row| end(row)) else { return };
        if end(row) > now && end(row) >= until {
            return;
        }
        row.model.store(0, Ordering::Release);
        row.bar.packed.store(0, Ordering::Release);
        row.bar.probe.store(0, Ordering::Release);
        row.bar.raise(until, why);
        row.model.store(hash(model), Ordering::Release);
    }
}
