//! From start to exit code: the threads, what they share, and the order in which they end.
//!
//! The main thread is the control thread: writer and signals. N workers serve. The log thread
//! outlives them all, so that the last line is written.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::SystemTime;

use rustls::crypto::aws_lc_rs;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::level_filters::LevelFilter;

use super::compiler::{Compiler, books};
use super::control::{self, Signals};
use super::ids::RequestIds;
use super::listeners::{Announce, Listeners};
use super::systemd;
use super::worker::{Overload, Worker};
use super::world::Machine;
use super::{machine, panics};
use crate::admin::{Admin, Errands, Lens};
use crate::clock::Clock;
use crate::config::Problems;
use crate::dispatch::Dice;
use crate::hash::FingerprintKey;
use crate::identity::{Identity, Inbox, Keeper};
use crate::limits::{LISTENER_QUEUE_MAX, SPEND_LOAD_WAIT, UPSTREAM_BUFFER_BYTES_MAX, WORKERS_MAX, WRITER_QUEUE_MAX};
use crate::mock::{InMemory, Mock, Recording};
use crate::permit::{Bound, Room};
use crate::proxy::{ModelLists, ModelsListed, Proxy};
use crate::server::{self, Drain, ListenerCommand, ServerRuntime};
use crate::snapshot::{RedisAddress, Snapshot};
use crate::state::{Place, Redis, RedisTarget, State, StateThread};
use crate::store::{Command, StartError, Store, Writer, WriterOptions, make_state_dir};
use crate::telemetry::{Log, LogHandle, LogOptions, Meters, Recorder};
use crate::ticks::Ticks;
use crate::upstream::{Caps, InProcess, Tls, Upstream};

/// What the command line says.
#[derive(Clone, Debug)]
pub struct Options {
    /// As given; relative paths in the file count from its directory.
    pub config: PathBuf,
    /// An unresolved reference is an error instead of a warning.
    pub strict_env: bool,
}

/// Serves until told to stop. 0 = drained, also at the bound; 1 = bad config or bind failure.
pub fn run(options: &Options) -> ExitCode {
    // Fails only where it was installed before, with the same provider.
    let _ = aws_lc_rs::default_provider().install_default();
    let log = match Log::start(LogOptions::stdout(LevelFilter::INFO)) {
        Ok(log) => log,
        Err(error) => {
            eprintln!("keyway: no log thread: {error}");
            return ExitCode::FAILURE;
        }
    };
    log.install();
    panics::install();
    machine::keep_pages_small();
    match start(options, &log.handle()) {
        Ok(running) => control::until_drained(running),
        Err(Failure::Config(problems)) => {
            log.handle().flush();
            let path = options.config.display().to_string();
            eprint!("{}", problems.render(&path));
            eprintln!("keyway: {path} cannot be served");
            ExitCode::FAILURE
        }
        Err(Failure::Machine(what)) => {
            log.handle().flush();
            eprintln!("keyway: {what}");
            ExitCode::FAILURE
        }
    }
}

/// Why nothing runs.
enum Failure {
    Config(Problems),
    /// The machine would not give a thread, a runtime or randomness.
    Machine(String),
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        Self::Config(error.problems)
    }
}

/// What the control thread looks after.
pub struct Running {
    pub runtime: tokio::runtime::Runtime,
    pub signals: Signals,
    pub writer: Writer,
    pub store: Arc<Store>,
    pub commands: mpsc::Sender<Command>,
    pub inbox: mpsc::Receiver<Command>,
    /// Fetches tokens, on the control thread.
    pub keeper: Keeper,
    pub drain: Drain,
    pub draining: Arc<AtomicBool>,
    pub overload: Overload,
    pub log: LogHandle,
    pub workers: Vec<thread::JoinHandle<server::Drained>>,
    /// Closed when all others have ended.
    pub state: StateThread,
    /// One message per worker that has ended.
    pub ended: mpsc::Receiver<()>,
}

/// What all workers share.
struct Shared {
    store: Arc<Store>,
    admin: Arc<Admin>,
    clock: Clock,
    log: LogHandle,
    meters: Arc<Meters>,
    in_flight: Bound,
    connections: Bound,
    connections_possible: u64,
    buffer_bytes_max: usize,
    room: Room,
    memory_room: Arc<AtomicU64>,
    drain: Drain,
    embedded: Arc<dyn InProcess>,
    identity: Identity,
    caps: Caps,
    learnt: ModelsListed,
    process: u32,
}

