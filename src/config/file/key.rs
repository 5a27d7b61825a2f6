//! `providers.<name>.keys[]`: the fields of seeds 002 and 004, both generations.

use super::{AliasFile, Members};
use crate::config::SecretRef;
use crate::config::problem::{Code, Problems, pointer_to};
use crate::config::read::{FromConfig, Node};
use crate::config::record::record;
use crate::config::scalar::Unordered;
use crate::config::syntax::Value;
use crate::hash::{Canon, ConfigHash};
use crate::weight::{Priority, Weight};

record! {
    /// A key of a provider.
    #[derive(Clone, Debug, PartialEq)]
    pub struct KeyFile {
        /// Stable handle; absent = derived from provider and name.
        pub id: Option<String>,
        /// Unique in its provider; may be absent for one key.
        pub name: Option<String>,
        /// The credential.
        pub value: Option<SecretRef>,
        /// Models it may serve; absent or ["*"] = all, [] = none.
        pub models: Option<Vec<String>> as Unordered<String>,
        /// Models it may not serve; wins over `models`.
        pub blacklisted_models: Option<Vec<String>> as Unordered<String>,
        /// Share of traffic inside one priority; 0 = drained, absent = 1.
        pub weight: Option<Weight>,
        /// 0 to 1000, lower is tried first; absent = 500.
        pub priority: Option<Priority>,
        /// Requested model to upstream model.
        pub aliases: Option<Members<AliasFile>>,
        /// Wins over the provider's.
        pub base_url: Option<SecretRef>,
        /// The key's own address must be public; written by APIs with the address that they name.
        pub public_address_only: Option<bool>,
        /// false: never used; absent = true.
        pub enabled: Option<bool>,
        /// May serve batches and files; absent = false.
        pub use_for_batch_api: Option<bool>,
        /// Use the provider's native Anthropic endpoint for Claude.
        pub use_anthropic_endpoints: Option<bool>,
        /// Only for azure.
        pub azure_key_config: Option<AzureKeyFile>,
        /// Only for vertex.
        pub vertex_key_config: Option<VertexKeyFile>,
        /// Only for bedrock.
        pub bedrock_key_config: Option<BedrockKeyFile>,
        /// Only for replicate.
        pub replicate_key_config: Option<ReplicateKeyFile>,
        /// Only for vllm.
        pub vllm_key_config: Option<VllmKeyFile>,
        /// Only for ollama.
        pub ollama_key_config: Option<UrlKeyFile>,
        /// Only for sgl.
        pub sgl_key_config: Option<UrlKeyFile>,
        /// RFC 3339, written by APIs only.
        pub created_at: Option<String>,
        /// RFC 3339, written by APIs only.
        pub updated_at: Option<String>,
    }
    accepts {
        /// Old; its deployments count as aliases.
        huggingface_key_config: HuggingFaceKey,
        /// Given by APIs, ignored here.
        status: String,
        /// Given by APIs, ignored here.
        description: String,
        /// Given by APIs, ignored here.
        config_hash: String,
    }
    computes {
        /// Over the canonical form of the whole member as written, minus [`UNHASHED`].
        pub hash: ConfigHash = key_hash,
    }
    finish fold_deployments
}

/// What says nothing about how the key is used (CONTRACT 2.3). All else is hashed, known or not.
pub const UNHASHED: [&str; 6] = ["id", "status", "description", "created_at", "updated_at", "config_hash"];

fn key_hash(value: &Value) -> ConfigHash {
    let mut canon = KeyFile::canon(value);
    if let Canon::Object(members) = &mut canon {
        members.retain(|name, _| !UNHASHED.contains(&name.as_str()));
    }
    ConfigHash::of(&canon)
}

/// Where the old generation kept its aliases.
const DEPLOYMENT_HOLDERS: [&str; 5] =
    ["azure_key_config", "vertex_key_config", "bedrock_key_config", "replicate_key_config", "huggingface_key_config"];

