//! `aliases.<name>`: a string, or the object of bifrost.md 2.4.

use serde_json::Value as Json;

use super::Members;
use crate::config::problem::Problems;
use crate::config::read::{FromConfig, Node};
use crate::config::record::record;
use crate::config::scalar::word;
use crate::config::schema::{Defs, SchemaRef};
use crate::config::syntax::Value;
use crate::hash::Canon;

/// What a requested model name becomes upstream.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AliasFile {
    pub model_id: String,
    pub model_name: Option<String>,
    pub model_family: Option<String>,
    pub description: Option<String>,
    /// Provider-specific members (`region`, `endpoint`, …) that were set, by name.
    pub other: Members<serde_json::Value>,
}

word! {
    Family: "anthropic" | "openai" | "mistral" | "cohere" | "gemini" | "gemma" | "llama" | "imagen" | "veo" | "nova" | "titan"
}

record! {
    /// An alias: the upstream model's id, alone or with what goes with it.
    #[derive(Default)]
    struct Alias {
        /// The model as the upstream knows it: name, deployment, ARN, inference profile.
        pub model_id: String,
        /// The model behind an opaque id, for prices and capabilities.
        pub model_name: Option<String>,
        /// Decides the dialect of an opaque id.
        pub model_family: Option<String> as Family,
        /// For people.
        pub description: Option<String>,
        /// Region of this model.
        pub region: Option<String>,
        /// Google project of this model.
        pub project_id: Option<String>,
        /// Google project number of a fine-tuned model.
        pub project_number: Option<String>,
        /// Do not fall back to another region.
        pub force_single_region: Option<bool>,
        /// Azure resource of this deployment.
        pub endpoint: Option<String>,
        /// Azure api-version of this deployment.
        pub api_version: Option<String>,
        /// anthropic-version sent for this model.
        pub anthropic_version: Option<String>,
        /// Use the provider's native Anthropic endpoint.
        pub use_anthropic_endpoints: Option<bool>,
        /// Bedrock inference profile.
        pub inference_profile_arn: Option<String>,
        /// Replicate: `owner/name` is a deployment.
        pub use_deployments_endpoint: Option<bool>,
    }
    shorthand model_id
}

impl From<Alias> for AliasFile {
    fn from(alias: Alias) -> Self {
        let text = |name: &str, value: Option<String>| value.map(|v| (name.to_owned(), Json::String(v)));
        let flag = |name: &str, value: Option<bool>| value.map(|v| (name.to_owned(), Json::Bool(v)));
        let other = [
            text("region", alias.region),
            text("project_id", alias.project_id),
            text("project_number", alias.project_number),
            flag("force_single_region", alias.force_single_region),
            text("endpoint", alias.endpoint),
            text("api_version", alias.api_version),
            text("anthropic_version", alias.anthropic_version),
            flag("use_anthropic_endpoints", alias.use_anthropic_endpoints),
            text("inference_profile_arn", alias.inference_profile_arn),
            flag("use_deployments_endpoint", alias.use_deployments_endpoint),
        ];
        Self {
            model_id: alias.model_id,
            model_name: alias.model_name,
            model_family: alias.model_family,
            description: alias.description,
            other: other.into_iter().flatten().collect(),
        }
    }
}

impl FromConfig for AliasFile {
    fn read(node: Node<'_>, problems: &mut Problems) -> Option<Self> {
        Alias::read(node, problems).map(Into::into)
    }

    fn schema(defs: &mut Defs) -> SchemaRef {
        Alias::schema(defs)
    }

    fn canon(value: &Value) -> Canon {
        Alias::canon(value)
    }

    /// An alias to nothing is a mistake, not an absent one.
    fn is_unset(_: &Value) -> bool {
        false
    }
}
