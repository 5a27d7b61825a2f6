//! Every bound of keyway, with its unit and the reason for its value.
//!
//! A buffer, queue, wait, retry or table without a constant here is a bug. Values that a user may
//! set stand here as defaults and as the range that config accepts.

use std::time::Duration;

// --- Secrets -------------------------------------------------------------------------------------

/// Secrets from this length on show their edges; shorter ones would be half revealed.
pub const MASK_LONG_MIN_CHARS: usize = 20;
pub const MASK_EDGE_CHARS: usize = 4;
pub const MASK_FILL_CHARS: usize = 24;
pub const MASK_SHORT_CHARS: usize = 8;

// --- Config file ---------------------------------------------------------------------------------

/// A config of 1 000 keys is about 300 KB; beyond this somebody pointed us at the wrong file.
pub const CONFIG_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// A referenced secret is a token, a PEM or a service-account JSON.
pub const SECRET_FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Problems that one check reports; a wholly wrong file would otherwise flood the log.
pub const PROBLEMS_MAX: usize = 100;
/// ... and that are held while the check runs: enough to sort, too few to fill the memory.
pub const PROBLEMS_COLLECTED_MAX: usize = 10_000;
/// Nesting that the parser follows.
pub const CONFIG_DEPTH_MAX: usize = 64;
/// How often the file is looked at, whatever the watcher says.
pub const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Files up to this size are hashed at every poll; above, stat decides.
pub const POLL_HASH_BYTES_MAX: u64 = 1024 * 1024;
/// ... and the content of a larger one is hashed this often.
pub const POLL_LARGE_HASH_INTERVAL: Duration = Duration::from_secs(10);
/// Two equal reads this far apart mean that a writer has finished.
pub const SETTLE_INTERVAL: Duration = Duration::from_millis(50);
/// Empty, torn or missing for less than this is "not yet", not an error.
pub const SETTLE_WINDOW: Duration = Duration::from_millis(1000);
/// Failed bytes are tried again at these distances: the cause may lie outside the file.
pub const RELOAD_RETRY_MIN: Duration = Duration::from_secs(1);
pub const RELOAD_RETRY_MAX: Duration = Duration::from_secs(30);
/// Outcomes of reloads that status remembers.
pub const RELOAD_OUTCOMES_KEPT: usize = 10;
/// Longest duration that the file may ask for; beyond it somebody mistook the unit.
pub const CONFIG_DURATION_MAX: Duration = Duration::from_secs(24 * 3600);
/// Cells of the table by which an edit aligns two lists; beyond it only their equal ends are.
pub const EDIT_ALIGN_CELLS_MAX: usize = 250_000;
/// Values that an edit looks at to find one that the new one should look like.
pub const EDIT_MODEL_STEPS_MAX: usize = 10_000;
/// Columns up to which an edit puts a record on one line that resembles nothing in the file.
pub const EDIT_LINE_CHARS_MAX: usize = 100;
/// Commands that may wait for the writer; it works them off in milliseconds.
pub const WRITER_QUEUE_MAX: usize = 256;
/// Directories that are watched for events; beyond it the poll alone sees changes.
pub const WATCHED_DIRECTORIES_MAX: usize = 256;
/// Symbolic links that are followed on the way to one file; the kernel's own bound.
pub const SYMLINK_HOPS_MAX: usize = 40;
/// A watcher that could not be opened is tried again this often; the poll works meanwhile.
pub const WATCH_RETRY: Duration = Duration::from_secs(30);

// --- Server defaults (config `server.limits`) ----------------------------------------------------

