//! The series of the gateway: what is counted per request and per attempt, and the page that
//! `/metrics` shows.
//!
//! Recording is a look-up in the worker's own map and a few plain additions. What others know
//! already (generation, reloads, in flight) is not kept twice: it comes in as [`Observed`] at the
//! scrape. Names follow the GenAI semantic conventions where these have one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use super::access::{AccessLine, Outcome};
use crate::id::{ProviderName, UpstreamModel};

pub mod cell;
pub mod family;
pub mod text;

use cell::{Bounds, Counter, Histogram, Sums};
use family::{Family, Newcomer, Shard};
use text::{Exposition, Kind};

/// Label value where a request had no provider, model or key: refused before there was one.
pub const NONE: &str = "_none";

const US: u64 = 1_000;
const MS: u64 = 1_000_000;
const S: u64 = 1_000_000_000;

/// Of `gen_ai.server.request.duration`: the bounds that the conventions advise.
const DURATION: Bounds<14> = Bounds([
    10 * MS,
    20 * MS,
    40 * MS,
    80 * MS,
    160 * MS,
    320 * MS,
    640 * MS,
    1280 * MS,
    2560 * MS,
    5120 * MS,
    10_240 * MS,
    20_480 * MS,
    40_960 * MS,
    81_920 * MS,
]);
/// Of `gen_ai.server.time_to_first_token`: as advised there.
const FIRST_BYTE: Bounds<16> = Bounds([
    MS,
    5 * MS,
    10 * MS,
    20 * MS,
    40 * MS,
    60 * MS,
    80 * MS,
    100 * MS,
    250 * MS,
    500 * MS,
    750 * MS,
    S,
    2500 * MS,
    5 * S,
    7500 * MS,
    10 * S,
]);
/// Of our own share: microseconds are the usual, milliseconds the alarm.
const OVERHEAD: Bounds<12> =
    Bounds([25 * US, 50 * US, 100 * US, 250 * US, 500 * US, MS, 2500 * US, 5 * MS, 10 * MS, 25 * MS, 100 * MS, S]);

/// How one upstream try ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum AttemptOutcome {
    /// Its answer went out whole.
    Ok,
    /// No connection.
    Connect,
    /// A deadline passed before the answer began.
    Timeout,
    /// The connection broke.
    Broken,
    /// The key was refused.
    Credential,
    /// The key may not use the model.
    ModelAccess,
    Rate,
    /// The caller's mistake, or a content that the upstream refuses.
    Caller,
    Server,
    /// The caller left before the end of the answer.
    CallerLeft,
}

impl AttemptOutcome {
    pub const ALL: [Self; 10] = [
        Self::Ok,
        Self::Connect,
        Self::Timeout,
        Self::Broken,
        Self::Credential,
        Self::ModelAccess,
        Self::Rate,
        Self::Caller,
        Self::Server,
        Self::CallerLeft,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Connect => "connect",
            Self::Timeout => "timeout",
            Self::Broken => "broken",
            Self::Credential => "credential",
            Self::ModelAccess => "model_access",
            Self::Rate => "rate",
            Self::Caller => "caller",
            Self::Server => "server",
            Self::CallerLeft => "caller_left",
        }
    }
}

/// Status classes told apart; 499 stands for a caller who left.
const CLASSES: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "none"];
const TOKEN_KINDS: [&str; 4] = ["input", "input_cached", "output", "output_reasoning"];

/// Cells of one (provider, model, operation) in one worker.
#[derive(Debug, Default)]
#[repr(align(128))]
struct RequestCells {
    by_class: [Counter; CLASSES.len()],
    duration: Histogram<14>,
    first_byte: Histogram<16>,
    tokens: [Counter; TOKEN_KINDS.len()],
    bytes_in: Counter,
    bytes_out: Counter,
    callers_left: Counter,
    truncated: Counter,
}

/// Cells of one (provider, key) in one worker.
#[derive(Debug, Default)]
#[repr(align(128))]
struct AttemptCells([Counter; AttemptOutcome::ALL.len()]);

/// All meters of one gateway.
#[derive(Debug)]
pub struct Meters {
    requests: Arc<Family<RequestCells, 3>>,
    attempts: Arc<Family<AttemptCells, 2>>,
    workers: Vec<Arc<WorkerMeters>>,
    started: SystemTime,
    panics: AtomicU64,
}

/// The ends that one worker records into.
#[derive(Debug)]
#[repr(align(128))]
pub struct WorkerMeters {
    requests: Shard<RequestCells, 3>,
    attempts: Shard<AttemptCells, 2>,
    overhead: Histogram<12>,
}

