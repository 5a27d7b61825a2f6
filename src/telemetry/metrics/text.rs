//! OpenMetrics text: families, samples, escapes, the end mark.
//!
//! Names are ours and static; label values may hold anything and are escaped, so that no value can
//! begin a line of its own.

use std::fmt::Write as _;

use super::cell::{Bounds, Sums};

/// `content-type` of what [`Exposition::finish`] gives.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
    Info,
}

/// A document in the making.
#[derive(Debug, Default)]
pub struct Exposition {
    out: String,
}

/// One family: its samples stand together.
#[derive(Debug)]
pub struct Samples<'a> {
    out: &'a mut String,
    name: &'static str,
    kind: Kind,
}

impl Exposition {
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins a family. `name` is without `_total`, `_info`, `_bucket`; where it ends in a unit,
    /// that is declared.
    pub fn family(&mut self, name: &'static str, kind: Kind, help: &str) -> Samples<'_> {
        let word = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
            Kind::Info => "info",
        };
        let _ = writeln!(self.out, "# TYPE {name} {word}");
        if let Some(unit) = ["seconds", "bytes"].into_iter().find(|unit| name.ends_with(unit)) {
            let _ = writeln!(self.out, "# UNIT {name} {unit}");
        }
        let _ = write!(self.out, "# HELP {name} ");
        push_escaped(&mut self.out, help);
        self.out.push('\n');
        Samples { out: &mut self.out, name, kind }
    }

    pub fn finish(mut self) -> String {
        self.out.push_str("# EOF\n");
        self.out
    }
}

impl Samples<'_> {
    pub fn sample(&mut self, labels: &[(&str, &str)], value: u64) {
        let name = self.suffixed();
        self.line(name, labels, None, &value.to_string());
    }

    /// NaN and infinities are written as the format spells them.
    pub fn sample_f64(&mut self, labels: &[(&str, &str)], value: f64) {
        let text = if value.is_nan() {
            "NaN".to_owned()
        } else if value.is_infinite() {
            if value > 0.0 { "+Inf".to_owned() } else { "-Inf".to_owned() }
        } else {
            value.to_string()
        };
        let name = self.suffixed();
        self.line(name, labels, None, &text);
    }

    pub fn histogram<const N: usize>(&mut self, labels: &[(&str, &str)], bounds: &Bounds<N>, sums: &Sums<N>) {
        let mut below = 0;
        for (bound, count) in bounds.0.iter().zip(&sums.within) {
            below += count;
            self.line("_bucket", labels, Some(&seconds(*bound)), &below.to_string());
        }
        let count = sums.count().to_string();
        self.line("_bucket", labels, Some("+Inf"), &count);
        self.line("_sum", labels, None, &seconds(sums.sum_ns));
        self.line("_count", labels, None, &count);
    }

    fn suffixed(&self) -> &'static str {
        match self.kind {
            Kind::Counter => "_total",
            Kind::Info => "_info",
            Kind::Gauge | Kind::Histogram => "",
        }
    }

    fn line(&mut self, suffix: &str, labels: &[(&str, &str)], bound: Option<&str>, value: &str) {
        self.out.push_str(self.name);
        self.out.push_str(suffix);
        let mut lead = '{';
        for (label, text) in labels.iter().copied().chain(bound.map(|bound| ("le", bound))) {
            self.out.push(lead);
            lead = ',';
            self.out.push_str(label);
            self.out.push_str("=\"");
            push_escaped(self.out, text);
            self.out.push('"');
        }
        if lead == ',' {
            self.out.push('}');
        }
        self.out.push(' ');
        self.out.push_str(value);
        self.out.push('\n');
    }
}

/// Nanoseconds as seconds, exact, without trailing zeros but for `.0`.
fn seconds(ns: u64) -> String {
    let fraction = format!("{:09}", ns % 1_000_000_000);
    let trimmed = fraction.trim_end_matches('0');
    format!("{}.{}", ns / 1_000_000_000, if trimmed.is_empty() { "0" } else { trimmed })
}

fn push_escaped(out: &mut String, text: &str) {
    for char in text.chars() {
        match char {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c if c.is_control() => {
                let _ = write!(out, "\\\\u{{{:x}}}", u32::from(c));
            }
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_whole_document() {
        let mut document = Exposition::new();
        let mut counter = document.family("keyway_requests", Kind::Counter, "Requests.");
        counter.sample(&[("provider", "a\"b\\c\nd")], 3);
        document.family("keyway_in_flight", Kind::Gauge, "Now.").sample(&[], 7);
        document.family("keyway_ratio", Kind::Gauge, "Share.").sample_f64(&[], f64::NAN);
        document.family("keyway_config", Kind::Info, "Config.").sample(&[("hash", "ab")], 1);
        let bounds = Bounds([1_000_000, 2_500_000_000]);
        let sums = Sums { within: [2, 1], over: 4, sum_ns: 1_500_000_000 };
        document.family("keyway_wait_seconds", Kind::Histogram, "Wait.").histogram(&[("p", "x")], &bounds, &sums);
        let expected = "# TYPE keyway_requests counter\n# HELP keyway_requests Requests.\n\
            keyway_requests_total{provider=\"a\\\"b\\\\c\\nd\"} 3\n\
            # TYPE keyway_in_flight gauge\n# HELP keyway_in_flight Now.\nkeyway_in_flight 7\n\
            # TYPE keyway_ratio gauge\n# HELP keyway_ratio Share.\nkeyway_ratio NaN\n\
            # TYPE keyway_config info\n# HELP keyway_config Config.\nkeyway_config_info{hash=\"ab\"} 1\n\
            # TYPE keyway_wait_seconds histogram\n# UNIT keyway_wait_seconds seconds\n# HELP keyway_wait_seconds Wait.\n\
            keyway_wait_seconds_bucket{p=\"x\",le=\"0.001\"} 2\nkeyway_wait_seconds_bucket{p=\"x\",le=\"2.5\"} 3\n\
            keyway_wait_seconds_bucket{p=\"x\",le=\"+Inf\"} 7\nkeyway_wait_seconds_sum{p=\"x\"} 1.5\n\
            keyway_wait_seconds_count{p=\"x\"} 7\n# EOF\n";
        assert_eq!(document.finish(), expected);
    }

    proptest! {
        #[test]
        fn no_label_begins_a_line(text in any::<String>()) {
            let mut document = Exposition::new();
            document.family("x", Kind::Gauge, "X.").sample(&[("l", &text)], 1);
            let out = document.finish();
            prop_assert_eq!(out.lines().count(), 4);
            prop_assert_eq!(out.chars().filter(|c| c.is_control() && *c != '\n').count(), 0);
        }
    }
}
