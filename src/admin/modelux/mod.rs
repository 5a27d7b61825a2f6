//! The Modelux face: `/manage/v1/*` (CONTRACT 4.2). Its conventions stand here; what each resource is,
//! beside.
//!
//! Holds nothing of its own: a provider of this face is a key of the file, a routing config a route.

mod change;
mod page;
pub mod providers;

use bytes::Bytes;
use http::Response;

use super::error::ApiError;

type Answer = Result<Response<Bytes>, ApiError>;
