//! Fetches what is due, on the control thread: a few at a time, each within a bound.
//!
//! Every question gets an answer, also where its fetch panics or is dropped: else a cell would wait
//! for a flight that never lands.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::cell::{Cell, Fetched};
use super::exchange::Exchange;
use super::{Ask, NoPass, World, aws, azure, google};
use crate::limits::{IDENTITY_FETCH_MAX, IDENTITY_FETCHES_MAX};
use crate::provider::credential::{Credential, Source};
use crate::upstream::Upstream;

/// The questions of all workers.
pub struct Inbox(pub(super) mpsc::Receiver<Ask>);

pub struct Keeper {
    inbox: Inbox,
    upstream: Upstream,
    world: Arc<dyn World>,
}

impl Keeper {
    /// `upstream` is the keeper's own: connections belong to the thread that runs it.
    pub fn new(inbox: Inbox, upstream: Upstream, world: Arc<dyn World>) -> Self {
        Self { inbox, upstream, world }
    }

    /// Until nobody is left who could ask.
    pub async fn run(self) {
        let Self { inbox: Inbox(mut inbox), upstream, world } = self;
        let mut flights = JoinSet::new();
        loop {
            tokio::select! {
                Some(_) = flights.join_next() => {}
                ask = inbox.recv(), if flights.len() < IDENTITY_FETCHES_MAX => match ask {
                    Some(ask) => drop(flights.spawn(fly(ask, upstream.clone(), Arc::clone(&world)))),
                    None => return,
                },
            }
        }
    }
}

async fn fly(ask: Ask, upstream: Upstream, world: Arc<dyn World>) {
    let Ask { credential, way, cell } = ask;
    let mut landing = Landing { cell, world: Arc::clone(&world), outcome: None };
    let exchange = Exchange::new(upstream, world, way);
    let outcome = timeout(IDENTITY_FETCH_MAX, fetch(&exchange, &credential)).await.unwrap_or(Err(NoPass::Unreachable));
    match &outcome {
        Ok(fetched) => {
            tracing::debug!(key = &*credential.holder, life_seconds = fetched.life.as_secs(), "token fetched");
        }
        Err(why) => tracing::warn!(key = &*credential.holder, error = %why, "no token"),
    }
    landing.outcome = Some(outcome);
}

async fn fetch(exchange: &Exchange, credential: &Credential) -> Result<Fetched, NoPass> {
    match &credential.source {
        Source::Entra(entra) => azure::fetch(exchange, entra).await,
        Source::Google(google) => google::fetch(exchange, google).await,
        Source::Aws(aws) => aws::fetch(exchange, aws).await,
    }
}

/// Settles the cell however the flight ends.
struct Landing {
    cell: Arc<Cell>,
    world: Arc<dyn World>,
    outcome: Option<Result<Fetched, NoPass>>,
}

impl Drop for Landing {
    fn drop(&mut self) {
        let outcome = self.outcome.take().unwrap_or(Err(NoPass::Unexpected));
        self.cell.settle(outcome, self.world.now());
    }
}