/// What others know at the time of a scrape.
#[derive(Clone, Debug)]
pub struct Observed<'a> {
    /// Of the generation that serves.
    pub generation: u64,
    /// First hex digits of its hash.
    pub hash: &'a str,
    /// When it was swapped in.
    pub last_success: SystemTime,
    /// Whether the last reload was taken.
    pub last_reload_ok: bool,
    pub reloads_ok: u64,
    pub reloads_failed: u64,
    /// `inotify` or `poll`.
    pub watch_mode: &'a str,
    /// Requests in flight by generation number, of every generation that is alive.
    pub generations: &'a [(u64, u64)],
    pub snapshots_alive: u64,
    pub connections: u64,
    pub log_lines_dropped: u64,
    /// Of request bodies that are held, and how many may be.
    pub body_bytes: u64,
    pub body_bytes_max: u64,
}

impl Meters {
    /// For this many workers, at least one.
    pub fn new(workers: usize, started: SystemTime) -> Self {
        let requests = Arc::new(Family::default());
        let attempts = Arc::new(Family::default());
        let workers = (0..workers.max(1)).map(|_| {
            let (requests, attempts) = (Family::shard(&requests), Family::shard(&attempts));
            Arc::new(WorkerMeters { requests, attempts, overhead: Histogram::default() })
        });
        let workers = workers.collect();
        Self { requests, attempts, workers, started, panics: AtomicU64::new(0) }
    }

    /// A handler or a body panicked.
    pub fn panicked(&self) {
        self.panics.fetch_add(1, Ordering::Relaxed);
    }

    pub fn worker(&self, index: usize) -> Arc<WorkerMeters> {
        let found = self.workers.get(index % self.workers.len().max(1));
        found.map_or_else(
            || {
                // Unreachable with at least one worker; cells of nobody are better than a panic.
                let (requests, attempts) = (self.requests.shard(), self.attempts.shard());
                Arc::new(WorkerMeters { requests, attempts, overhead: Histogram::default() })
            },
            Arc::clone,
        )
    }

    /// Tries of one key so far: its share is compared with the expected one.
    pub fn key_attempts(&self, provider: &str, key: &str) -> u64 {
        let series = self.attempts.series();
        let cells = series.iter().filter(|([p, k], _)| **p == *provider && **k == *key).flat_map(|(_, cells)| cells);
        cells.flat_map(|cell| &cell.0).map(Counter::value).sum()
    }

    /// The whole page.
    pub fn render(&self, observed: &Observed<'_>) -> String {
        let mut page = Exposition::new();
        self.write(observed, &mut page);
        page.finish()
    }

    /// The core series, for a page that has others too.
    pub fn write(&self, observed: &Observed<'_>, page: &mut Exposition) {
        self.write_requests(page);
        self.write_tokens(page);
        self.write_attempts(page);
        let mut sums = Sums::default();
        for worker in &self.workers {
            sums.add(&worker.overhead);
        }
        let help = "Own share of the time to the first byte: reading, choosing, rewriting.";
        page.family("keyway_gateway_overhead_seconds", Kind::Histogram, help).histogram(&[], &OVERHEAD, &sums);
        write_config(observed, page);
        write_process(observed, self.started, page);
        page.family("keyway_panics", Kind::Counter, "Bugs that cost one caller an answer; each has a line in the log.")
            .sample(&[], self.panics.load(Ordering::Relaxed));
    }

    fn write_requests(&self, page: &mut Exposition) {
        let series = self.requests.series();
        let mut out = page.family("keyway_requests", Kind::Counter, "Requests by status class of the answer.");
        for ([provider, model, operation], cells) in &series {
            for (class, name) in CLASSES.iter().enumerate() {
                let count = sum(cells, |cell| cell.by_class.get(class));
                if count > 0 {
                    let labels = [("provider", &**provider), ("model", model), ("operation", operation)];
                    out.sample(&[labels.as_slice(), &[("status_class", name)]].concat(), count);
                }
            }
        }
        let help = "Time from the head of a request to the last byte of its answer.";
        let mut out = page.family("gen_ai_server_request_duration_seconds", Kind::Histogram, help);
        for (labels, cells) in &series {
            let mut sums = Sums::default();
            cells.iter().for_each(|cell| sums.add(&cell.duration));
            out.histogram(&conventional(labels), &DURATION, &sums);
        }
        let help = "Time from the head of a streamed request to the first byte of its answer.";
        let mut out = page.family("gen_ai_server_time_to_first_token_seconds", Kind::Histogram, help);
        for (labels, cells) in &series {
            let mut sums = Sums::default();
            cells.iter().for_each(|cell| sums.add(&cell.first_byte));
            if sums.count() > 0 {
                out.histogram(&conventional(labels), &FIRST_BYTE, &sums);
            }
        }
    }

