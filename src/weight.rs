//! Weight and priority of a key: numbers that cannot be out of range.
//!
//! Weights stay `f64` from the file to the draw; nothing quantises them, because a quantised
//! 0.001 is a key that silently gets no traffic (bifrost#5473).

/// Share of traffic inside one priority. Finite and not negative; 0 = drained.
#[derive(Clone, Copy, PartialEq, PartialOrd, Debug)]
pub struct Weight(f64);

impl Weight {
    /// What an absent `weight` means (CONTRACT 2.3).
    pub const DEFAULT: Self = Self(1.0);

    /// `None` for a negative, infinite or undefined number.
    pub fn new(value: f64) -> Option<Self> {
        // `+ 0.0` turns -0.0 into 0.0, so that equal weights also look equal.
        (value.is_finite() && value >= 0.0).then_some(Self(value + 0.0))
    }

    pub fn value(self) -> f64 {
        self.0
    }
}

/// 0 to 1000, lower is tried first (Redeo's rule).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Priority(u16);

impl Priority {
    /// What an absent `priority` means.
    pub const DEFAULT: Self = Self(500);
    pub const MAX: u16 = 1000;

    pub fn new(value: u16) -> Option<Self> {
        (value <= Self::MAX).then_some(Self(value))
    }

    pub fn value(self) -> u16 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused() {
        for bad in [-1.0, -f64::MIN_POSITIVE, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(Weight::new(bad), None, "{bad}");
        }
        for good in [0.0, -0.0, 0.001, 1.0, f64::MAX] {
            assert!(Weight::new(good).is_some(), "{good}");
        }
        assert!(Priority::new(1000).is_some());
        assert_eq!(Priority::new(1001), None);
    }
}
