//! `routes.<@name>`.

use crate::config::problem::Problems;
use crate::config::read::{FromConfig, Node};
use crate::config::record::record;
use crate::config::scalar::one_of;
use crate::config::schema::{Defs, SchemaRef};
use crate::weight::Weight;

record! {
    /// A name for one or more targets.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct RouteFile {
        /// Absent = fallback.
        pub strategy: Option<StrategyFile>,
        /// Tried in order, or drawn by weight; no route inside a route.
        pub targets: Option<Vec<TargetFile>>,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StrategyFile {
    Fallback,
    Weighted,
    Latency,
}

const STRATEGIES: [&str; 3] = ["fallback", "weighted", "latency"];

impl FromConfig for StrategyFile {
    fn read(node: Node<'_>, problems: &mut Problems) -> Option<Self> {
        match one_of(node, &STRATEGIES, problems)? {
            "weighted" => Some(Self::Weighted),
            "latency" => Some(Self::Latency),
            _ => Some(Self::Fallback),
        }
    }

    fn schema(_: &mut Defs) -> SchemaRef {
        serde_json::json!({"enum": STRATEGIES})
    }
}

record! {
    /// A target: `"provider/model"` or `{"model": "provider/model", "weight": 1}`.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct TargetFile {
        /// `provider/model`.
        pub model: String,
        /// Share of a weighted route; default 1.
        pub weight: Option<Weight>,
    }
    shorthand model
}
