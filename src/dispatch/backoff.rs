//! How long to wait before the same key is asked again. Pure: the dice come in.

use std::time::Duration;

use super::Dice;
use crate::snapshot::Retry;

/// Around the doubled wait, so that callers who failed together do not come back together.
const JITTER: f64 = 0.2;

/// The wait before retry number `retry`, counted from 0: doubled each time, at most
/// `retry_backoff_max`, and not before the time that the upstream named. `None`: it named one that is
/// beyond that bound, which is not worth holding a request for.
pub(super) fn wait(retry: u32, policy: &Retry, named: Option<Duration>, dice: &mut Dice) -> Option<Duration> {
    let doubled = policy.backoff_initial.saturating_mul(2u32.saturating_pow(retry)).min(policy.backoff_max);
    let spread = 1.0 - JITTER + 2.0 * JITTER * dice.unit();
    let wait = doubled.mul_f64(spread).min(policy.backoff_max);
    match named {
        Some(named) if named > policy.backoff_max => None,
        named => Some(wait.max(named.unwrap_or_default())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(initial: u64, max: u64) -> Retry {
        let (backoff_initial, backoff_max) = (Duration::from_millis(initial), Duration::from_millis(max));
        Retry { max: 9, backoff_initial, backoff_max }
    }

    /// bifrost.md 11.5.
    #[test]
    fn doubled_up_to_the_bound() {
        let mut dice = Dice::new(1);
        let mut drawn = 0;
        for (retry, base) in [(0, 500), (1, 1000), (2, 2000), (3, 4000), (4, 5000), (5, 5000), (40, 5000)] {
            let (mut low, mut high) = (u128::MAX, 0);
            for _ in 0..2000 {
                let ms = wait(retry, &policy(500, 5000), None, &mut dice).unwrap().as_millis();
                assert!((base * 8 / 10..=(base * 12 / 10).min(5000)).contains(&ms), "{retry}: {ms}");
                (low, high) = (low.min(ms), high.max(ms));
                drawn += 1;
            }
            // The jitter uses its room on both sides.
            assert!(low < base * 82 / 100 && high > (base * 118 / 100).min(4999), "{retry}: {low} to {high}");
        }
        println!("{drawn} waits");
    }

    #[test]
    fn the_time_that_the_upstream_names() {
        let mut dice = Dice::new(1);
        let mut of = |named: u64| wait(0, &policy(500, 5000), Some(Duration::from_millis(named)), &mut dice);
        assert_eq!(of(3000), Some(Duration::from_millis(3000)));
        assert_eq!(of(5000), Some(Duration::from_millis(5000)));
        assert_eq!(of(5001), None, "the key cools instead");
        assert!(of(1).unwrap() >= Duration::from_millis(400), "never sooner than the back-off");
    }
}