    fn write_tokens(&self, page: &mut Exposition) {
        let series = self.requests.series();
        let mut out = page.family("keyway_tokens", Kind::Counter, "Tokens that upstreams reported, by kind.");
        for ([provider, model, operation], cells) in &series {
            for (kind, name) in TOKEN_KINDS.iter().enumerate() {
                let count = sum(cells, |cell| cell.tokens.get(kind));
                if count > 0 {
                    let labels = [("provider", &**provider), ("model", model), ("operation", operation)];
                    out.sample(&[labels.as_slice(), &[("kind", name)]].concat(), count);
                }
            }
        }
        let mut plain = |name, help: &str, pick: fn(&RequestCells) -> &Counter| {
            let all = series.iter().flat_map(|(_, cells)| cells).map(|cell| pick(cell).value()).sum();
            page.family(name, Kind::Counter, help).sample(&[], all);
        };
        plain("keyway_request_body_bytes", "Bytes of request bodies.", |cell| &cell.bytes_in);
        plain("keyway_response_body_bytes", "Bytes of response bodies.", |cell| &cell.bytes_out);
        plain("keyway_callers_left", "Requests whose caller did not wait for the end.", |cell| &cell.callers_left);
        plain("keyway_answers_truncated", "Answers that the upstream broke off.", |cell| &cell.truncated);
    }

    fn write_attempts(&self, page: &mut Exposition) {
        let help = "Upstream tries by key and how they ended.";
        let mut out = page.family("keyway_attempts", Kind::Counter, help);
        for ([provider, key], cells) in &self.attempts.series() {
            for outcome in AttemptOutcome::ALL {
                let count = sum(cells, |cell| cell.0.get(outcome as usize));
                if count > 0 {
                    out.sample(&[("provider", provider), ("key", key), ("outcome", outcome.as_str())], count);
                }
            }
        }
    }
}

impl WorkerMeters {
    /// A request has ended.
    pub fn request(&self, line: &AccessLine) {
        let provider = line.provider.as_ref().map_or(NONE, ProviderName::as_str);
        let model = line.upstream_model.as_ref().map_or(NONE, UpstreamModel::as_str);
        // The caller's text takes a place only once an upstream has answered to it.
        let proven = line.upstream_model.is_none() || (200..400).contains(&line.status);
        let newcomer = if proven { Newcomer::Admit } else { Newcomer::NotAt(1) };
        self.requests.with([provider, model, line.route], newcomer, |cells| {
            cells.record(line);
            // Under the same lock, so it has one writer too.
            if let Some(overhead) = line.overhead {
                self.overhead.observe(&OVERHEAD, overhead);
            }
        });
    }

    /// One upstream try has ended.
    pub fn attempt(&self, provider: &str, key: &str, outcome: AttemptOutcome) {
        // Providers and keys come from the config, so each may take a place.
        self.attempts.with([provider, key], Newcomer::Admit, |cells| {
            if let Some(counter) = cells.0.get(outcome as usize) {
                counter.add(1);
            }
        });
    }
}

impl RequestCells {
    fn record(&self, line: &AccessLine) {
        let class = usize::from(line.status / 100).checked_sub(1).filter(|class| *class < 5).unwrap_or(5);
        if let Some(counter) = self.by_class.get(class) {
            counter.add(1);
        }
        self.duration.observe(&DURATION, line.duration);
        if let Some(first_byte) = line.first_byte.filter(|_| line.stream) {
            self.first_byte.observe(&FIRST_BYTE, first_byte);
        }
        let tokens = line.tokens;
        let counts = [tokens.input, tokens.input_cached, tokens.output, tokens.output_reasoning];
        for (counter, count) in self.tokens.iter().zip(counts) {
            counter.add(count);
        }
        self.bytes_in.add(line.bytes_in);
        self.bytes_out.add(line.bytes_out);
        match line.outcome {
            Outcome::CallerLeft => self.callers_left.add(1),
            Outcome::Truncated => self.truncated.add(1),
            Outcome::Ok | Outcome::UpstreamError | Outcome::Refused | Outcome::GatewayError => {}
        }
    }
}

