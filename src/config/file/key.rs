//! `providers.<name>.keys[]`: the fields of seeds 002 and 004, both generations.

use super::Members;
use crate::config::SecretRef;
use crate::hash::ConfigHash;
use crate::weight::{Priority, Weight};

#[derive(Clone, Debug, PartialEq)]
pub struct KeyFile {
    pub id: Option<String>,
    pub name: Option<String>,
    pub value: Option<SecretRef>,
    pub models: Option<Vec<String>>,
    pub blacklisted_models: Option<Vec<String>>,
    pub weight: Option<Weight>,
    pub priority: Option<Priority>,
    /// `deployments` of seed 002 are already folded in, aliases winning.
    pub aliases: Option<Members<AliasFile>>,
    pub base_url: Option<SecretRef>,
    pub enabled: Option<bool>,
    pub use_for_batch_api: Option<bool>,
    pub use_anthropic_endpoints: Option<bool>,
    pub azure_key_config: Option<AzureKeyFile>,
    pub vertex_key_config: Option<VertexKeyFile>,
    pub bedrock_key_config: Option<BedrockKeyFile>,
    pub replicate_key_config: Option<ReplicateKeyFile>,
    pub vllm_key_config: Option<VllmKeyFile>,
    pub ollama_key_config: Option<UrlKeyFile>,
    pub sgl_key_config: Option<UrlKeyFile>,
    /// RFC 3339, written by APIs only.
    pub created_at: Option<String>,
    pub updated_at: Option<String>,
    /// Over the canonical form of the whole member as written, minus what CONTRACT 2.3 leaves out.
    pub hash: ConfigHash,
}

/// A string in the file, or the object of bifrost.md 2.4.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AliasFile {
    pub model_id: String,
    pub model_name: Option<String>,
    pub model_family: Option<String>,
    pub description: Option<String>,
    /// Provider-specific members (`region`, `endpoint`, …) that were set, by name.
    pub other: Members<serde_json::Value>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct AzureKeyFile {
    pub endpoint: Option<SecretRef>,
    pub api_version: Option<SecretRef>,
    pub client_id: Option<SecretRef>,
    pub client_secret: Option<SecretRef>,
    pub tenant_id: Option<SecretRef>,
    pub scopes: Option<Vec<String>>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct VertexKeyFile {
    pub project_id: Option<SecretRef>,
    pub project_number: Option<SecretRef>,
    pub region: Option<SecretRef>,
    pub auth_credentials: Option<SecretRef>,
    pub force_single_region: Option<bool>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct BedrockKeyFile {
    pub access_key: Option<SecretRef>,
    pub secret_key: Option<SecretRef>,
    pub session_token: Option<SecretRef>,
    pub region: Option<SecretRef>,
    pub arn: Option<SecretRef>,
    pub role_arn: Option<SecretRef>,
    pub external_id: Option<SecretRef>,
    pub session_name: Option<SecretRef>,
    pub project_id: Option<SecretRef>,
    pub batch_s3_config: Option<BatchS3File>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct BatchS3File {
    pub buckets: Option<Vec<BatchBucketFile>>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct BatchBucketFile {
    pub bucket_name: Option<String>,
    pub prefix: Option<String>,
    pub is_default: Option<bool>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReplicateKeyFile {
    pub use_deployments_endpoint: Option<bool>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct VllmKeyFile {
    pub url: Option<SecretRef>,
    pub model_name: Option<String>,
}

/// `ollama_key_config` and `sgl_key_config`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UrlKeyFile {
    pub url: Option<SecretRef>,
}