pub const IN_FLIGHT_DEFAULT: u64 = 4096;
pub const REQUEST_BODY_MB_DEFAULT: u64 = 100;
pub const HEADER_KB_DEFAULT: u64 = 32;
pub const HEADER_COUNT_DEFAULT: u64 = 100;
pub const HEADER_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
pub const BODY_TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);
pub const CONNECTIONS_DEFAULT: u64 = 16384;
pub const DRAIN_DEFAULT: Duration = Duration::from_secs(25);
/// Body of a management request.
pub const ADMIN_BODY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// HTTP/2: streams that one connection may have open.
pub const H2_STREAMS_MAX: u32 = 100;
/// An idle keep-alive connection of a caller is closed after this.
pub const CALLER_IDLE_TIMEOUT: Duration = Duration::from_secs(120);
/// accept() failed (no descriptors left): wait this long instead of spinning.
pub const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);
/// Retry-After of a refusal for overload.
pub const OVERLOAD_RETRY_AFTER: Duration = Duration::from_secs(1);
/// A caller who takes nothing of an answer for this long is gone, though his socket is not.
pub const CALLER_STALL_MAX: Duration = Duration::from_secs(300);
/// A body must bring this much within each `body_timeout`, or end: one byte a minute is no upload.
pub const BODY_PROGRESS_BYTES: usize = 16 * 1024;
/// Read and write buffer of a caller's connection; large enough that a prompt takes few reads.
pub const CALLER_BUFFER_BYTES_MAX: usize = 256 * 1024;
/// HTTP/2: bytes that a caller may send ahead, per stream and per connection.
pub const H2_STREAM_WINDOW_BYTES: u32 = 256 * 1024;
pub const H2_CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
/// HTTP/2: bytes of an answer that wait for the caller's window, per stream.
pub const H2_SEND_BUFFER_BYTES: usize = 64 * 1024;
/// HTTP/2: an idle connection is asked this often whether its caller is still there.
pub const H2_PING_INTERVAL: Duration = Duration::from_secs(30);
/// First bytes of a connection, read to tell HTTP/1.1 from HTTP/2.
pub const SNIFF_BYTES_MAX: usize = 4 * 1024;
/// Connections that the kernel queues before we accept them.
pub const ACCEPT_QUEUE: i32 = 1024;
/// Changes of listeners that may wait for a worker.
pub const LISTENER_COMMANDS_MAX: usize = 64;

/// Worker threads; beyond it a sidecar has other bottlenecks.
pub const WORKERS_MAX: usize = 64;
/// Changes of listeners that may wait for one worker: more than a config can ask for at once.
pub const LISTENER_QUEUE_MAX: usize = 1024;

// --- Upstream ------------------------------------------------------------------------------------

pub const CONNECT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);
pub const FIRST_BYTE_TIMEOUT_DEFAULT: Duration = Duration::from_secs(600);
pub const STREAM_IDLE_TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);
/// A pooled connection unused for this long is closed: NATs forget it before it notices.
pub const KEEP_ALIVE_DEFAULT: Duration = Duration::from_secs(30);
/// A connection older than this is not reused, so that DNS changes are followed.
pub const CONNECTION_AGE_MAX: Duration = Duration::from_secs(300);
/// Idle connections kept per transport and worker.
pub const IDLE_CONNECTIONS_MAX: usize = 256;
/// How often idle connections are looked through for closed and expired ones.
pub const POOL_SWEEP_INTERVAL: Duration = Duration::from_secs(5);
/// Least share of the connect deadline that one of several addresses gets.
pub const CONNECT_TRY_MIN: Duration = Duration::from_millis(250);
/// Times that one wake-up may poll an upstream connection before others get their turn.
pub const LINK_ROUNDS_MAX: u32 = 8;
/// A silent upstream connection is probed this often, lest a NAT forgets it during a long thought.
pub const TCP_KEEPALIVE: Duration = Duration::from_secs(45);
/// Answers of the resolver are believed for this long.
pub const DNS_TTL: Duration = Duration::from_secs(30);
pub const DNS_ENTRIES_MAX: usize = 1024;
/// Head of an upstream answer.
pub const UPSTREAM_HEAD_BYTES_MAX: usize = 128 * 1024;
/// Body of an upstream error that is read before it is judged; the rest is relayed unread.
pub const ERROR_BYTES_MAX: usize = 256 * 1024;
/// Of a stream, read before the commit point.
pub const PEEK_BYTES_MAX: usize = 16 * 1024;
/// Body of an upstream model list.
pub const MODEL_LIST_BYTES_MAX: usize = 8 * 1024 * 1024;
/// An upstream's model list is believed for this long.
pub const MODEL_LIST_TTL: Duration = Duration::from_secs(300);
/// One provider that hangs must not hold the whole list.
pub const MODEL_LIST_TIMEOUT: Duration = Duration::from_secs(5);
/// Models that one provider's list may name.
pub const MODEL_LIST_ENTRIES_MAX: usize = 10_000;

