//! `routes.<@name>`.

use crate::weight::Weight;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct RouteFile {
    /// Absent = fallback.
    pub strategy: Option<StrategyFile>,
    pub targets: Option<Vec<TargetFile>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StrategyFile {
    Fallback,
    Weighted,
    Latency,
}

/// `"provider/model"` or `{"model": "provider/model", "weight": 1}`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TargetFile {
    pub model: String,
    pub weight: Option<Weight>,
}
