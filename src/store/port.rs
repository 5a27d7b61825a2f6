//! What the writer needs of others, as traits: the compile step, the listeners, the clock.
//!
//! The app plugs the real ones in; tests plug fakes. Nothing here decides anything.

use std::any::Any;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use super::{Base, Resolver};
use crate::config::Problems;
use crate::hash::{ConfigHash, FingerprintKey};
use crate::id::ProviderName;
use crate::secret::Secret;
use crate::snapshot::{Compiled, Management, ServerSettings, Snapshot};
use crate::ticks::Ticks;

/// One text of the file, and all that its compile may ask for.
pub struct Source<'a> {
    pub text: &'a str,
    /// Number that the generation gets when it is applied.
    pub number: u64,
    pub hash: ConfigHash,
    /// Directory of the config path as given: relative paths of the file count from here.
    pub directory: &'a Path,
    /// The only way to environment and secret files.
    pub resolve: &'a Resolver<'a>,
    pub fingerprint_key: &'a FingerprintKey,
    /// An unresolved reference is an error instead of a warning.
    pub strict_env: bool,
    pub now: Ticks,
}

/// Text to snapshot. Holds what outlives a snapshot (health registry, model lists).
pub trait Compile: Send {
    /// All problems, located; `Some` iff none of them is an error. A text that is not JSON at all
    /// must come with [`crate::config::Code::Syntax`]: it may be a half-written file.
    fn compile(&mut self, source: &Source<'_>) -> (Option<Compiled>, Problems);

    /// Remembers an upstream's model list; `true` when it differs from the last one.
    fn listed(&mut self, provider: &ProviderName, models: Arc<[Box<str>]>) -> bool;

    /// `running` has been swapped in: what no snapshot holds any more may be retired.
    fn swapped(&mut self, running: &Snapshot, now: Ticks);
}

/// Listeners that are bound and wait for [`ListenerPort::commit`]. Dropped instead: closed again.
pub struct PreparedToken(pub Box<dyn Any + Send>);

impl fmt::Debug for PreparedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PreparedToken")
    }
}

/// Where the process listens: new sockets are bound before old ones are closed.
pub trait ListenerPort: Send {
    /// Binds what is new. The error says which address and why; then nothing has changed.
    fn prepare(&mut self, server: &ServerSettings, management: &Management) -> Result<PreparedToken, String>;

    /// Starts accepting on the new, stops on those no longer wanted. Cannot fail.
    fn commit(&mut self, prepared: PreparedToken);

    /// Fields whose new value waits for a restart, as JSON pointers.
    fn restart_pending(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Encrypts literals before they reach the file.
pub trait Sealer: Send {
    /// `sealed:v1:…` for the field at `pointer` of the file (`/providers/openai/keys/3/value`); `base` is the file it goes into.
    /// The error says why not, in words, never what.
    fn seal(&mut self, secret: &Secret, pointer: &str, base: &Base<'_>) -> Result<String, String>;
}

/// Both clocks. The monotonic one must be tokio's, so that tests may pause it.
pub trait Clock: Send + Sync {
    fn now(&self) -> Ticks;
    fn wall(&self) -> SystemTime;
}

/// Ticks since it was made.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock(tokio::time::Instant);

impl SystemClock {
    #[expect(clippy::new_without_default, reason = "reads the clock, which a default should not")]
    pub fn new() -> Self {
        Self(tokio::time::Instant::now())
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Ticks {
        Ticks::default().after(self.0.elapsed())
    }

    fn wall(&self) -> SystemTime {
        SystemTime::now()
    }
}
