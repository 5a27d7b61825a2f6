//! Where the process listens: new sockets are bound before a generation is taken, accepted from
//! after it, and old ones closed last. Owned by the writer; workers hear of changes by channel.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ServerConfig;
use tokio::sync::mpsc;

use super::systemd::Inherited;
use crate::server::{Bound, ListenerCommand, Socket, WorkerListener, server_config};
use crate::snapshot::{ListenSpec, Management, ServerSettings};
use crate::store::{ListenerPort, PreparedToken};

/// Told each address when it begins to be served: prints it.
pub type Announce = Box<dyn Fn(&str) + Send>;

/// All open listeners of the process.
pub struct Listeners {
    workers: Vec<mpsc::Sender<ListenerCommand>>,
    open: HashMap<ListenSpec, Bound>,
    /// Which of the open ones carry management alone.
    management: HashMap<ListenSpec, bool>,
    inherited: Inherited,
    announce: Announce,
}

/// What `prepare` hands to `commit`.
struct Prepared {
    wanted: HashMap<ListenSpec, bool>,
    fresh: Vec<Bound>,
    tls: Option<Arc<ServerConfig>>,
}

impl Listeners {
    pub fn new(workers: Vec<mpsc::Sender<ListenerCommand>>, inherited: Inherited, announce: Announce) -> Self {
        Self { workers, open: HashMap::new(), management: HashMap::new(), inherited, announce }
    }

    fn bind(&mut self, spec: &ListenSpec) -> Result<Bound, String> {
        match self.inherited_for(spec) {
            Some(socket) => Bound::inherited(spec.clone(), socket).map_err(|error| error.to_string()),
            None => Bound::bind(spec).map_err(|error| error.to_string()),
        }
    }

    /// A socket that systemd opened for this address.
    fn inherited_for(&mut self, spec: &ListenSpec) -> Option<Socket> {
        match spec {
            ListenSpec::Tcp { host, port, .. } => {
                let wanted: SocketAddr = format!("{host}:{port}").parse().ok()?;
                let index = self.inherited.tcp.iter().position(|l| l.local_addr().is_ok_and(|a| a == wanted))?;
                Some(Socket::Tcp(self.inherited.tcp.swap_remove(index)))
            }
            ListenSpec::Unix { path, .. } => {
                let index = self
                    .inherited
                    .unix
                    .iter()
                    .position(|l| l.local_addr().is_ok_and(|a| a.as_pathname().is_some_and(|p| p == path)))?;
                Some(Socket::Unix(self.inherited.unix.swap_remove(index)))
            }
        }
    }

    /// The channel holds more than a config can ask for at once; a worker that does not read it has
    /// died, which the process notices elsewhere.
    fn tell(&self, command: impl Fn() -> Option<ListenerCommand>) {
        for worker in &self.workers {
            if let Some(command) = command()
                && worker.try_send(command).is_err()
            {
                tracing::error!("a worker does not take listener changes");
            }
        }
    }

    fn serve(&self, bound: &Bound, management: bool, tls: Option<&Arc<ServerConfig>>) {
        let tls = tls.filter(|_| matches!(bound.spec, ListenSpec::Tcp { tls: true, .. }));
        self.tell(|| match bound.try_clone() {
            Ok(bound) => Some(ListenerCommand::Add(WorkerListener { bound, tls: tls.cloned(), management })),
            Err(error) => {
                tracing::error!(listener = %bound.local, %error, "a listener cannot be shared with a worker");
                None
            }
        });
        (self.announce)(&bound.local);
    }
}

impl ListenerPort for Listeners {
    fn prepare(&mut self, server: &ServerSettings, management: &Management) -> Result<PreparedToken, String> {
        let tls = match &server.tls {
            Some(files) => Some(server_config(files).map_err(|error| error.to_string())?),
            None => None,
        };
        let apart = management.listen.iter().flatten().map(|spec| (spec.clone(), true));
        let mut wanted: HashMap<ListenSpec, bool> = apart.collect();
        // Listed for both: then it serves both.
        wanted.extend(server.listen.iter().map(|spec| (spec.clone(), false)));
        let mut fresh = Vec::new();
        let order = server.listen.iter().chain(management.listen.iter().flatten());
        for spec in order {
            let bound_now = fresh.iter().any(|bound: &Bound| bound.spec == *spec);
            if !self.open.contains_key(spec) && !bound_now {
                fresh.push(self.bind(spec)?);
            }
        }
        Ok(PreparedToken(Box::new(Prepared { wanted, fresh, tls })))
    }

    fn commit(&mut self, prepared: PreparedToken) {
        let Ok(prepared) = prepared.0.downcast::<Prepared>() else { return };
        let Prepared { wanted, fresh, tls } = *prepared;
        for bound in fresh {
            let management = wanted.get(&bound.spec).copied().unwrap_or_default();
            self.serve(&bound, management, tls.as_ref());
            self.management.insert(bound.spec.clone(), management);
            self.open.insert(bound.spec.clone(), bound);
        }
        let gone: Vec<ListenSpec> = self.open.keys().filter(|spec| !wanted.contains_key(*spec)).cloned().collect();
        for spec in gone {
            self.tell(|| Some(ListenerCommand::Remove(spec.clone())));
            self.management.remove(&spec);
            self.open.remove(&spec);
        }
        // What stays may have another certificate, or carry something else than before.
        for (spec, management) in wanted {
            if let (Some(tls), ListenSpec::Tcp { tls: true, .. }) = (&tls, &spec) {
                self.tell(|| Some(ListenerCommand::Tls(spec.clone(), Arc::clone(tls))));
            }
            if self.management.get(&spec).is_some_and(|was| *was != management)
                && let Some(bound) = self.open.get(&spec)
            {
                self.tell(|| Some(ListenerCommand::Remove(spec.clone())));
                self.serve(bound, management, tls.as_ref());
                self.management.insert(spec, management);
            }
        }
    }
}