fn sum<C>(cells: &[Arc<C>], pick: impl Fn(&C) -> Option<&Counter>) -> u64 {
    cells.iter().filter_map(|cell| pick(cell)).map(Counter::value).sum()
}

/// Labels as the GenAI conventions name them, operations by their well-known values. No two of ours
/// may share one of theirs: a label set stands once in a family.
fn conventional(labels: &[Box<str>; 3]) -> [(&str, &str); 3] {
    let [provider, model, operation] = labels;
    let operation = match &**operation {
        "chat_completion" => "chat",
        "embedding" => "embeddings",
        other => other,
    };
    [("gen_ai_provider_name", provider), ("gen_ai_request_model", model), ("gen_ai_operation_name", operation)]
}

fn write_config(observed: &Observed<'_>, page: &mut Exposition) {
    let mut gauge = |name, help: &str, value| page.family(name, Kind::Gauge, help).sample(&[], value);
    gauge("keyway_config_generation", "Number of the generation that serves.", observed.generation);
    let help = "Whether the last reload was taken.";
    gauge("keyway_config_last_reload_successful", help, u64::from(observed.last_reload_ok));
    gauge("keyway_config_snapshots_alive", "Snapshots that something still holds.", observed.snapshots_alive);
    let since = observed.last_success.duration_since(UNIX_EPOCH).unwrap_or_default();
    page.family("keyway_config_last_success_timestamp_seconds", Kind::Gauge, "When the serving generation came in.")
        .sample_f64(&[], since.as_secs_f64());
    page.family("keyway_config", Kind::Info, "Hash of the serving generation.").sample(&[("hash", observed.hash)], 1);
    let mut reloads = page.family("keyway_config_reload", Kind::Counter, "Reloads by result.");
    reloads.sample(&[("result", "ok")], observed.reloads_ok);
    reloads.sample(&[("result", "failed")], observed.reloads_failed);
    page.family("keyway_config_watch_mode", Kind::Gauge, "How changes of the file are noticed.")
        .sample(&[("mode", observed.watch_mode)], 1);
}

