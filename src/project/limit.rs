//! How much a project may ask for: requests a minute of its key, and what it may spend.
//!
//! Looks at cells and takes no lock. A budget is looked at before a request and charged after it:
//! what is under way when it is used up is carried out.

use std::time::{Duration, SystemTime};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Caller;
use crate::error::{GatewayError, Kind};
use crate::limits::OVERLOAD_RETRY_AFTER;
use crate::rate::Tally;
use crate::snapshot::{Project, Snapshot};

/// A refusal, and what it says of the key's limit.
#[derive(Debug)]
pub struct Over {
    pub error: GatewayError,
    pub tally: Tally,
}

/// Counts a request, and refuses it where a limit stands against it. `costs`: it may be charged, as a
/// mere look at what is there is not. `None`: nobody has set limits to this caller.
pub fn admit(caller: &Caller, snapshot: &Snapshot, costs: bool, now: SystemTime) -> Result<Option<Tally>, Box<Over>> {
    let (Caller::Project { key, .. }, Some(project)) = (caller, caller.project(snapshot)) else { return Ok(None) };
    let Some(key) = project.keys.get(*key) else { return Ok(None) };
    let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let tally = match key.rate.take(key.rate_limit, u64::try_from(now.as_millis()).unwrap_or(u64::MAX)) {
        Ok(tally) => tally,
        Err(tally) => {
            let message = format!("this key may make {} requests a minute", tally.limit);
            let error = GatewayError::caller(Kind::RateLimited, "rate_limit_exceeded", message);
            return Err(Box::new(Over { error: error.retry_after(tally.reset), tally }));
        }
    };
    let over = |error| Box::new(Over { error, tally });
    if project.closed_on_outage && project.spend.is_out_of_reach() {
        let message = "what this project has used cannot be looked up, and it is not let in without (on_state_outage)";
        let error = GatewayError::gateway(Kind::Overloaded, "state_unavailable", message);
        return Err(over(error.retry_after(OVERLOAD_RETRY_AFTER)));
    }
    if costs && let Some(error) = used_up(project, now) {
        return Err(over(error));
    }
    Ok(Some(tally))
}

/// The budget that is filled again last.
fn used_up(project: &Project, now: Duration) -> Option<GatewayError> {
    let unsettled = project.spend.unsettled();
    let used_up = project.budgets.iter().filter_map(|budget| Some((budget.used_up(unsettled)?, budget)));
    let (frees_at, budget) = used_up.max_by_key(|(frees_at, _)| *frees_at)?;
    let wait = Duration::from_secs(frees_at).saturating_sub(now).max(Duration::from_secs(1));
    let reset = rfc3339(now + wait);
    let message = format!("the budget '{}' of this project is used up until {reset}", budget.id);
    Some(GatewayError::caller(Kind::BudgetExceeded, "budget_exceeded", message).retry_after(wait))
}

/// To the second.
fn rfc3339(since_epoch: Duration) -> String {
    let seconds = i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX);
    let at = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    at.format(&Rfc3339).unwrap_or_default()
}
