//! Random lives of one key, in virtual time: what must hold whatever happens to it.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::limits::PROBE_SPAN;

#[derive(Clone, Copy, Debug)]
enum Event {
    Ask,
    Success,
    Bench,
    Cool(u64),
    Fail,
    CallerLeft,
    Vouched,
    Pass(u64),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        3 => Just(Event::Ask),
        2 => Just(Event::Success),
        1 => Just(Event::Bench),
        1 => (0u64..10_000).prop_map(Event::Cool),
        4 => Just(Event::Fail),
        1 => Just(Event::CallerLeft),
        1 => Just(Event::Vouched),
        3 => prop_oneof![0u64..2_000, 0u64..60_000, 0u64..700_000].prop_map(Event::Pass),
    ];
    proptest::collection::vec(event, 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// At most one probe at a time; a bar never ends before its time but for a credential that the
    /// upstream vouches for; every bar ends within the hour; to look changes nothing.
    #[test]
    fn any_life(events in events(), by_model in any::<bool>()) {
        let health = KeyHealth::default();
        let model = UpstreamModel::new("m");
        let model = by_model.then_some(&model);
        let mut now = Ticks(5_000_000);
        // When the probe that is out was given.
        let mut probing: Option<Ticks> = None;
        for event in events {
            let before = health.look(model, now);
            prop_assert_eq!(health.look(model, now), before);
            match event {
                Event::Pass(ms) => now = Ticks(now.0 + ms),
                Event::Ask => {
                    let admission = health.admits(model, now);
                    if admission == Admission::Probe {
                        let lost = probing.is_none_or(|since| now.since(since) >= PROBE_SPAN);
                        prop_assert!(lost, "a second probe");
                        probing = Some(now);
                    }
                }
                Event::Success => health.record(model, Outcome::Success, now),
                Event::Bench => health.record(model, Outcome::Bench, now),
                Event::Cool(seconds) => {
                    let until = Some(now.after(Duration::from_secs(seconds)));
                    health.record(model, Outcome::Cool { until }, now);
                }
                Event::Fail => health.record(None, Outcome::Failure, now),
                Event::CallerLeft => health.record(model, Outcome::Untold, now),
                Event::Vouched => health.vouched(now),
            }
            if !matches!(event, Event::Pass(_) | Event::Ask) {
                // Whoever reports may be the probe.
                probing = None;
            }
            match (before, health.look(model, now)) {
                (Admission::Barred { why: Why::Probing, .. }, _) => {}
                (Admission::Barred { until, why }, after) if until > now => match after {
                    Admission::Barred { until: later, .. } => prop_assert!(later >= until || matches!(event, Event::Vouched)),
                    after => prop_assert!(why == Why::Unauthorized && matches!(event, Event::Vouched), "{:?} to {:?}", why, after),
                },
                _ => {}
            }
            if let Admission::Barred { until, .. } = health.look(model, now) {
                prop_assert!(until <= now.after(COOL_MAX));
            }
        }
        // Left alone for an hour every key can be asked again.
        let is_barred = matches!(health.look(model, now.after(COOL_MAX)), Admission::Barred { .. });
        prop_assert!(!is_barred);
    }
}
