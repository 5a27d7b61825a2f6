//! Log events: tracing's events as lines, JSON or text.
//!
//! A subscriber of its own instead of a stack of layers: no spans are kept, so nothing is looked
//! up or allocated for them. Events of other crates are taken from `warn` on only, whatever the
//! level is: below it they may show headers, and with them credentials.

use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::SystemTime;

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};

use super::line::{push_escaped, push_json, push_text, push_time, push_time_of_day};
use super::log::{Format, LineBuffer};

/// The level, changeable while events come in.
#[derive(Debug)]
pub(super) struct SharedLevel(AtomicU8);

impl SharedLevel {
    pub(super) fn new(level: LevelFilter) -> Self {
        Self(AtomicU8::new(rank(level)))
    }

    pub(super) fn set(&self, level: LevelFilter) {
        if self.0.swap(rank(level), Ordering::Relaxed) != rank(level) {
            // Call sites remember whether anybody listens.
            tracing::callsite::rebuild_interest_cache();
        }
    }

    fn get(&self) -> LevelFilter {
        match self.0.load(Ordering::Relaxed) {
            0 => LevelFilter::OFF,
            1 => LevelFilter::ERROR,
            2 => LevelFilter::WARN,
            3 => LevelFilter::INFO,
            4 => LevelFilter::DEBUG,
            _ => LevelFilter::TRACE,
        }
    }
}

fn rank(level: LevelFilter) -> u8 {
    match level.into_level() {
        None => 0,
        Some(Level::ERROR) => 1,
        Some(Level::WARN) => 2,
        Some(Level::INFO) => 3,
        Some(Level::DEBUG) => 4,
        Some(Level::TRACE) => 5,
    }
}

/// Turns events into lines of one buffer.
pub(super) struct Events {
    pub(super) buffer: Arc<LineBuffer>,
    pub(super) level: Arc<SharedLevel>,
}

impl Subscriber for Events {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if metadata.is_span() { Interest::never() } else { Interest::sometimes() }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let ours = metadata.target().split("::").next() == Some(env!("CARGO_CRATE_NAME"));
        let level = if ours { self.level.get() } else { self.level.get().min(LevelFilter::WARN) };
        metadata.is_event() && *metadata.level() <= level
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level.get())
    }

    fn event(&self, event: &Event<'_>) {
        let format = self.buffer.format();
        let mut line = Vec::with_capacity(256);
        open(format, event.metadata(), &mut line);
        event.record(&mut Fields { format, out: &mut line });
        line.extend_from_slice(match format {
            Format::Json => b"}\n",
            Format::Text => b"\n",
        });
        // Written before the buffer is locked: a `Debug` of somebody else's runs outside the lock.
        self.buffer.push(|out| out.extend_from_slice(&line));
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

fn open(format: Format, metadata: &Metadata<'_>, out: &mut Vec<u8>) {
    let level = match *metadata.level() {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    };
    match format {
        Format::Json => {
            out.extend_from_slice(b"{\"time\":\"");
            push_time(out, SystemTime::now());
            out.extend_from_slice(b"\",\"level\":\"");
            out.extend_from_slice(level.as_bytes());
            out.extend_from_slice(b"\",\"target\":");
            push_json(out, metadata.target());
        }
        Format::Text => {
            push_time_of_day(out, SystemTime::now());
            out.push(b' ');
            // `info` is the usual case and says nothing; the others stand out.
            if *metadata.level() != Level::INFO {
                out.push(b' ');
                out.extend_from_slice(level.to_ascii_uppercase().as_bytes());
            }
        }
    }
}

struct Fields<'a> {
    format: Format,
    out: &'a mut Vec<u8>,
}

impl Fields<'_> {
    fn text(&mut self, field: &Field, value: &str) {
        match (self.format, field.name()) {
            (Format::Json, name) => {
                self.name(name);
                push_json(self.out, value);
            }
            (Format::Text, "message") => {
                self.out.push(b' ');
                push_escaped(self.out, value);
            }
            (Format::Text, name) => {
                self.name(name);
                push_text(self.out, value);
            }
        }
    }

    fn bare(&mut self, field: &Field, value: impl fmt::Display) {
        self.name(field.name());
        self.out.extend_from_slice(value.to_string().as_bytes());
    }

    fn name(&mut self, name: &str) {
        match self.format {
            Format::Json => {
                self.out.push(b',');
                push_json(self.out, name);
                self.out.push(b':');
            }
            Format::Text => {
                self.out.push(b' ');
                self.out.extend_from_slice(name.as_bytes());
                self.out.push(b'=');
            }
        }
    }
}

impl Visit for Fields<'_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        if value.is_finite() {
            self.bare(field, value);
        } else {
            self.text(field, &value.to_string());
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.bare(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.bare(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.bare(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, value);
    }

    /// The error and what caused it.
    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let mut text = value.to_string();
        let mut cause = value.source();
        while let Some(error) = cause {
            // Writing to a String does not fail.
            let _ = write!(text, ": {error}");
            cause = error.source();
        }
        self.text(field, &text);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(field, &format!("{value:?}"));
    }
}