fn start(options: &Options, log: &LogHandle) -> Result<Running, Failure> {
    let runtime = runtime()?;
    let clock = Clock::starting_now();
    let random = random().ok_or_else(|| Failure::Machine("no random numbers".to_owned()))?;
    let count = thread::available_parallelism().map_or(1, usize::from).min(WORKERS_MAX);
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..count).map(|_| mpsc::channel(LISTENER_QUEUE_MAX)).unzip();
    let (commands, inbox) = mpsc::channel(WRITER_QUEUE_MAX);

    let kept = Arc::new(OnceLock::new());
    let listeners = Listeners::new(senders, systemd::inherited(), announce());
    let mut writing = WriterOptions::new(
        options.config.clone(),
        FingerprintKey::new(random),
        Box::new(Compiler::new(Some(log.clone()), Arc::clone(&kept))),
        Box::new(listeners),
        Arc::new(clock),
    );
    writing.strict_env = options.strict_env;
    let (signals, (writer, store)) = {
        let _inside = runtime.enter();
        let signals = Signals::new().map_err(|error| Failure::Machine(format!("signals cannot be heard: {error}")))?;
        (signals, Writer::start(writing)?)
    };

    let (remembered, state) = state(&store, &runtime)?;
    // From now on each reload is told to it.
    let _ = kept.set(remembered.clone());
    let draining = Arc::new(AtomicBool::new(false));
    let (shared, asks) = shared(&store, remembered, clock, log, count, &draining, &commands, &random);
    let machine = Arc::new(Machine::new(clock, FingerprintKey::new(random)));
    let keeper = Keeper::new(asks, shared.upstream(Caps::default()), machine);
    let (drain, overload) = (shared.drain.clone(), shared.overload());
    let (ended_tx, ended) = mpsc::channel(count);
    let mut workers = Vec::with_capacity(count);
    for (index, receiver) in receivers.into_iter().enumerate() {
        workers.push(spawn(index, &shared, receiver, ended_tx.clone())?);
    }
    let log = log.clone();
    Ok(Running {
        signals,
        writer,
        store,
        commands,
        inbox,
        keeper,
        drain,
        draining,
        overload,
        log,
        workers,
        state,
        ended,
        runtime,
    })
}

impl Shared {
    fn overload(&self) -> Overload {
        Overload { in_flight: self.in_flight.clone(), memory_room: Arc::clone(&self.memory_room) }
    }

    fn upstream(&self, caps: Caps) -> Upstream {
        let buffer_bytes_max = self.buffer_bytes_max.min(UPSTREAM_BUFFER_BYTES_MAX);
        Upstream::within(buffer_bytes_max, Tls::new(), Arc::clone(&self.embedded), caps)
    }
}

/// Where limits and budgets are shared.
fn redis(snapshot: &Snapshot) -> Option<Redis> {
    let target = |at: &RedisAddress| RedisTarget {
        host: at.host.clone(),
        port: at.port,
        database: at.database,
        user: at.user.clone(),
        password: at.password.clone(),
    };
    snapshot.redis.as_ref().map(|found| Redis(found.as_ref().ok().map(target)))
}

/// Opens beside everything else that has to be done at the start.
fn state(store: &Arc<Store>, runtime: &tokio::runtime::Runtime) -> Result<(State, StateThread), Failure> {
    let snapshot = store.snapshot();
    let dir = snapshot.state_dir.clone();
    let made = dir.clone();
    let run = random().and_then(|random| random.first_chunk().copied());
    let run = run.ok_or_else(|| Failure::Machine("no random numbers".to_owned()))?;
    let place = Place { dir, prepare: Box::new(move || make_state_dir(&made)), run, redis: redis(&snapshot) };
    let (state, thread) = State::start(place).map_err(|error| Failure::Machine(format!("no state thread: {error}")))?;
    let books = books(&snapshot);
    if books.iter().any(|book| !book.budgets.is_empty()) {
        // Nobody is served on a budget of which it is not known what has been spent.
        let loaded = runtime.block_on(async { timeout(SPEND_LOAD_WAIT, state.watched(books)).await });
        if !matches!(loaded, Ok(Ok(()))) {
            tracing::warn!(event = "spend_not_loaded", "what was spent is not known yet");
        }
    } else if !books.is_empty() {
        let _ = state.watch(books);
    }
    Ok((state, thread))
}