// --- Requests ------------------------------------------------------------------------------------

/// A model name; real ones (ARNs) stay under 300 bytes.
pub const MODEL_NAME_BYTES_MAX: usize = 1024;
/// Entries of a body's `fallbacks`.
pub const FALLBACKS_MAX: usize = 16;
/// Nesting that the body scanner follows; serde_json's own bound.
pub const BODY_DEPTH_MAX: usize = 128;
/// Bytes of a form that may come before its `model` part. SDKs write parts in the order in which
/// the caller named them, so a whole audio file (25 MB at OpenAI) may stand in front.
pub const MULTIPART_MODEL_WITHIN_BYTES: usize = 32 * 1024 * 1024;
/// Header lines of one part of a form.
pub const PART_HEADER_BYTES_MAX: usize = 8 * 1024;
/// A server-sent event beyond this is relayed unread.
pub const SSE_EVENT_BYTES_MAX: usize = 1024 * 1024;
/// A barred or tried key is drawn again this often before the exact pass decides.
pub const REDRAWS_MAX: u32 = 8;

// --- Health --------------------------------------------------------------------------------------

/// A refused credential rests this long unless its key changes (CONTRACT 3.5).
pub const BENCH_SPAN: Duration = Duration::from_secs(600);
pub const COOL_DEFAULT: Duration = Duration::from_secs(30);
pub const COOL_MIN: Duration = Duration::from_secs(1);
pub const COOL_MAX: Duration = Duration::from_secs(3600);
/// Models of one key that can be barred at the same time.
pub const MODEL_BARS_MAX: usize = 32;
/// Health of a key that no snapshot holds is kept this long: `git stash` and back loses nothing.
pub const RETIRED_HEALTH_KEEP: Duration = Duration::from_secs(3600);
pub const RETIRED_HEALTH_MAX: usize = 4096;
/// Failures in a row that open a breaker; Envoy's and linkerd's figure.
pub const BREAKER_FAILURES: u32 = 5;
/// An open breaker rests this long, doubled for each probe that fails ...
pub const BREAKER_SPAN_MIN: Duration = Duration::from_secs(5);
/// ... up to this: an upstream that is back is found within a minute.
pub const BREAKER_SPAN_MAX: Duration = Duration::from_secs(60);
/// A probe that has not reported by then is taken for lost, and another request may be one.
pub const PROBE_SPAN: Duration = Duration::from_secs(60);
/// After a bar the share of a key grows back to its weight over this time.
pub const RAMP_SPAN: Duration = Duration::from_secs(10);
/// Connection attempts to one origin within one request; a second may catch a restart, more only
/// add up connect timeouts.
pub const CONNECTS_PER_ORIGIN_MAX: usize = 2;
/// Of an upstream's error body; real codes are words.
pub const ERROR_CODE_BYTES_MAX: usize = 128;

// --- Telemetry -----------------------------------------------------------------------------------

/// The log thread writes at this size or age, whichever comes first.
pub const LOG_FLUSH_BYTES: usize = 64 * 1024;
pub const LOG_FLUSH_INTERVAL: Duration = Duration::from_millis(100);
/// Lines that wait for a slow log; beyond it they are dropped and counted.
pub const LOG_QUEUE_MAX: usize = 8192;
/// Values of a label that are told apart before the rest becomes `_other`.
pub const METRIC_LABEL_VALUES_MAX: usize = 200;

// --- Access --------------------------------------------------------------------------------------

