//! `projects`, `prices` and `state`.

use crate::config::SecretRef;
use crate::config::record::record;
use crate::config::scalar::{Amount, Whole, word};

word! {
    OnStateOutage: "open" | "closed"
}
word! {
    Period: "day" | "week" | "month"
}
word! {
    Window: "calendar" | "rolling"
}

record! {
    /// A caller: its keys and what they allow.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct ProjectFile {
        /// Unique name.
        pub id: Option<String>,
        /// Keys of this project.
        pub keys: Option<Vec<ProjectKeyFile>>,
        /// Models as `provider/model` or `@route`, `*` stands for any part; absent = all.
        pub models: Option<Vec<String>>,
        /// May use /passthrough; default false.
        pub passthrough: Option<bool>,
        /// May choose a provider's key by header; default false.
        pub pin: Option<bool>,
        /// Limits of spend; at most 16.
        pub budgets: Option<Vec<BudgetFile>>,
        /// `open` or `closed`: what happens while the state is out of reach; absent = closed with budgets, else open.
        pub on_state_outage: Option<String> as OnStateOutage,
    }
}

record! {
    /// A project key: exactly one of `hash` and `value`.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct ProjectKeyFile {
        /// For logs.
        pub name: Option<String>,
        /// `blake3:` and 64 hexadecimal digits, as `keyway token new project` prints it.
        pub hash: Option<String>,
        /// The token itself, mostly `env.NAME`; 32 characters or more.
        pub value: Option<SecretRef>,
        /// Requests a minute; default 600.
        pub rate_limit_per_minute: Option<u64> as Whole<0, 10_000_000>,
    }
}

record! {
    /// A limit of spend in a period.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct BudgetFile {
        /// Unique name.
        pub id: Option<String>,
        /// US dollars.
        pub limit_usd: Option<f64> as Amount,
        /// Tokens, input and output.
        pub limit_tokens: Option<u64> as Whole<0, 1_000_000_000_000_000>,
        /// `day`, `week`, `month`.
        pub period: Option<String> as Period,
        /// `calendar` (UTC) or `rolling`; default calendar.
        pub window: Option<String> as Window,
    }
}

record! {
    /// USD per million tokens of one upstream model.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct PriceFile {
        /// Input.
        pub input_usd_per_mtok: Option<f64> as Amount,
        /// Input read from the provider's cache.
        pub cached_input_usd_per_mtok: Option<f64> as Amount,
        /// Input written to the provider's cache.
        pub cache_write_usd_per_mtok: Option<f64> as Amount,
        /// Output.
        pub output_usd_per_mtok: Option<f64> as Amount,
        /// Output that is reasoning, where it is priced apart.
        pub reasoning_usd_per_mtok: Option<f64> as Amount,
    }
}

record! {
    /// Where lasting state is kept.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct StateFile {
        /// Directory, relative to the config's; default .keyway.
        pub dir: Option<String>,
        /// Shared state of several gateways.
        pub redis: Option<RedisFile>,
    }
}

record! {
    /// A Redis server.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct RedisFile {
        /// `redis://[[user]:password@]host[:port][/database]`, mostly `env.NAME`.
        pub url: Option<SecretRef>,
    }
}
