//! The rows of the provider catalogue (CONTRACT 3.2). Data only; what a field means stands at
//! [`ProviderRow`]. Looked up through [`super::row`], never matched by name.

use super::{AuthKind, ProviderRow, RateScope, Verify};
use crate::dialect::Dialect;
use crate::dialect::Operation::{
    self, Batches, ChatCompletion, Embedding, Files, ImageEdit, ImageGeneration, ImageVariation, Moderation, Rerank,
    Responses, ResponsesItem, Speech, TextCompletion, Transcription, Translation,
};
use crate::error::FaultClass;

/// What most rows are: an OpenAI-compatible API behind a bearer token. A row names its deviations.
const COMMON: ProviderRow = ProviderRow {
    id: "",
    also: &[],
    label: "",
    base_url: "",
    version_prefix: "/v1",
    speaks: &[Dialect::OpenAi],
    prefixes: &[],
    parts: &[],
    key_headers: &[],
    models_path: "/models",
    operations: &[],
    elsewhere: &[],
    auth: AuthKind::Bearer,
    families: &[],
    needs_endpoint: false,
    value_optional: false,
    keyless: false,
    in_process: false,
    faults: &[],
    rate_scope: RateScope::Model,
    lists_models: true,
    verify: Verify::Models,
    lists_more_than_it_serves: false,
};