/// A project or management token shorter than this can be guessed; longer ones are not hashed at
/// all, for nobody's token is that long.
pub const TOKEN_BYTES_MIN: usize = 32;
pub const TOKEN_BYTES_MAX: usize = 512;
/// ... and so are lines beyond this many bytes in one buffer: 8192 access lines of usual length.
pub const LOG_BUFFER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// One value in a log line; a longer one is cut, for a body does not belong there.
pub const LOG_VALUE_BYTES_MAX: usize = 4096;
/// A log that nobody reads may hold up the exit for this long.
pub const LOG_EXIT_WAIT: Duration = Duration::from_secs(1);
/// A longer label value is counted as `_other`.
pub const METRIC_LABEL_BYTES_MAX: usize = 200;
/// Label sets of one family: the product of its labels must not eat the memory either.
pub const METRIC_SERIES_MAX: usize = 2000;

// --- Mock upstream -------------------------------------------------------------------------------

/// Bodies that the mock takes; above the gateway's own default cap.
pub const MOCK_BODY_BYTES_MAX: usize = 128 * 1024 * 1024;
/// Files, batches and stored responses, each; the oldest gives way.
pub const MOCK_STORE_MAX: usize = 100;
/// Content of one stored file; a longer one is cut.
pub const MOCK_FILE_BYTES_MAX: usize = 1024 * 1024;
/// Requests that the recorder remembers.
pub const MOCK_RECORD_MAX: usize = 1000;
/// Open connections of one in-memory mock; more are closed at once.
pub const MOCK_CONNECTIONS_MAX: usize = 4096;
/// Buffer of each direction of an in-memory connection.
pub const MOCK_PIPE_BYTES: usize = 64 * 1024;
/// Longest wait that a model name may ask for, and most events.
pub const MOCK_WAIT_MAX: Duration = Duration::from_secs(3600);
pub const MOCK_EVENTS_MAX: u32 = 1_000_000;
/// Bytes that a model name may ask for, embeddings' dimensions and answers' choices.
pub const MOCK_ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;
pub const MOCK_DIMENSIONS_MAX: usize = 4096;
pub const MOCK_CHOICES_MAX: usize = 8;

// --- Ranges that config accepts (defaults stand above) -------------------------------------------

pub const IN_FLIGHT_LARGEST: u64 = 1_000_000;
/// Beyond this a held body is a way to run out of memory.
pub const REQUEST_BODY_MB_LARGEST: u64 = 4096;
/// The HTTP/1 parser's buffer cannot be smaller than 8 KiB.
pub const HEADER_KB_SMALLEST: u64 = 8;
pub const HEADER_KB_LARGEST: u64 = 1024;
/// Fewer would refuse what every SDK sends.
pub const HEADER_COUNT_SMALLEST: u64 = 16;
pub const HEADER_COUNT_LARGEST: u64 = 1000;
pub const HEADER_TIMEOUT_LONGEST: Duration = Duration::from_secs(600);
pub const BODY_TIMEOUT_LONGEST: Duration = Duration::from_secs(3600);
pub const CONNECTIONS_LARGEST: u64 = 1_000_000;
pub const DRAIN_LONGEST: Duration = Duration::from_secs(3600);
pub const CONNECT_TIMEOUT_LONGEST: Duration = Duration::from_secs(120);
/// Reasoning models think for half an hour before their first byte.
pub const FIRST_BYTE_TIMEOUT_LONGEST: Duration = Duration::from_secs(24 * 3600);
pub const STREAM_IDLE_TIMEOUT_LONGEST: Duration = Duration::from_secs(3600);
pub const KEEP_ALIVE_LONGEST: Duration = Duration::from_secs(3600);
/// Addresses of one list.
pub const LISTENERS_MAX: usize = 16;
/// `sun_path` of Linux, with its final NUL.
pub const UNIX_PATH_BYTES_MAX: usize = 107;
/// Names that stand in logs, headers and labels.
pub const PROVIDER_NAME_CHARS_MAX: usize = 64;
pub const ROUTE_NAME_CHARS_MAX: usize = 64;
pub const PROJECT_ID_CHARS_MAX: usize = 64;
pub const KEY_NAME_CHARS_MAX: usize = 128;
pub const KEY_ID_CHARS_MAX: usize = 128;
/// Targets of one route: a request may try them all.
pub const ROUTE_TARGETS_MAX: usize = 64;

/// How often an API write is planned anew when the file changes under it, before 409 `config_changed`.
pub const APPLY_ATTEMPTS_MAX: usize = 3;

