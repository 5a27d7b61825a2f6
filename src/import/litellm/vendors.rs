//! LiteLLM's providers: the prefix of a model, and what it is here.

use crate::provider::rows;

/// One prefix.
pub(super) struct Vendor {
    pub prefix: &'static str,
    /// Name of the provider here.
    pub provider: &'static str,
    /// Of a provider that the catalogue does not have; it speaks like OpenAI.
    pub custom: bool,
    /// Where it is, if that must be written: a custom provider, or a server on this machine.
    pub base_url: &'static str,
    /// The variable that is read when no key is written.
    pub env: &'static str,
    /// No address means nothing.
    pub needs_base: bool,
}

const fn of(prefix: &'static str, provider: &'static str, env: &'static str) -> Vendor {
    Vendor { prefix, provider, custom: false, base_url: "", env, needs_base: false }
}

/// A server of one's own that speaks like OpenAI and may go without a key.
const fn own(prefix: &'static str) -> Vendor {
    Vendor { needs_base: true, ..of(prefix, OWN_SERVER, "") }
}

const fn custom(prefix: &'static str, base_url: &'static str, env: &'static str) -> Vendor {
    Vendor { custom: true, base_url, ..of(prefix, prefix, env) }
}

/// The provider of servers of one's own.
pub(super) const OWN_SERVER: &str = "vllm";
/// The provider whose API the others imitate.
pub(super) const OPENAI: &str = "openai";

/// A prefix that is not here is not known to be served.
pub(super) const VENDORS: &[Vendor] = &[
    of("openai", OPENAI, "OPENAI_API_KEY"),
    of("text-completion-openai", OPENAI, "OPENAI_API_KEY"),
    of("azure", "azure", "AZURE_API_KEY"),
    of("azure_text", "azure", "AZURE_API_KEY"),
    of("anthropic", "anthropic", "ANTHROPIC_API_KEY"),
    of("bedrock", "bedrock", ""),
    of("bedrock_converse", "bedrock", ""),
    of("vertex_ai", "vertex", ""),
    of("vertex_ai_beta", "vertex", ""),
    of("gemini", "gemini", "GEMINI_API_KEY"),
    of("cohere", "cohere", "COHERE_API_KEY"),
    of("cohere_chat", "cohere", "COHERE_API_KEY"),
    of("mistral", "mistral", "MISTRAL_API_KEY"),
    of("groq", "groq", "GROQ_API_KEY"),
    of("fireworks_ai", "fireworks", "FIREWORKS_API_KEY"),
    of("cerebras", "cerebras", "CEREBRAS_API_KEY"),
    of("openrouter", "openrouter", "OPENROUTER_API_KEY"),
    of("perplexity", "perplexity", "PERPLEXITYAI_API_KEY"),
    of("xai", "xai", "XAI_API_KEY"),
    of("deepseek", "deepseek", "DEEPSEEK_API_KEY"),
    of("together_ai", "together", "TOGETHERAI_API_KEY"),
    of("nebius", "nebius", "NEBIUS_API_KEY"),
    of("huggingface", "huggingface", "HUGGINGFACE_API_KEY"),
    of("replicate", "replicate", "REPLICATE_API_KEY"),
    of("elevenlabs", "elevenlabs", "ELEVENLABS_API_KEY"),
    Vendor { base_url: "http://localhost:11434", ..of("ollama", "ollama", "") },
    Vendor { base_url: "http://localhost:11434", ..of("ollama_chat", "ollama", "") },
    own("hosted_vllm"),
    own("vllm"),
    own("lm_studio"),
    own("llamafile"),
    own("xinference"),
    own("openai_like"),
    own("custom_openai"),
    own("litellm_proxy"),
    custom("nvidia_nim", "https://integrate.api.nvidia.com/v1", "NVIDIA_NIM_API_KEY"),
    custom("sambanova", "https://api.sambanova.ai/v1", "SAMBANOVA_API_KEY"),
    custom("moonshot", "https://api.moonshot.ai/v1", "MOONSHOT_API_KEY"),
    custom("hyperbolic", "https://api.hyperbolic.xyz/v1", "HYPERBOLIC_API_KEY"),
    custom("dashscope", "https://dashscope-intl.aliyuncs.com/compatible-mode/v1", "DASHSCOPE_API_KEY"),
    custom("lambda_ai", "https://api.lambda.ai/v1", "LAMBDA_API_KEY"),
    custom("featherless_ai", "https://api.featherless.ai/v1", "FEATHERLESS_AI_API_KEY"),
];

pub(super) fn vendor(prefix: &str) -> Option<&'static Vendor> {
    VENDORS.iter().find(|vendor| vendor.prefix == prefix)
}

/// Of a model without a prefix: by its family.
pub(super) fn by_family(model: &str) -> Option<&'static Vendor> {
    let folded = model.to_ascii_lowercase();
    let row = rows().iter().find(|row| !row.in_process && row.owns(&folded))?;
    VENDORS.iter().find(|vendor| vendor.provider == row.id)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::provider::row;

    #[test]
    fn every_vendor_is_a_provider() {
        let mut seen = HashSet::new();
        for vendor in VENDORS {
            assert!(seen.insert(vendor.prefix), "{} is there twice", vendor.prefix);
            assert_eq!(row(vendor.provider).is_none(), vendor.custom, "{}", vendor.prefix);
            assert_eq!(vendor.custom, vendor.custom && vendor.base_url.ends_with("/v1"), "{}", vendor.prefix);
        }
    }

    #[test]
    fn families() {
        for (model, provider) in [
            ("gpt-4o", Some("openai")),
            ("claude-sonnet", Some("anthropic")),
            ("Gemini-pro", Some("gemini")),
            ("x", None),
        ] {
            assert_eq!(by_family(model).map(|vendor| vendor.provider), provider, "{model}");
        }
    }
}
