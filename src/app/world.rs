//! The machine as identity sees it: environment, files, clock. The control thread alone asks it for
//! files.

use std::path::Path;
use std::time::SystemTime;

use crate::clock::Clock;
use crate::hash::FingerprintKey;
use crate::identity::World;
use crate::secret::Secret;
use crate::store::{Env, Resolver, SystemDisk, system_env};
use crate::ticks::Ticks;

pub struct Machine {
    clock: Clock,
    env: Env,
    key: FingerprintKey,
}

impl Machine {
    pub fn new(clock: Clock, key: FingerprintKey) -> Self {
        Self { clock, env: system_env(), key }
    }

    fn resolver(&self) -> Resolver<'_> {
        Resolver::new(Path::new("/"), &SystemDisk, &self.env, &self.key)
    }
}

impl World for Machine {
    fn now(&self) -> Ticks {
        self.clock.now()
    }

    fn wall(&self) -> SystemTime {
        self.clock.wall()
    }

    fn env(&self, name: &str) -> Option<Secret> {
        self.resolver().env(name).ok()
    }

    fn file(&self, path: &Path) -> Option<Secret> {
        self.resolver().file(path).ok()
    }
}