// --- Writing the config --------------------------------------------------------------------------

/// Exchanges that put a hand edit back; each further one means that somebody saved within the same
/// microseconds again.
pub const PUT_BACKS_MAX: usize = 64;
/// Files of killed writes that one start removes; there is one per kill.
pub const LEFTOVERS_MAX: usize = 10_000;
/// Names of changed things that one log line tells; the rest is counted.
pub const CHANGES_LOGGED_MAX: usize = 20;
/// Routes that one refusal names.
pub const ROUTES_NAMED_MAX: usize = 20;
// --- Sealing -------------------------------------------------------------------------------------

/// A sealing key shorter than this could be guessed from a copy of the file.
pub const SEALING_KEY_CHARS_MIN: usize = 32;
/// Sealed texts are filled up to a multiple of this: the file does not tell how long a secret is.
pub const SEALED_PADDING_BYTES: usize = 32;
/// Patterns of one list of `management.references`; each reference of an API body meets them all.
pub const REFERENCE_PATTERNS_MAX: usize = 256;
/// Of `management.allowed_origins`.
pub const ALLOWED_ORIGINS_MAX: usize = 256;
/// Files beside the config that are looked into before an old sealing key is removed.
pub const NEIGHBOURS_MAX: usize = 1000;
// --- Import ------------------------------------------------------------------------------------

/// Values of an imported file, aliases counted as what they stand for.
pub const IMPORT_VALUES_MAX: usize = 200_000;
/// Rounds in which what this release does not take is taken out; each removes something.
pub const IMPORT_ROUNDS_MAX: usize = 200;
/// Columns up to which a value of the result stands on one line.
pub const IMPORT_LINE_CHARS_MAX: usize = 110;
// --- Management APIs -----------------------------------------------------------------------------

/// Body of a request that is about one key or provider; the largest thing in it is a certificate.
pub const ADMIN_RECORD_BYTES_MAX: usize = 1024 * 1024;
/// Management requests at a time: each may hold a body, and none shall crowd out the data plane.
pub const ADMIN_IN_FLIGHT_MAX: u64 = 64;
/// A posted config up to this size is checked on the spot; a larger one on a thread of its own.
pub const CHECK_INLINE_BYTES_MAX: usize = 64 * 1024;
/// Keys of one provider that are asked for models at the same time.
pub const PROBES_AT_ONCE_MAX: usize = 8;
// --- Retries -------------------------------------------------------------------------------------

/// Bifrost's figures (`retry_backoff_initial`, `retry_backoff_max`).
pub const RETRY_BACKOFF_INITIAL_DEFAULT: Duration = Duration::from_millis(500);
pub const RETRY_BACKOFF_MAX_DEFAULT: Duration = Duration::from_secs(5);
/// A request that waits holds its place among those in flight, and its body.
pub const RETRY_BACKOFF_LONGEST: Duration = Duration::from_secs(60);
/// Retries that each request earns its origin, in thousandths: an upstream that answers nothing but
/// errors sees at most 1.2 x the requests.
pub const RETRY_SHARE_PERMILLE: u64 = 200;
/// Retries that an origin has beyond that share, so that few requests can be tried again at all ...
pub const RETRY_FLOOR: u64 = 10;
/// ... one of which comes back in this time.
pub const RETRY_FLOOR_INTERVAL: Duration = Duration::from_secs(10);
/// Earned retries that are kept for bad times.
pub const RETRY_SAVED_MAX: u64 = 100;
/// Probes of freshly written keys that run at the same time, per worker.
pub const PROBES_BEHIND_MAX: usize = 16;
// --- Streams, connections and memory when things break -------------------------------------------