/// In the order of CONTRACT 3.2.
pub(super) const ROWS: &[ProviderRow] = &[
    ProviderRow {
        id: "openai",
        label: "OpenAI",
        base_url: "https://api.openai.com",
        families: &[
            "gpt-",
            "chatgpt-",
            "codex-",
            "o1",
            "o3",
            "o4",
            "ft:gpt-",
            "ft:davinci-",
            "ft:babbage-",
            "text-embedding-",
            "text-moderation-",
            "omni-moderation-",
            "dall-e-",
            "whisper-",
            "tts-",
            "sora-",
            "computer-use-",
            "babbage-",
            "davinci-",
        ],
        operations: &[
            ChatCompletion,
            TextCompletion,
            Responses,
            ResponsesItem,
            Embedding,
            Moderation,
            ImageGeneration,
            ImageEdit,
            ImageVariation,
            Speech,
            Transcription,
            Translation,
            Files,
            Batches,
        ],
        ..COMMON
    },
    ProviderRow {
        // Lists the models that there are, not those that were deployed.
        id: "azure",
        label: "Azure OpenAI",
        version_prefix: "/openai/v1",
        speaks: &[Dialect::OpenAi, Dialect::Anthropic],
        prefixes: &[(Dialect::Anthropic, "/anthropic/v1")],
        parts: &[(Dialect::Anthropic, &[ChatCompletion, Operation::CountTokens])],
        key_headers: &[(Dialect::Anthropic, "x-api-key")],
        auth: AuthKind::Azure,
        needs_endpoint: true,
        value_optional: true,
        lists_more_than_it_serves: true,
        operations: &[
            ChatCompletion,
            TextCompletion,
            Responses,
            ResponsesItem,
            Embedding,
            ImageGeneration,
            ImageEdit,
            Speech,
            Transcription,
            Translation,
            Files,
            Batches,
        ],
        ..COMMON
    },
    ProviderRow {
        // Its OpenAI paths are left alone: they pass over what they do not know without a word.
        id: "anthropic",
        label: "Anthropic",
        base_url: "https://api.anthropic.com",
        speaks: &[Dialect::Anthropic],
        models_path: "/models?limit=1000",
        auth: AuthKind::Header("x-api-key"),
        families: &["claude-"],
        ..COMMON
    },
    ProviderRow {
        // One name for a wrong signature and a wrong clock: the date of the answer tells them apart. Its
        // list of models stands on another host.
        id: "bedrock",
        label: "AWS Bedrock",
        version_prefix: "/openai/v1",
        speaks: &[Dialect::OpenAi, Dialect::Bedrock],
        prefixes: &[(Dialect::Bedrock, "")],
        auth: AuthKind::AwsSigV4,
        families: &["anthropic.", "amazon.", "meta.", "openai.", "us.", "eu.", "apac.", "global."],
        value_optional: true,
        faults: &[
            (403, "unrecognizedclientexception", FaultClass::Credential),
            (403, "expiredtokenexception", FaultClass::Credential),
            (403, "invalidsignatureexception", FaultClass::ClockSkew),
            (403, "signaturedoesnotmatch", FaultClass::ClockSkew),
            (403, "requesttimetooskewed", FaultClass::ClockSkew),
            (400, "requestexpired", FaultClass::ClockSkew),
            (403, "incompletesignatureexception", FaultClass::Credential),
            (403, "missingauthenticationtokenexception", FaultClass::Credential),
            (408, "", FaultClass::Server),
            (424, "", FaultClass::Server),
        ],
        lists_models: false,
        verify: Verify::Nothing,
        operations: &[ChatCompletion],
        ..COMMON
    },
    ProviderRow {
        id: "vertex",
        label: "Google Vertex AI",
        version_prefix: "",
        speaks: &[Dialect::OpenAi, Dialect::Anthropic, Dialect::Gemini],
        parts: &[
            (Dialect::Anthropic, &[ChatCompletion, Operation::CountTokens]),
            (Dialect::Gemini, &[ChatCompletion, Operation::CountTokens, ImageGeneration]),
        ],
        auth: AuthKind::GoogleOAuth,
        value_optional: true,
        lists_models: false,
        verify: Verify::Nothing,
        faults: &[(403, "service_disabled", FaultClass::Credential), (403, "billing_disabled", FaultClass::Credential)],
        operations: &[ChatCompletion],
        ..COMMON
    },
    ProviderRow {
        // A bad key is a 400 here.
        id: "gemini",
        also: &["google"],
        label: "Google Gemini",
        base_url: "https://generativelanguage.googleapis.com",
        version_prefix: "/v1beta",
        speaks: &[Dialect::Gemini],
        models_path: "/models?pageSize=1000",
        auth: AuthKind::Header("x-goog-api-key"),
        families: &["gemini-", "gemma-", "imagen-", "veo-", "learnlm-"],
        faults: &[
            (400, "api_key_invalid", FaultClass::Credential),
            (400, "api_key_expired", FaultClass::Credential),
            (403, "api_key_service_blocked", FaultClass::Credential),
            (403, "service_disabled", FaultClass::Credential),
            (403, "billing_disabled", FaultClass::Credential),
        ],
        ..COMMON
    },
    ProviderRow {
        // 498: invalid token. Its own API is the second; the OpenAI-compatible one stands beside.
        id: "cohere",
        label: "Cohere",
        base_url: "https://api.cohere.com",
        version_prefix: "/compatibility/v1",
        families: &["command-", "c4ai-", "embed-english-", "embed-multilingual-", "embed-v4", "rerank-"],
        faults: &[(498, "", FaultClass::Credential)],
        rate_scope: RateScope::Account,
        operations: &[ChatCompletion, Embedding, Rerank],
        elsewhere: &[(Rerank, "/v2/rerank"), (Operation::ListModels, "/v1/models")],
        ..COMMON
    },
    ProviderRow {
        id: "mistral",
        label: "Mistral",
        base_url: "https://api.mistral.ai",
        families: &[
            "mistral-",
            "ministral-",
            "open-mistral-",
            "open-mixtral-",
            "codestral-",
            "devstral-",
            "magistral-",
            "pixtral-",
            "voxtral-",
        ],
        rate_scope: RateScope::Account,
        operations: &[ChatCompletion, Embedding, Moderation, Transcription, Files],
        ..COMMON
    },
    ProviderRow {
        // 498: flex tier has no capacity.
        id: "groq",
        label: "Groq",
        base_url: "https://api.groq.com/openai",
        faults: &[(498, "", FaultClass::Rate)],
        operations: &[ChatCompletion, Responses, Speech, Transcription, Translation, Files, Batches],
        ..COMMON
    },
    ProviderRow {
        // 412: the account is suspended.
        id: "fireworks",
        label: "Fireworks AI",
        base_url: "https://api.fireworks.ai/inference",
        families: &["accounts/fireworks/"],
        faults: &[(412, "", FaultClass::Credential)],
        rate_scope: RateScope::Account,
        operations: &[ChatCompletion, TextCompletion, Responses, ResponsesItem, Embedding, Rerank],
        ..COMMON
    },
    ProviderRow {
        id: "cerebras",
        label: "Cerebras",
        base_url: "https://api.cerebras.ai",
        operations: &[ChatCompletion, TextCompletion],
        ..COMMON
    },
    ProviderRow {
        // Its 403 is moderation of the input, its 408 a slow model behind it.
        id: "openrouter",
        label: "OpenRouter",
        base_url: "https://openrouter.ai/api",
        verify: Verify::Path("/key"),
        faults: &[(403, "", FaultClass::Content), (408, "", FaultClass::Server)],
        operations: &[ChatCompletion, TextCompletion, Responses, Embedding],
        ..COMMON
    },
    ProviderRow {
        // Serves Responses and embeddings; its chat completions were switched off on 2026-09-27. Has no
        // list of models.
        id: "perplexity",
        label: "Perplexity",
        base_url: "https://api.perplexity.ai",
        families: &["sonar"],
        lists_models: false,
        verify: Verify::Nothing,
        operations: &[Responses, Embedding],
        ..COMMON
    },
    ProviderRow {
        // Its 403 means one model or one content, and its body does not say which: the default benches
        // the model for this key only.
        id: "xai",
        label: "xAI",
        base_url: "https://api.x.ai",
        families: &["grok-"],
        operations: &[ChatCompletion, TextCompletion, Responses, ResponsesItem, Embedding, ImageGeneration],
        ..COMMON
    },
    ProviderRow {
        id: "deepseek",
        label: "DeepSeek",
        base_url: "https://api.deepseek.com",
        families: &["deepseek-"],
        operations: &[ChatCompletion, TextCompletion],
        elsewhere: &[(TextCompletion, "/beta/completions")],
        ..COMMON
    },
    ProviderRow {
        id: "together",
        label: "Together AI",
        base_url: "https://api.together.ai",
        operations: &[ChatCompletion, TextCompletion, Embedding, Rerank, ImageGeneration, Speech, Transcription],
        ..COMMON
    },
    ProviderRow {
        id: "nebius",
        label: "Nebius Token Factory",
        base_url: "https://api.tokenfactory.nebius.com",
        operations: &[ChatCompletion, TextCompletion, Embedding, ImageGeneration],
        ..COMMON
    },
    ProviderRow {
        id: "parasail",
        label: "Parasail",
        base_url: "https://api.parasail.io",
        operations: &[ChatCompletion, Responses, Embedding, Files, Batches],
        ..COMMON
    },
    ProviderRow {
        id: "huggingface",
        label: "Hugging Face",
        base_url: "https://router.huggingface.co",
        verify: Verify::Nothing,
        rate_scope: RateScope::Account,
        operations: &[ChatCompletion],
        ..COMMON
    },
    ProviderRow {
        id: "ollama",
        label: "Ollama",
        needs_endpoint: true,
        value_optional: true,
        operations: &[ChatCompletion, TextCompletion, Responses, Embedding, Transcription],
        ..COMMON
    },
    ProviderRow {
        id: "vllm",
        label: "vLLM",
        needs_endpoint: true,
        value_optional: true,
        operations: &[
            ChatCompletion,
            TextCompletion,
            Responses,
            ResponsesItem,
            Embedding,
            Rerank,
            Transcription,
            Translation,
        ],
        ..COMMON
    },
    ProviderRow {
        id: "sgl",
        label: "SGLang",
        needs_endpoint: true,
        value_optional: true,
        operations: &[ChatCompletion, TextCompletion, Embedding, Rerank],
        ..COMMON
    },
    ProviderRow {
        id: "replicate",
        label: "Replicate",
        base_url: "https://api.replicate.com",
        speaks: &[],
        rate_scope: RateScope::Account,
        lists_models: false,
        verify: Verify::Nothing,
        ..COMMON
    },
    ProviderRow {
        id: "elevenlabs",
        label: "ElevenLabs",
        base_url: "https://api.elevenlabs.io",
        speaks: &[],
        auth: AuthKind::Header("xi-api-key"),
        families: &["eleven_"],
        rate_scope: RateScope::Account,
        ..COMMON
    },
    ProviderRow {
        // A name that resolves nowhere: if it ever left the process, it would not get far.
        id: "mock",
        label: "Built-in mock",
        base_url: "http://mock.invalid",
        speaks: &[Dialect::OpenAi, Dialect::Anthropic, Dialect::Gemini, Dialect::Bedrock],
        prefixes: &[(Dialect::Gemini, "/v1beta"), (Dialect::Bedrock, "")],
        auth: AuthKind::None,
        families: &["mock"],
        value_optional: true,
        keyless: true,
        in_process: true,
        operations: &[
            ChatCompletion,
            TextCompletion,
            Responses,
            ResponsesItem,
            Embedding,
            Moderation,
            Rerank,
            ImageGeneration,
            ImageEdit,
            ImageVariation,
            Speech,
            Transcription,
            Translation,
            Files,
            Batches,
        ],
        ..COMMON
    },
];