fn write_process(observed: &Observed<'_>, started: SystemTime, page: &mut Exposition) {
    let mut in_flight = page.family("keyway_requests_in_flight", Kind::Gauge, "Requests running, by generation.");
    for (generation, count) in observed.generations {
        in_flight.sample(&[("generation", &generation.to_string())], *count);
    }
    page.family("keyway_connections", Kind::Gauge, "Open connections of callers.").sample(&[], observed.connections);
    page.family("keyway_held_body_bytes", Kind::Gauge, "Bytes of request bodies in memory, small bodies left out.")
        .sample(&[], observed.body_bytes);
    page.family("keyway_held_body_bytes_max", Kind::Gauge, "Bound on these, a share of the memory limit.")
        .sample(&[], observed.body_bytes_max);
    page.family("keyway_log_lines_dropped", Kind::Counter, "Log lines that were dropped under pressure.")
        .sample(&[], observed.log_lines_dropped);
    page.family("keyway_start_timestamp_seconds", Kind::Gauge, "When the process started.")
        .sample_f64(&[], started.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64());
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::time::Duration;

    use http::Method;

    use super::super::access::Tokens;
    use super::*;

    fn observed<'a>() -> Observed<'a> {
        Observed {
            generation: 7,
            hash: "0a1b2c3d",
            last_success: UNIX_EPOCH + Duration::from_millis(1_500),
            last_reload_ok: false,
            reloads_ok: 3,
            reloads_failed: 1,
            watch_mode: "poll",
            generations: &[(6, 2), (7, 40)],
            snapshots_alive: 2,
            connections: 9,
            log_lines_dropped: 0,
            body_bytes: 65_536,
            body_bytes_max: 1_000_000,
        }
    }

    fn line(operation: &'static str, model: &str, status: u16) -> AccessLine {
        AccessLine {
            route: operation,
            status,
            provider: Some("openai".into()),
            upstream_model: Some(model.into()),
            stream: true,
            duration: Duration::from_millis(15),
            first_byte: Some(Duration::from_millis(3)),
            overhead: Some(Duration::from_micros(60)),
            bytes_in: 900,
            bytes_out: 600,
            tokens: Tokens { input: 10, input_cached: 4, output: 20, output_reasoning: 0 },
            ..AccessLine::new(UNIX_EPOCH, Method::POST)
        }
    }

    #[test]
    fn a_page() {
        let meters = Meters::new(2, UNIX_EPOCH);
        meters.worker(0).request(&line("chat_completion", "gpt-mini", 200));
        meters.worker(1).request(&line("chat_completion", "gpt-mini", 200));
        meters.worker(1).request(&line("responses", "gpt-mini", 429));
        let refused =
            AccessLine { status: 401, outcome: Outcome::Refused, ..AccessLine::new(UNIX_EPOCH, Method::POST) };
        meters.worker(0).request(&refused);
        meters.worker(0).attempt("openai", "k1", AttemptOutcome::Ok);
        meters.worker(1).attempt("openai", "k1", AttemptOutcome::Ok);
        meters.worker(1).attempt("openai", "k1", AttemptOutcome::Rate);
        let page = meters.render(&observed());
        for expected in [
            "keyway_requests_total{provider=\"openai\",model=\"gpt-mini\",operation=\"chat_completion\",status_class=\"2xx\"} 2",
            "keyway_requests_total{provider=\"_none\",model=\"_none\",operation=\"\",status_class=\"4xx\"} 1",
            "keyway_tokens_total{provider=\"openai\",model=\"gpt-mini\",operation=\"chat_completion\",kind=\"input_cached\"} 8",
            "keyway_attempts_total{provider=\"openai\",key=\"k1\",outcome=\"ok\"} 2",
            "keyway_attempts_total{provider=\"openai\",key=\"k1\",outcome=\"rate\"} 1",
            "keyway_gateway_overhead_seconds_bucket{le=\"0.00005\"} 0",
            "keyway_gateway_overhead_seconds_count 3",
            "gen_ai_server_request_duration_seconds_bucket{gen_ai_provider_name=\"openai\",gen_ai_request_model=\"gpt-mini\",gen_ai_operation_name=\"chat\",le=\"0.02\"} 2",
            "gen_ai_server_time_to_first_token_seconds_sum{gen_ai_provider_name=\"openai\",gen_ai_request_model=\"gpt-mini\",gen_ai_operation_name=\"chat\"} 0.006",
            "keyway_config_generation 7",
            "keyway_config_info{hash=\"0a1b2c3d\"} 1",
            "keyway_config_last_reload_successful 0",
            "keyway_config_last_success_timestamp_seconds 1.5",
            "keyway_config_reload_total{result=\"failed\"} 1",
            "keyway_config_watch_mode{mode=\"poll\"} 1",
            "keyway_requests_in_flight{generation=\"7\"} 40",
            "keyway_request_body_bytes_total 2700",
        ] {
            assert!(page.lines().any(|line| line == expected), "{expected}\n{page}");
        }
        assert_eq!(meters.key_attempts("openai", "k1"), 3);
        assert_eq!(meters.key_attempts("openai", "k2"), 0);
        well_formed(&page);
    }

    #[test]
    fn nothing_counted_is_well_formed_too() {
        let page = Meters::new(0, UNIX_EPOCH).render(&observed());
        well_formed(&page);
    }

    #[test]
    fn hostile_names_stay_bounded_and_well_formed() {
        let meters = Meters::new(2, UNIX_EPOCH);
        for i in 0..1_000 {
            let model = format!("m\n{i}\"\\\u{1b}{}", "x".repeat(i));
            meters.worker(i).request(&line("chat_completion", &model, if i % 2 == 0 { 200 } else { 404 }));
        }
        let page = meters.render(&observed());
        well_formed(&page);
        let requests = page.lines().filter(|line| line.starts_with("keyway_requests_total"));
        let counted: u64 = requests.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum();
        assert_eq!(counted, 1_000, "none is lost");
        assert!(page.len() < 2_000_000, "{}", page.len());
    }

    /// The rules of the format that a scraper trips over.
    fn well_formed(page: &str) {
        assert!(page.ends_with("# EOF\n"));
        let mut families = HashSet::new();
        let mut samples = HashSet::new();
        let mut family = "";
        for line in page.lines().filter(|line| *line != "# EOF") {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                family = rest.split(' ').next().unwrap();
                assert!(families.insert(family), "{family} stands once");
            } else if !line.starts_with('#') {
                let (name_and_labels, value) = line.rsplit_once(' ').unwrap();
                let name = name_and_labels.split('{').next().unwrap();
                let suffix = name.strip_prefix(family).unwrap_or_else(|| panic!("{line} stands under {family}"));
                assert!(["", "_total", "_info", "_bucket", "_sum", "_count"].contains(&suffix), "{line}");
                assert!(value.parse::<f64>().is_ok(), "{line}");
                assert!(samples.insert(name_and_labels), "{line} stands once");
                assert!(!line.chars().any(char::is_control), "{line:?}");
            }
        }
    }
}