/// Of a line of an event stream, as much as says what kind of event it begins.
pub const ENDING_LINE_BYTES: usize = 64;
/// `"finish_reason" : "s`, with room for odd spacing.
pub const ENDING_REASON_BYTES: usize = 32;
/// Comments and half an event are held back before the commit point for so long; a caller must not
/// take an upstream that says `: processing` for a dead one.
pub const PEEK_HOLD_MAX: Duration = Duration::from_secs(5);
/// At the bound of a drain, streams that are left have so long to tell their callers.
pub const DRAIN_LAST_WORDS: Duration = Duration::from_millis(500);
/// That accept() fails is said this often; it fails twenty times a second.
pub const ACCEPT_WARN_INTERVAL: Duration = Duration::from_secs(10);
/// Connections beyond the bound that a listener of management alone may have.
pub const MANAGEMENT_CONNECTIONS: u64 = 16;
/// Descriptors that are not for connections: listeners, epoll, the log, the watcher, a config that is
/// being read.
pub const DESCRIPTORS_RESERVED: u64 = 48;
/// Connections of callers that are served whatever the bound on descriptors says.
pub const CONNECTIONS_SMALLEST: u64 = 8;
/// Bytes of request bodies in memory, as a share of what the process may use: one in so many. Buffers,
/// answers and the rest of the process need the others.
pub const BODY_MEMORY_SHARE: u64 = 4;
/// A body up to this size is not counted: so many of them fit beside the rest in any case.
pub const BODY_UNCOUNTED_BYTES: u64 = 16 * 1024;
/// Steps in which a body takes its share, so that workers seldom meet at the counter.
pub const BODY_SHARE_STEP_BYTES: u64 = 64 * 1024;
/// How often a worker makes the allocator look for memory to give back.
pub const MEMORY_RETURN_INTERVAL: Duration = Duration::from_secs(5);
/// Large enough to be a piece of its own for the allocator; none of it is touched.
pub const MEMORY_RETURN_BYTES: usize = 4 * 1024 * 1024;
/// Read buffer of an upstream's connection: what waits here for a caller who does not read. No smaller
/// than a head may be.
pub const UPSTREAM_BUFFER_BYTES_MAX: usize = 128 * 1024;
// --- Identity ------------------------------------------------------------------------------------

/// Credentials whose tokens are kept; the one that was not asked for longest gives way.
pub const IDENTITIES_MAX: usize = 4096;
/// Questions for tokens that wait for the keeper; each is about another credential.
pub const IDENTITY_QUEUE_MAX: usize = 1024;
/// Tokens that are fetched at a time.
pub const IDENTITY_FETCHES_MAX: usize = 16;
/// One fetch, whatever number of calls it takes.
pub const IDENTITY_FETCH_MAX: Duration = Duration::from_secs(20);
/// A request that finds no token waits so long for one.
pub const IDENTITY_WAIT_MAX: Duration = Duration::from_secs(25);
/// A token is fetched anew when so much of its life is left, or a quarter where it lives shorter.
pub const IDENTITY_AHEAD: Duration = Duration::from_secs(300);
/// A token is not sent in its last moments: the way to the upstream takes time, and clocks differ.
pub const IDENTITY_MARGIN: Duration = Duration::from_secs(10);
/// Longest life that is believed; the issuers give an hour to a day.
pub const IDENTITY_LIFE_MAX: Duration = Duration::from_secs(24 * 3600);
/// After a failed fetch: doubled with each further one, up to the second figure.
pub const IDENTITY_BACKOFF_FIRST: Duration = Duration::from_secs(1);
pub const IDENTITY_BACKOFF_MAX: Duration = Duration::from_secs(30);
/// Each call to an issuer of tokens.
pub const IDENTITY_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
pub const IDENTITY_ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// A machine that has no metadata service does not answer at all.
pub const METADATA_CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// What an issuer answers; the largest thing in it is a token.
pub const IDENTITY_ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Of a token that is sent in a header.
pub const TOKEN_FETCHED_BYTES_MAX: usize = 16 * 1024;
/// A clock that is off by less is not what a signature was refused for (AWS takes five minutes).
pub const CLOCK_SKEW_MIN: Duration = Duration::from_secs(240);
/// Profiles that one profile leads to by `source_profile`.
pub const PROFILE_HOPS_MAX: usize = 5;
// --- State ---------------------------------------------------------------------------------------

