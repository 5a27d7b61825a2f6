//! What is remembered of a key beyond a snapshot: bars, benches, cool-downs, meters.
//!
//! Atomic cells behind `Arc`s, reached from a `Key` without a map or a lock. Knows no provider, no
//! request and no clock: time comes in as [`Ticks`].

use crate::error::FaultClass;
use crate::ticks::Ticks;

/// Whether a key may be used for a model now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Admission {
    Free,
    /// Half-open: this request is the single probe.
    Probe,
    Barred {
        until: Ticks,
        why: Why,
    },
}

/// Why a key is barred; also the `status` of CONTRACT 2.3.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Why {
    /// The upstream refused the credential.
    Unauthorized,
    /// The upstream refused this model to this key.
    ModelAccess,
    /// Rate limited until a time.
    Cooling,
    /// Too many failures in a row.
    Breaker,
    /// Half-open, and another request is the probe.
    Probing,
}

/// How one attempt ended, as health sees it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Outcome {
    /// A good answer began (`first_byte`) or ended.
    Success,
    /// The upstream answered with an error of this class; `until` is the deadline it named.
    Fault { class: FaultClass, until: Option<Ticks> },
    /// No connection: the origin's fault, not the key's.
    ConnectFailed,
    /// Reset or first-byte deadline after sending.
    Unanswered,
}

/// All that is remembered of one key or of one origin.
#[derive(Debug, Default)]
pub struct KeyHealth {}