#[expect(clippy::too_many_arguments, reason = "each is made once, at the start, and goes into one struct")]
fn shared(
    store: &Arc<Store>,
    state: State,
    clock: Clock,
    log: &LogHandle,
    workers: usize,
    draining: &Arc<AtomicBool>,
    commands: &mpsc::Sender<Command>,
    random: &[u8; 32],
) -> (Shared, Inbox) {
    let (identity, inbox) = Identity::new();
    let meters = Arc::new(Meters::new(workers, clock.wall()));
    let (in_flight, connections) = (Bound::new(), Bound::new());
    let room = Room::new(machine::body_bytes_max());
    let dropped = log.clone();
    let admin = Arc::new(Admin {
        store: Arc::clone(store),
        meters: Arc::clone(&meters),
        in_flight: in_flight.clone(),
        connections: connections.clone(),
        draining: Arc::clone(draining),
        commands: commands.clone(),
        state,
        lens: Lens { first_seen: Arc::default(), clock },
        log_lines_dropped: Arc::new(move || dropped.dropped()),
        busy: Bound::new(),
        room: room.clone(),
        errands: Errands::default(),
    });
    let lists = commands.clone();
    let learnt: ModelsListed = Arc::new(move |provider, models| {
        // A full queue loses a hint, which comes again with the next list.
        let _ = lists.try_send(Command::ModelsListed { provider, models });
    });
    let process = random.iter().skip(28).fold(0u32, |number, byte| number << 8 | u32::from(*byte));
    let shared = Shared {
        store: Arc::clone(store),
        admin,
        clock,
        log: log.clone(),
        meters,
        in_flight,
        connections,
        connections_possible: machine::connections_possible(),
        buffer_bytes_max: machine::buffer_bytes_max(),
        room,
        memory_room: Arc::new(AtomicU64::new(u64::MAX)),
        drain: Drain::new(),
        embedded: embedded(),
        identity,
        caps: Caps::default(),
        learnt,
        process,
    };
    (shared, inbox)
}

/// The store wants to be told the time, so that its tests may pause it.
impl crate::store::Clock for Clock {
    fn now(&self) -> Ticks {
        Self::now(self)
    }

    fn wall(&self) -> SystemTime {
        Self::wall(self)
    }
}

/// The `mock` provider inside the process, as the upstream side wants it.
struct Embedded(InMemory);

impl InProcess for Embedded {
    fn connect(&self) -> tokio::io::DuplexStream {
        self.0.connect()
    }
}

/// One worker on a thread of its own.
fn spawn(
    index: usize,
    shared: &Shared,
    commands: mpsc::Receiver<ListenerCommand>,
    ended: mpsc::Sender<()>,
) -> Result<thread::JoinHandle<server::Drained>, Failure> {
    let running = Arc::clone(&shared.store);
    let proxy = Arc::new(Proxy {
        upstream: shared.upstream(shared.caps.clone()),
        dice: Mutex::new(Dice::new(u64::from(shared.process) << 16 | index as u64)),
        clock: shared.clock,
        recorder: Recorder::new(&shared.log, &shared.meters, index),
        access_log: AtomicBool::new(true),
        models: ModelLists::new(Arc::clone(&shared.learnt)),
        room: shared.room.clone(),
        identity: shared.identity.clone(),
        state: Some(shared.admin.state.clone()),
        running: Some(Arc::new(move || running.snapshot())),
    });
    let ids = RequestIds::new(shared.process, u8::try_from(index).unwrap_or(u8::MAX));
    let (store, admin) = (Arc::clone(&shared.store), Arc::clone(&shared.admin));
    let worker = Worker::new(Arc::clone(&store), proxy, admin, shared.overload(), ids);
    let settings = ServerRuntime {
        limits: Arc::new(move || store.load().server.limits),
        connections: shared.connections.clone(),
        connections_possible: shared.connections_possible,
        buffer_bytes_max: shared.buffer_bytes_max,
    };
    let drain = shared.drain.clone();
    let runtime = runtime()?;
    thread::Builder::new()
        .name(format!("worker-{index}"))
        .spawn(move || {
            let drained = runtime.block_on(async {
                tokio::select! {
                    drained = server::serve(Vec::new(), settings, worker, drain, commands) => drained,
                    never = machine::give_back_memory() => match never {},
                }
            });
            // Whoever waits for it has gone when the process ends at once.
            let _ = ended.try_send(());
            drained
        })
        .map_err(|error| Failure::Machine(format!("no worker thread: {error}")))
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    bare_runtime().map_err(|error| Failure::Machine(format!("no runtime: {error}")))
}

/// Everything on the thread that calls.
pub(super) fn bare_runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// The built-in upstream.
pub(super) fn embedded() -> Arc<dyn InProcess> {
    Arc::new(Embedded(InMemory::new(Arc::new(Mock::new(Recording::Off)))))
}

/// From the kernel: the crypto library would first gather entropy of its own for a tenth of a second.
pub fn random() -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    // A request of this size is answered whole, or not at all.
    let count = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).ok()?;
    (count == bytes.len()).then_some(bytes)
}

/// Makes the crypto library gather its entropy now, on this thread, instead of in a worker at the
/// first TLS handshake, where every other request would wait.
pub fn gather_entropy() {
    // Whoever needs randomness asks again, and reports it.
    let _ = aws_lc_rs::default_provider().secure_random.fill(&mut [0; 1]);
}

/// Prints each address on a line of its own, for people and for whoever chose port 0.
/// On standard error, whatever the log's level and format: it is no event but the answer to
/// whoever started the process.
fn announce() -> Announce {
    Box::new(|address| eprintln!("listening on {address}"))
}