/// What waits for the state's thread. Management bounds its own requests far below.
pub const STATE_QUEUE_MAX: usize = 1024;
/// What is done in one transaction at most.
pub const STATE_BATCH_MAX: usize = 128;
/// A state that is kept in memory because its file would not do looks again this often.
pub const STATE_REOPEN_INTERVAL: Duration = Duration::from_secs(10);
/// Rows that have had their time are taken out this often.
pub const STATE_TRIM_INTERVAL: Duration = Duration::from_secs(600);
/// Another process that writes to the same file is waited for so long.
pub const STATE_BUSY_WAIT: Duration = Duration::from_millis(500);
/// The whole file; SQLite refuses to let it grow beyond.
pub const STATE_FILE_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// What is left of SQLite's journal between transactions.
pub const STATE_JOURNAL_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Of SQLite's page cache, on one thread of the process.
pub const STATE_CACHE_KIB_MAX: u64 = 1024;
/// A Redis that does not answer within this is out of reach.
pub const REDIS_DEADLINE: Duration = Duration::from_millis(500);
/// Limits are shared as long as Redis was heard of within this.
pub const REDIS_REACH_LOST: Duration = Duration::from_secs(2);
/// What Redis says in a line, in a text, in a list.
pub const REDIS_LINE_BYTES_MAX: u64 = 64 * 1024;
pub const REDIS_TEXT_BYTES_MAX: usize = 1024 * 1024;
pub const REDIS_LIST_MAX: usize = 100_000;
/// How often what was spent goes into the file; a kill loses no more than this.
pub const SPEND_SWEEP_INTERVAL: Duration = Duration::from_millis(200);
/// What projects have spent is waited for so long before the first request is served.
pub const SPEND_LOAD_WAIT: Duration = Duration::from_secs(5);
/// A longer account of an answer's tokens is not read.
pub const USAGE_BYTES_MAX: usize = 4 * 1024;
/// A longer `stream_options` is left as it is.
pub const STREAM_OPTIONS_BYTES_MAX: usize = 1024;
/// Of a request whose answer was cut before its usage came, one token is counted for so many bytes.
pub const BYTES_PER_TOKEN: u64 = 4;
/// Budgets of one project.
pub const BUDGETS_MAX: usize = 16;
/// Requests a minute of a management key.
pub const MANAGEMENT_RATE_DEFAULT: u64 = 60;
/// Requests a minute of a project's key.
pub const PROJECT_RATE_DEFAULT: u64 = 600;
/// Of what a path names, as much stands in the audit log.
pub const AUDIT_TARGET_CHARS_MAX: usize = 256;
/// A longer `Idempotency-Key` is refused.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;
/// How long an `Idempotency-Key` is remembered.
pub const IDEMPOTENCY_KEEP: Duration = Duration::from_secs(24 * 3600);
/// Remembered requests; beyond it the oldest give way.
pub const IDEMPOTENCY_ROWS_MAX: u64 = 50_000;
/// Entries of the audit log; beyond it the oldest give way.
pub const AUDIT_ROWS_MAX: u64 = 100_000;
/// Ids of files, batches and responses whose owner is remembered; beyond it the oldest give way.
pub const ID_ROWS_MAX: u64 = 500_000;
/// A longer id is nobody's.
pub const ID_BYTES_MAX: usize = 512;
/// Keys whose first sight is remembered; beyond it those that changed longest ago give way.
pub const SEEN_ROWS_MAX: u64 = 50_000;
/// Of each table, what goes along into memory when the file fails.
pub const STATE_RESCUE_ROWS_MAX: u64 = 10_000;

// --- Dialects -----------------------------------------------------------------------------------

/// Names of a model inside one body that are changed to the upstream's. Google takes a hundred texts
/// in one call.
pub const MODEL_EDITS_MAX: usize = 256;
/// Headers of a frame of an AWS event stream: they are held while it passes. Those of Bedrock have a
/// hundred bytes.
pub const FRAME_HEADERS_BYTES_MAX: usize = 16 * 1024;
/// A frame of an AWS event stream: payload and headers as the format has them at most.
pub const FRAME_BYTES_MAX: usize = 24 * 1024 * 1024 + 128 * 1024 + 16;
// --- Proxies, HTTP/2 and bounded connections to upstreams ----------------------------------------

