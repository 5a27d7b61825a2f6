//! Requests with an `Idempotency-Key`: what they asked, as a digest, and what they were answered.

use std::time::SystemTime;

use rusqlite::{Connection, OptionalExtension as _, params};

use super::seconds;
use crate::limits::IDEMPOTENCY_KEEP;

/// Of a request's scope or of its body.
pub type Digest = [u8; 32];

/// What is known of a request when it begins.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Begun {
    /// Nothing: it is to be carried out.
    Fresh,
    /// The same request is being carried out.
    Running,
    /// The key was used for another body.
    OtherBody,
    /// It was carried out; this was the answer.
    Answered(Kept),
}

/// An answer to be given again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Kept {
    pub status: u16,
    /// As the one who keeps it wants to find it again.
    pub head: String,
    pub body: Vec<u8>,
}

pub(super) fn begin(
    connection: &Connection,
    run: &[u8; 16],
    (scope, body): (&Digest, &Digest),
    at: SystemTime,
) -> rusqlite::Result<Begun> {
    let oldest = seconds(at).saturating_sub(i64::try_from(IDEMPOTENCY_KEEP.as_secs()).unwrap_or(i64::MAX));
    let known = connection
        .prepare("SELECT body, run, status, head, answer FROM replay WHERE scope = ? AND began > ?")?
        .query_row(params![scope, oldest], |row| {
            let kept = match row.get::<_, Option<u16>>(2)? {
                Some(status) => Some(Kept { status, head: row.get(3)?, body: row.get(4)? }),
                None => None,
            };
            Ok((row.get::<_, Digest>(0)?, row.get::<_, [u8; 16]>(1)?, kept))
        })
        .optional()?;
    match known {
        Some((stored, _, _)) if stored != *body => return Ok(Begun::OtherBody),
        Some((_, _, Some(kept))) => return Ok(Begun::Answered(kept)),
        Some((_, by, None)) if by == *run => return Ok(Begun::Running),
        // Who carried it out is gone without a word: it is done again, or nobody could ever.
        Some(_) | None => {}
    }
    connection
        .prepare("INSERT OR REPLACE INTO replay (scope, body, run, began) VALUES (?, ?, ?, ?)")?
        .execute(params![scope, body, run, seconds(at)])?;
    Ok(Begun::Fresh)
}

pub(super) fn finish(connection: &Connection, scope: &Digest, kept: Option<&Kept>) -> rusqlite::Result<()> {
    match kept {
        Some(kept) => connection
            .prepare("UPDATE replay SET status = ?, head = ?, answer = ? WHERE scope = ?")?
            .execute(params![kept.status, kept.head, kept.body, scope])?,
        None => connection.prepare("DELETE FROM replay WHERE scope = ?")?.execute([scope])?,
    };
    Ok(())
}

pub(super) fn trim(connection: &Connection, at: SystemTime, rows_max: u64) -> rusqlite::Result<()> {
    let oldest = seconds(at).saturating_sub(i64::try_from(IDEMPOTENCY_KEEP.as_secs()).unwrap_or(i64::MAX));
    connection.execute("DELETE FROM replay WHERE began <= ?", [oldest])?;
    connection.execute(
        "DELETE FROM replay WHERE scope IN (SELECT scope FROM replay ORDER BY began DESC LIMIT -1 OFFSET ?)",
        [i64::try_from(rows_max).unwrap_or(i64::MAX)],
    )?;
    Ok(())
}
