//! Medians, ratios and how they are printed.

use std::time::Duration;

use crate::cases::Case;
use crate::load::Window;
use crate::process::Kind;

/// What was measured, in the order of measuring.
#[derive(Default)]
pub struct Table {
    rows: Vec<Row>,
    floors: Vec<(&'static str, f64, f64)>,
    incomplete: bool,
    heading_printed: bool,
}

struct Row {
    case: &'static str,
    kind: Kind,
    /// CPU of one request or event, in microseconds.
    cost: f64,
    busy: f64,
    per_second: f64,
    p50: f64,
    p99: f64,
}

impl Table {
    pub fn add(&mut self, case: &Case, kind: Kind, window: &Window, cpu: Duration) {
        let (seconds, done) = (window.length.as_secs_f64(), window.done as f64);
        self.rows.push(Row {
            case: case.name,
            kind,
            cost: cpu.as_secs_f64() * 1e6 / done,
            busy: cpu.as_secs_f64() / seconds,
            per_second: done / seconds,
            p50: window.latency(0.50),
            p99: window.latency(0.99),
        });
    }

    /// The latency of a case without a gateway.
    pub fn direct(&mut self, case: &Case, window: &Window) {
        self.floors.push((case.name, window.latency(0.50), window.latency(0.99)));
    }

    pub fn gave_up(&mut self, case: &Case, kind: Kind) {
        println!("  given up: {} through {}", case.name, kind.name());
        self.incomplete = true;
    }

    pub fn complete(&self) -> bool {
        !self.incomplete
    }

    pub fn print_case(&mut self, case: &Case) {
        if !std::mem::replace(&mut self.heading_printed, true) {
            println!(
                "{:<27} {:>9} {:>9}  {:>5} {:>13}  {:>5}  {:>13}  {:>15}",
                "CPU per request or event",
                "bare",
                "keyway",
                "ratio",
                "(each round)",
                "reach",
                "core busy",
                "per second"
            );
        }
        let of = |kind: Kind, figure: fn(&Row) -> f64| -> Vec<f64> {
            self.rows.iter().filter(|row| row.case == case.name && row.kind == kind).map(figure).collect()
        };
        let (bare, keyway) = (of(Kind::Bare, |row| row.cost), of(Kind::Keyway, |row| row.cost));
        let pair = |figure: fn(&Row) -> f64, show: fn(f64) -> String| {
            let [bare, keyway] =
                [Kind::Bare, Kind::Keyway].map(|kind| median(&of(kind, figure)).map_or("-".into(), show));
            format!("{bare} / {keyway}")
        };
        // Neighbours in time are compared, so that drift cancels out.
        let mut ratios: Vec<f64> = bare.iter().zip(&keyway).map(|(bare, keyway)| keyway / bare).collect();
        ratios.sort_by(f64::total_cmp);
        let micros = |costs: &[f64]| median(costs).map_or("-".into(), |cost| format!("{cost:.2} µs"));
        let (ratio, spread, verdict) = match (median(&ratios), ratios.first(), ratios.last()) {
            (Some(ratio), Some(low), Some(high)) => (
                format!("{ratio:.2}"),
                format!("({low:.2}-{high:.2})"),
                if ratio <= case.reach { "reached" } else { "MISSED" },
            ),
            _ => ("-".into(), String::new(), ""),
        };
        println!(
            "{:<27} {:>9} {:>9}  {ratio:>5} {spread:>13}  {:>5.2}  {:>13}  {:>15}  {verdict}",
            case.name,
            micros(&bare),
            micros(&keyway),
            case.reach,
            pair(|row| row.busy, |busy| format!("{busy:.2}")),
            pair(|row| row.per_second, |rate| format!("{rate:.0}")),
        );
    }

    /// What the open-loop cases say about time.
    pub fn print_end(&self) {
        for (case, floor_p50, floor_p99) in &self.floors {
            let added = |kind: Kind| {
                let of = |figure: fn(&Row) -> f64| -> Option<f64> {
                    let rows = self.rows.iter().filter(|row| row.case == *case && row.kind == kind);
                    median(&rows.map(figure).collect::<Vec<_>>())
                };
                let (p50, p99) = (of(|row| row.p50)?, of(|row| row.p99)?);
                Some(format!("{} {:.0} / {:.0} µs", kind.name(), p50 - floor_p50, p99 - floor_p99))
            };
            let lines: Vec<String> = [Kind::Bare, Kind::Keyway].into_iter().filter_map(added).collect();
            println!(
                "\n{case}, latency from the due time, p50 / p99: without a gateway {floor_p50:.0} / {floor_p99:.0} µs; added: {}",
                lines.join(", ")
            );
        }
    }
}

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}