/// Name or password at a proxy: SOCKS has one byte for its length.
pub const PROXY_LOGIN_BYTES_MAX: usize = 255;
/// Head of a proxy's answer to CONNECT.
pub const PROXY_HEAD_BYTES_MAX: usize = 16 * 1024;
/// Requests at a time on one HTTP/2 connection to an upstream; the next one dials another. Servers allow
/// 100 or more.
pub const MUX_STREAMS_MAX: usize = 100;
/// What an HTTP/2 upstream may send ahead of a caller who does not read: per request, per connection.
pub const MUX_STREAM_WINDOW_BYTES: u32 = 256 * 1024;
pub const MUX_CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// What waits of one request's body to be written.
pub const MUX_SEND_BUFFER_BYTES: usize = 64 * 1024;
/// A shared connection is asked whether it is alive this often, and given up when it does not answer.
pub const MUX_PING_INTERVAL: Duration = Duration::from_secs(15);
pub const MUX_PING_TIMEOUT: Duration = Duration::from_secs(10);
/// Looks for an idle connection of another worker to close, before a bounded dial is given up.
pub const EVICTIONS_MAX: usize = 64;
/// How often the memory in use is looked at.
pub const MEMORY_LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// For so many looks room is kept for those who came meanwhile: two seconds to fill their buffers.
pub const MEMORY_LOOKS_KEPT: usize = 20;
/// What one request may come to hold, in buffers: its caller's, its upstream's, and what is on its way.
pub const BUFFERS_OF_A_REQUEST: u64 = 3;
/// ... and beside them: a body that is not counted, heads, the tasks.
pub const REQUEST_BYTES: u64 = 64 * 1024;
/// A connection that waits, with its first buffer ...
pub const CONNECTION_BYTES: u64 = 16 * 1024;
/// ... and what all of them may take of the memory: one in so many.
pub const CONNECTIONS_MEMORY_SHARE: u64 = 4;
/// From this share of the limit on, new requests are refused; the rest is for what was begun, and for
/// the kernel's buffers of its sockets.
pub const MEMORY_SHORT_PERCENT: u64 = 60;
/// ... and down to this one.
pub const MEMORY_CALM_PERCENT: u64 = 50;
/// A buffer of a connection is at most one in so many of the memory ...
pub const BUFFERS_IN_MEMORY: u64 = 4096;
/// ... and large enough for a head in any case.
pub const BUFFER_BYTES_SMALLEST: usize = 32 * 1024;
// --- Who made what upstreams keep ----------------------------------------------------------------

/// Of an answer, as much as is read for the id of what was made.
pub const ID_SOUGHT_BYTES_MAX: usize = 8 * 1024;
/// Of a list that is cut to what one project made.
pub const ID_LIST_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long a call waits to hear whose an id is.
pub const ID_WAIT_MAX: Duration = Duration::from_secs(1);

// --- Locks of the state directory ----------------------------------------------------------------

/// How often a command tries again for the lock of the state directory, and how long it waits each
/// time: half a second in all.
pub const LOCK_TRIES: u32 = 25;
pub const LOCK_PAUSE: Duration = Duration::from_millis(20);
// --- Redeo and Modelux ---------------------------------------------------------------------------

/// How much of the beginning of a secret a list may show; never more than a quarter of it.
pub const PREFIX_CHARS_MAX: usize = 12;
/// Label of a connection; names in the file may be longer.
pub const LABEL_CHARS_MAX: usize = 64;
/// Items of a page of a Modelux list, unless asked for otherwise, and at most.
pub const PAGE_ITEMS_DEFAULT: usize = 50;
pub const PAGE_ITEMS_MAX: usize = 200;
/// Text of a cursor: a time and an id.
pub const CURSOR_CHARS_MAX: usize = 512;
/// Share of good attempts below which a key's health is told as degraded, and as down.
pub const HEALTH_DEGRADED_BELOW: f64 = 0.95;
pub const HEALTH_DOWN_BELOW: f64 = 0.5;
/// After a rotation: attempts that were given the old key just before are on the wire by then.
pub const ROTATION_SETTLE: Duration = Duration::from_millis(50);

/// Files in what a model is to read that are looked up for one call.
pub const FILES_NAMED_MAX: usize = 256;