/// `deployments` become aliases; an alias of the same name, by the rule that names ignore case, wins.
fn fold_deployments(key: &mut KeyFile, node: Node<'_>, problems: &mut Problems) {
    let found = DEPLOYMENT_HOLDERS.iter().filter_map(|holder| {
        let member = node.value.member(holder)?.value.member("deployments")?;
        Some((holder, Option::<Members<String>>::read(Node::root(&member.value), &mut Problems::default())??))
    });
    for (holder, deployments) in found {
        let pointer = pointer_to(&pointer_to(&node.pointer(), holder), "deployments");
        problems
            .warning(Code::Deprecated, pointer, "`deployments` is the old name of the key's `aliases`")
            .hint("move them to `aliases` of the key");
        let aliases = key.aliases.get_or_insert_default();
        for (name, model_id) in deployments {
            if !aliases.iter().any(|(known, _)| known.eq_ignore_ascii_case(&name)) {
                aliases.push((name, AliasFile { model_id, ..AliasFile::default() }));
            }
        }
    }
}

record! {
    /// An Azure OpenAI resource.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct AzureKeyFile {
        /// URL of the resource.
        pub endpoint: Option<SecretRef>,
        /// Sent as api-version.
        pub api_version: Option<SecretRef>,
        /// Entra application; with client_secret and tenant_id.
        pub client_id: Option<SecretRef>,
        /// Secret of the application.
        pub client_secret: Option<SecretRef>,
        /// Entra tenant.
        pub tenant_id: Option<SecretRef>,
        /// Scopes of the token.
        pub scopes: Option<Vec<String>> as Unordered<String>,
    }
    accepts {
        /// Old name of the key's aliases.
        deployments: Members<String>,
    }
}

record! {
    /// A Google Cloud project.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct VertexKeyFile {
        /// Project.
        pub project_id: Option<SecretRef>,
        /// Project number, for fine-tuned models.
        pub project_number: Option<SecretRef>,
        /// Region; `global` is one.
        pub region: Option<SecretRef>,
        /// Service account as JSON text; empty = application default credentials.
        pub auth_credentials: Option<SecretRef>,
        /// Do not fall back to another region.
        pub force_single_region: Option<bool>,
    }
    accepts {
        /// Old name of the key's aliases.
        deployments: Members<String>,
    }
}

record! {
    /// An AWS account.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct BedrockKeyFile {
        /// With secret_key.
        pub access_key: Option<SecretRef>,
        /// With access_key.
        pub secret_key: Option<SecretRef>,
        /// Of temporary credentials.
        pub session_token: Option<SecretRef>,
        /// Region.
        pub region: Option<SecretRef>,
        /// Put before the model id, for inference profiles.
        pub arn: Option<SecretRef>,
        /// Role to assume.
        pub role_arn: Option<SecretRef>,
        /// Condition of that role.
        pub external_id: Option<SecretRef>,
        /// Name of the session of that role.
        pub session_name: Option<SecretRef>,
        /// Project.
        pub project_id: Option<SecretRef>,
        /// Where batches are kept.
        pub batch_s3_config: Option<BatchS3File>,
    }
    accepts {
        /// Old name of the key's aliases.
        deployments: Members<String>,
    }
}

record! {
    /// Where batches are kept.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct BatchS3File {
        /// Buckets.
        pub buckets: Option<Vec<BatchBucketFile>> as Unordered<BatchBucketFile>,
    }
}

record! {
    /// A bucket for batches.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct BatchBucketFile {
        /// Name.
        pub bucket_name: Option<String>,
        /// Before the names of objects.
        pub prefix: Option<String>,
        /// Used when none is named.
        pub is_default: Option<bool>,
    }
}

record! {
    /// Settings of Replicate.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct ReplicateKeyFile {
        /// `owner/name` is a deployment.
        pub use_deployments_endpoint: Option<bool>,
    }
    accepts {
        /// Old name of the key's aliases.
        deployments: Members<String>,
    }
}

record! {
    /// Settings of Hugging Face, of the old generation only.
    #[derive(Default)]
    struct HuggingFaceKey {}
    accepts {
        /// Old name of the key's aliases.
        deployments: Members<String>,
    }
}

record! {
    /// A vLLM server.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct VllmKeyFile {
        /// Of the server.
        pub url: Option<SecretRef>,
        /// The one model that it serves.
        pub model_name: Option<String>,
    }
}

record! {
    /// A server by its URL.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct UrlKeyFile {
        /// Of the server.
        pub url: Option<SecretRef>,
    }
}
