//! Every rule about providers, keys and routes, and the one problem that breaking it gives.

use super::*;

fn keyed(rows: &[(&str, &'static [&'static str])]) -> Vec<(String, &'static [&'static str])> {
    rows.iter().map(|(members, problems)| (openai_key(members), *problems)).collect()
}

#[test]
fn providers() {
    let custom = |name: &str, members: &str, config: &str| {
        provider(name, &format!("\"custom_provider_config\": {{{config}}}{members}"))
    };
    let address = ", \"keys\": [], \"network_config\": {\"base_url\": \"http://127.0.0.1:1\"}";
    check(&[
        (provider("opanai", ""), &["E unknown_reference /providers/opanai", "W suspicious /providers/opanai"]),
        (provider("OpenAI", ""), &["E unknown_reference /providers/OpenAI", "W suspicious /providers/OpenAI"]),
        (provider("mine", "\"keys\": []"), &["E unknown_reference /providers/mine", "W suspicious /providers/mine"]),
        (provider("a/b", ""), &["E bad_value /providers/a~1b"]),
        (provider("", ""), &["E bad_value /providers/"]),
        (provider("@x", ""), &["E bad_value /providers/@x"]),
        (
            custom("openai", address, "\"base_provider_type\": \"openai\""),
            &["W suspicious /providers/openai", "E conflict /providers/openai/custom_provider_config"],
        ),
        (
            custom("Groq", address, "\"base_provider_type\": \"openai\""),
            &["W suspicious /providers/Groq", "E conflict /providers/Groq/custom_provider_config"],
        ),
        (
            custom("mine", address, ""),
            &["W suspicious /providers/mine", "E missing_member /providers/mine/custom_provider_config/base_provider_type"],
        ),
        (
            custom("mine", address, "\"base_provider_type\": \"opena\""),
            &["W suspicious /providers/mine", "E unknown_reference /providers/mine/custom_provider_config/base_provider_type"],
        ),
        (
            custom("mine", address, "\"base_provider_type\": \"mock\""),
            &["W suspicious /providers/mine", "E unknown_reference /providers/mine/custom_provider_config/base_provider_type"],
        ),
        (
            custom("mine", ", \"network_config\": {\"base_url\": \"http://h\"}", "\"base_provider_type\": \"bedrock\", \"is_key_less\": true"),
            &["E conflict /providers/mine/custom_provider_config/is_key_less"],
        ),
        (
            custom("mine", "", "\"base_provider_type\": \"openai\", \"is_key_less\": true"),
            &["E missing_member /providers/mine/network_config/base_url"],
        ),
        (
            custom("mine", ", \"keys\": [{\"value\": \"env.KEY\"}, {\"name\": \"b\", \"value\": \"env.KEY\"}]", "\"base_provider_type\": \"openai\""),
            &["E missing_member /providers/mine/network_config/base_url"],
        ),
        (
            custom(
                "mine",
                ", \"keys\": [{\"value\": \"env.KEY\"}], \"network_config\": {\"base_url\": \"http://h\"}",
                "\"base_provider_type\": \"openai\", \"is_key_less\": true",
            ),
            &["E conflict /providers/mine/keys"],
        ),
        (provider("mock", "\"keys\": [{\"value\": \"env.KEY\"}]"), &["E conflict /providers/mock/keys"]),
        (
            provider("mock", "\"network_config\": {\"base_url\": \"http://127.0.0.1:1\"}"),
            &["E conflict /providers/mock/network_config/base_url"],
        ),
        (
            "{\"providers\": {\"groq\": {\"keys\": [{\"value\": \"env.KEY\"}]}, \"GROQ\": {\"keys\": [{\"value\": \"env.KEY\"}]}}}".to_owned(),
            &["E duplicate /providers/GROQ", "E unknown_reference /providers/GROQ"],
        ),
        (provider("openai", ""), &["W suspicious /providers/openai"]),
        (provider("openai", "\"keys\": []"), &["W suspicious /providers/openai"]),
        (provider("vllm", "\"keys\": [{}]"), &["E missing_member /providers/vllm/network_config/base_url"]),
    ]);
}

#[test]
fn requests_of_a_custom_provider() {
    let custom = |config: &str| {
        provider(
            "mine",
            &format!(
                "\"custom_provider_config\": {{\"base_provider_type\": \"openai\", \"is_key_less\": true, {config}}}, \
                 \"network_config\": {{\"base_url\": \"http://127.0.0.1:1\"}}"
            ),
        )
    };
    let at = "/providers/mine/custom_provider_config";
    let world = World::new();
    for (config, expected) in [
        ("\"allowed_requests\": {\"chat\": true}", "E unknown_member {at}/allowed_requests/chat"),
        (
            "\"allowed_requests\": {\"chat_complation\": false}",
            "E unknown_member {at}/allowed_requests/chat_complation",
        ),
        ("\"allowed_requests\": {\"ocr\": true}", "E not_supported_yet {at}/allowed_requests/ocr"),
        ("\"request_path_overrides\": {\"chat\": \"/x\"}", "E unknown_member {at}/request_path_overrides/chat"),
        ("\"request_path_overrides\": {\"files\": \"/x\"}", "E unknown_member {at}/request_path_overrides/files"),
        ("\"request_path_overrides\": {\"embedding\": \"x\"}", "E bad_value {at}/request_path_overrides/embedding"),
        (
            "\"request_path_overrides\": {\"embedding\": \"/a/../b\"}",
            "E bad_value {at}/request_path_overrides/embedding",
        ),
        ("\"request_path_overrides\": {\"embedding\": \"/a?b\"}", "E bad_value {at}/request_path_overrides/embedding"),
        ("\"request_path_overrides\": {\"embedding\": \"/a b\"}", "E bad_value {at}/request_path_overrides/embedding"),
        (
            "\"request_path_overrides\": {\"embedding\": \"https://elsewhere.example/e\"}",
            "E not_supported_yet {at}/request_path_overrides/embedding",
        ),
        (
            "\"request_path_overrides\": {\"chat_completion\": \"/a\", \"chat_completion_stream\": \"/b\"}",
            "E conflict {at}/request_path_overrides/chat_completion_stream",
        ),
    ] {
        assert_eq!(world.problems(&custom(config)), [expected.replace("{at}", at)], "{config}");
    }
}

#[test]
fn names_and_ids_of_keys() {
    let keys = |list: &str| provider("openai", &format!("\"keys\": [{list}]"));
    check(&[
        (keys("{\"value\": \"env.KEY\"}, {\"value\": \"env.KEY\"}"), &["E duplicate /providers/openai/keys/1", "E duplicate /providers/openai/keys/1"]),
        (
            keys("{\"name\": \"a\", \"value\": \"env.KEY\"}, {\"name\": \"a\", \"id\": \"x\", \"value\": \"env.KEY\"}"),
            &["E duplicate /providers/openai/keys/1/name"],
        ),
        (keys("{\"name\": \"\", \"value\": \"env.KEY\"}"), &["E bad_value /providers/openai/keys/0/name"]),
        (keys("{\"name\": \"a\\nb\", \"value\": \"env.KEY\"}"), &["E bad_value /providers/openai/keys/0/name"]),
        (keys("{\"name\": \" a\", \"value\": \"env.KEY\"}"), &["E bad_value /providers/openai/keys/0/name"]),
        (keys("{\"id\": \"\", \"value\": \"env.KEY\"}"), &["E bad_value /providers/openai/keys/0/id"]),
        (keys("{\"id\": \"a/b\", \"value\": \"env.KEY\"}"), &["E bad_value /providers/openai/keys/0/id"]),
        (keys("{\"id\": \"é\", \"value\": \"env.KEY\"}"), &["E bad_value /providers/openai/keys/0/id"]),
        (
            "{\"providers\": {\"openai\": {\"keys\": [{\"id\": \"x\", \"value\": \"env.KEY\"}]}, \"groq\": {\"keys\": [{\"id\": \"x\", \"value\": \"env.KEY\"}]}}}".to_owned(),
            &["E duplicate /providers/groq/keys/0/id"],
        ),
        (keys("{}"), &["E missing_member /providers/openai/keys/0/value"]),
        (keys("{\"value\": \"\"}"), &["E missing_member /providers/openai/keys/0/value"]),
        (keys("{\"value\": \"sk 1\"}"), &["E bad_value /providers/openai/keys/0/value"]),
        (keys("{\"value\": \"sk-1 \"}"), &["E bad_value /providers/openai/keys/0/value"]),
        (keys("{\"value\": \"clé\"}"), &["E bad_value /providers/openai/keys/0/value"]),
        // What the reader says of a value is not said again as "missing".
        (keys("{\"value\": 1}"), &["E wrong_type /providers/openai/keys/0/value"]),
        (keys("{\"value\": {\"env_var\": 1}}"), &["E wrong_type /providers/openai/keys/0/value/env_var"]),
        (keys("{\"value\": \"********\"}"), &["E bad_value /providers/openai/keys/0/value"]),
    ]);
}

#[test]
fn members_of_a_key() {
    const AT: &str = "/providers/openai/keys/0";
    let mut table = keyed(&[
        ("\"models\": []", &["W suspicious /providers/openai/keys/0/models"]),
        ("\"models\": [\"*\", \"gpt-4o\"]", &["E conflict /providers/openai/keys/0/models/0"]),
        ("\"models\": [\"gpt-4o\", \"GPT-4o\"]", &["E duplicate /providers/openai/keys/0/models/1"]),
        ("\"models\": [\"\"]", &["E bad_value /providers/openai/keys/0/models/0"]),
        ("\"models\": [\" a\"]", &["E bad_value /providers/openai/keys/0/models/0"]),
        ("\"models\": [\"gpt-*\"]", &["E bad_value /providers/openai/keys/0/models/0"]),
        ("\"models\": [\"openai/gpt-4o\"]", &["W suspicious /providers/openai/keys/0/models/0"]),
        ("\"blacklisted_models\": [\"*\"]", &["W suspicious /providers/openai/keys/0/blacklisted_models"]),
        ("\"blacklisted_models\": [\"a\", \"*\"]", &["E conflict /providers/openai/keys/0/blacklisted_models/1"]),
        ("\"blacklisted_models\": [\"a\", \"A\"]", &["E duplicate /providers/openai/keys/0/blacklisted_models/1"]),
        ("\"aliases\": {\"\": \"a\"}", &["E bad_value /providers/openai/keys/0/aliases/"]),
        ("\"aliases\": {\" a\": \"a\"}", &["E bad_value /providers/openai/keys/0/aliases/ a"]),
        ("\"aliases\": {\"a\": \"\"}", &["E bad_value /providers/openai/keys/0/aliases/a"]),
        ("\"aliases\": {\"a\": \"b \"}", &["E bad_value /providers/openai/keys/0/aliases/a"]),
        ("\"aliases\": {\"a\": \"b\", \"A\": \"c\"}", &["E duplicate /providers/openai/keys/0/aliases/A"]),
        (
            "\"aliases\": {\"a\": {\"model_id\": \"b\", \"region\": \"x\"}}",
            &["E conflict /providers/openai/keys/0/aliases/a/region"],
        ),
        (
            "\"models\": [\"gpt-4o\"], \"aliases\": {\"fast\": \"gpt-4o\"}",
            &["W suspicious /providers/openai/keys/0/aliases/fast"],
        ),
        (
            "\"use_anthropic_endpoints\": true",
            &["E not_supported_yet /providers/openai/keys/0/use_anthropic_endpoints"],
        ),
        ("\"created_at\": \"yesterday\"", &["E bad_value /providers/openai/keys/0/created_at"]),
        ("\"updated_at\": \"2026-13-01T00:00:00Z\"", &["E bad_value /providers/openai/keys/0/updated_at"]),
        ("\"base_url\": \"ftp://h\"", &["E bad_value /providers/openai/keys/0/base_url"]),
        ("\"base_url\": \"https://user:pw@h\"", &["E bad_value /providers/openai/keys/0/base_url"]),
        ("\"base_url\": \"https://h/v1?x=1\"", &["E bad_value /providers/openai/keys/0/base_url"]),
        ("\"base_url\": \"env.BAD\"", &["W bad_value /providers/openai/keys/0/base_url"]),
        ("\"base_url\": \"env.NOPE\"", &["W unresolved /providers/openai/keys/0/base_url"]),
    ]);
    let configs = ["azure", "vertex", "bedrock", "replicate", "vllm", "ollama", "sgl"];
    let wrong: Vec<String> = configs.iter().map(|name| format!("E conflict {AT}/{name}_key_config")).collect();
    let wrong: Vec<[&str; 1]> = wrong.iter().map(|line| [line.as_str()]).collect();
    for (name, line) in configs.iter().zip(&wrong) {
        table.push((openai_key(&format!("\"{name}_key_config\": {{}}")), line));
    }
    check(&table);
    check(&[
        (
            provider("vllm", "\"keys\": [{\"base_url\": \"http://a\", \"vllm_key_config\": {\"url\": \"http://b\"}}]"),
            &["E conflict /providers/vllm/keys/0/base_url"],
        ),
        (
            provider("vllm", "\"keys\": [{\"vllm_key_config\": {\"url\": \"http://b\", \"model_name\": \" x\"}}]"),
            &["E bad_value /providers/vllm/keys/0/vllm_key_config/model_name"],
        ),
        (
            provider("vllm", "\"keys\": [{\"vllm_key_config\": {\"url\": \"b\"}}]"),
            &["E bad_value /providers/vllm/keys/0/vllm_key_config/url"],
        ),
        (
            provider("vllm", "\"keys\": [{\"ollama_key_config\": {\"url\": \"http://b\"}}]"),
            &["E conflict /providers/vllm/keys/0/ollama_key_config"],
        ),
    ]);
}

#[test]
fn network() {
    let table = [
        ("\"base_url\": \"h\"", "E bad_value base_url"),
        ("\"base_url\": \"env.NOPE\"", "W unresolved base_url"),
        ("\"connect_timeout_in_seconds\": \"10m\"", "E bad_value connect_timeout_in_seconds"),
        ("\"connect_timeout_in_seconds\": 0", "E bad_value connect_timeout_in_seconds"),
        ("\"default_request_timeout_in_seconds\": \"24h1s\"", "E bad_value default_request_timeout_in_seconds"),
        ("\"stream_idle_timeout_in_seconds\": 3601", "E bad_value stream_idle_timeout_in_seconds"),
        ("\"keep_alive_timeout_in_seconds\": 3601", "E bad_value keep_alive_timeout_in_seconds"),
        ("\"retry_backoff_initial\": 500, \"retry_backoff_max\": 100", "E conflict retry_backoff_initial"),
        ("\"ca_cert_pem\": \"no pem\"", "E bad_value ca_cert_pem"),
        ("\"ca_cert_pem\": {\"file\": \"ca.pem\"}", "W unresolved ca_cert_pem"),
        ("\"extra_headers\": {\"a b\": \"x\"}", "E bad_value extra_headers/a b"),
        ("\"extra_headers\": {\"x-a\": \"x\\n\"}", "E bad_value extra_headers/x-a"),
        ("\"extra_headers\": {\"x-a\": \"1\", \"X-A\": \"2\"}", "E duplicate extra_headers/X-A"),
        ("\"extra_headers\": {\"Host\": \"x\"}", "E conflict extra_headers/Host"),
        ("\"extra_headers\": {\"keep-alive\": \"x\"}", "E conflict extra_headers/keep-alive"),
        ("\"extra_headers\": {\"Authorization\": \"Bearer x\"}", "E conflict extra_headers/Authorization"),
        ("\"extra_headers\": {\"x-a\": \"env.NOPE\"}", "W unresolved extra_headers/x-a"),
        ("\"max_retries\": 101", "E bad_value max_retries"),
        ("\"retry_backoff_initial\": \"61s\"", "E bad_value retry_backoff_initial"),
        ("\"retry_backoff_max\": \"61s\"", "E bad_value retry_backoff_max"),
        ("\"beta_header_overrides\": {\"a,b\": true}", "E bad_value beta_header_overrides/a,b"),
        ("\"beta_header_overrides\": {\"\": true}", "E bad_value beta_header_overrides/"),
        (
            "\"stream_throughput_guard\": {\"minimum_output_characters_per_second\": 1}",
            "E not_supported_yet stream_throughput_guard",
        ),
    ];
    let world = World::new();
    for (members, expected) in table {
        let text =
            provider("groq", &format!("\"keys\": [{{\"value\": \"env.KEY\"}}], \"network_config\": {{{members}}}"));
        let (head, member) =
            expected.rsplit_once(' ').filter(|(h, _)| h.split(' ').count() == 2).unwrap_or_else(|| {
                let at = expected.match_indices(' ').nth(1).expect("two blanks").0;
                (&expected[..at], &expected[at + 1..])
            });
        let expected = format!("{head} /providers/groq/network_config/{member}");
        assert_eq!(world.problems(&text), [expected], "{text}");
    }
    let both = provider(
        "groq",
        "\"keys\": [{\"value\": \"env.KEY\"}], \"network_config\": {\"insecure_skip_verify\": true, \"ca_cert_pem\": \"no pem\"}",
    );
    assert!(world.problems(&both).contains(&"E conflict /providers/groq/network_config/ca_cert_pem".to_owned()));
    let made = rcgen::generate_simple_self_signed(vec!["ca.example".to_owned()]).expect("a certificate");
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    for (pem, expected) in
        [(certificate.clone(), 0), (format!("{key}{certificate}"), 1), (format!("{certificate}{key}"), 1)]
    {
        let members = serde_json::json!({"keys": [{"value": "env.KEY"}], "network_config": {"ca_cert_pem": pem}});
        let text = serde_json::json!({"providers": {"groq": members}}).to_string();
        let problems = world.problems(&text);
        assert_eq!(problems.len(), expected, "{problems:?}");
    }
}

#[test]
fn proxies() {
    let proxy = |members: &str| {
        provider("openai", &format!("\"keys\": [{{\"value\": \"env.KEY\"}}], \"proxy_config\": {{{members}}}"))
    };
    let http = |rest: &str| proxy(&format!("\"type\": \"http\", \"url\": \"http://proxy:3128\"{rest}"));
    check(&[
        (proxy(""), &[]),
        (proxy("\"type\": \"none\", \"url\": \"nonsense\""), &[]),
        (http(""), &[]),
        (http(", \"username\": \"u\", \"password\": \"env.KEY\""), &[]),
        (proxy("\"url\": \"http://proxy\""), &["E missing_member /providers/openai/proxy_config/type"]),
        (proxy("\"type\": \"http\""), &["E missing_member /providers/openai/proxy_config/url"]),
        (proxy("\"type\": \"socks5\", \"url\": \"socks5://proxy\""), &[]),
        (proxy("\"type\": \"socks5\", \"url\": \"http://proxy\""), &["E bad_value /providers/openai/proxy_config/url"]),
        (proxy("\"type\": \"http\", \"url\": \"socks5://proxy\""), &["E bad_value /providers/openai/proxy_config/url"]),
        (
            proxy("\"type\": \"http\", \"url\": \"http://u:p@proxy\""),
            &["E bad_value /providers/openai/proxy_config/url"],
        ),
        (proxy("\"type\": \"http\", \"url\": \"env.NOPE\""), &["W unresolved /providers/openai/proxy_config/url"]),
        (http(", \"password\": \"env.KEY\""), &["E missing_member /providers/openai/proxy_config/username"]),
        (http(", \"username\": \"a\\nb\""), &["E bad_value /providers/openai/proxy_config/username"]),
        (
            http(", \"ca_cert_pem\": \"env.NOPE\""),
            &[
                "E conflict /providers/openai/proxy_config/ca_cert_pem",
                "W unresolved /providers/openai/proxy_config/ca_cert_pem",
            ],
        ),
        (proxy("\"type\": \"environment\""), &[]),
        (
            proxy("\"type\": \"environment\", \"url\": \"http://proxy\""),
            &["E conflict /providers/openai/proxy_config/url"],
        ),
    ]);
}

#[test]
fn not_there_yet() {
    let all = |members: &str| provider("openai", &format!("\"keys\": [{{\"value\": \"env.KEY\"}}], {members}"));
    check(&[
        (
            all("\"concurrency_and_buffer_size\": {\"concurrency\": 1}"),
            &["E not_supported_yet /providers/openai/concurrency_and_buffer_size"],
        ),
        (all("\"openai_config\": {\"disable_store\": true}"), &["E not_supported_yet /providers/openai/openai_config"]),
        (all("\"openai_config\": {\"disable_store\": false}"), &[]),
        (all("\"send_back_raw_request\": true"), &["E not_supported_yet /providers/openai/send_back_raw_request"]),
        (all("\"send_back_raw_response\": true"), &["E not_supported_yet /providers/openai/send_back_raw_response"]),
        (
            all("\"store_raw_request_response\": true"),
            &["E not_supported_yet /providers/openai/store_raw_request_response"],
        ),
        (
            all("\"send_back_raw_request\": false, \"network_config\": {\"max_retries\": 0, \"enforce_http2\": false}"),
            &[],
        ),
    ]);
    let sealed = openai_key("\"base_url\": \"https://h\"").replace("env.KEY", "sealed:v1:k:xyz");
    check(&[(sealed, &["W unresolved /providers/openai/keys/0/value"])]);
    check(&own(&[
        ("{\"prices\": {\"m\": {\"input_usd_per_mtok\": 1}}}", &[]),
        ("{\"prices\": {\"m\": {\"cached_input_usd_per_mtok\": 1}}}", &["E missing_member /prices/m"]),
        ("{\"prices\": {\"gpt-*\": {\"input_usd_per_mtok\": 1}}}", &["E bad_value /prices/gpt-*"]),
        ("{\"prices\": {\"nobody/*\": {\"input_usd_per_mtok\": 0}}}", &["W unknown_reference /prices/nobody~1*"]),
        (
            "{\"prices\": {\"m\": {\"input_usd_per_mtok\": 1}, \"M\": {\"input_usd_per_mtok\": 1}}}",
            &["E duplicate /prices/M"],
        ),
        ("{\"prices\": {}}", &[]),
        ("{\"state\": {\"dir\": \"x\"}}", &[]),
        ("{\"state\": {\"redis\": {\"url\": \"env.REDIS_URL\"}}}", &["W unresolved /state/redis/url"]),
        ("{\"state\": {\"redis\": {}}}", &["E missing_member /state/redis/url"]),
        ("{\"state\": {\"redis\": {\"url\": \"rediss://h\"}}}", &["E bad_value /state/redis/url"]),
        (
            "{\"observability\": {\"otlp_endpoint\": \"http://h\"}}",
            &["E not_supported_yet /observability/otlp_endpoint"],
        ),
        ("{\"observability\": {\"otlp_endpoint\": null}}", &[]),
        ("{\"management\": {\"locked\": true}}", &[]),
        ("{\"management\": {\"locked\": false}}", &[]),
        ("{\"management\": {\"rate_limit_per_minute\": 60}}", &[]),
        (
            "{\"routes\": {\"@r\": {\"strategy\": \"latency\", \"targets\": [\"mock/m\"]}}, \"providers\": {\"mock\": {}}}",
            &["E not_supported_yet /routes/@r/strategy"],
        ),
        (
            "{\"projects\": [{\"id\": \"p\", \"keys\": [{\"name\": \"k\", \"value\": \"env.TOKEN\", \"rate_limit_per_minute\": 1}]}]}",
            &[],
        ),
        (
            "{\"projects\": [{\"id\": \"p\", \"keys\": [{\"name\": \"k\", \"value\": \"env.TOKEN\"}], \"budgets\": [{\"id\": \"b\"}]}]}",
            &["E missing_member /projects/0/budgets/0/limit_usd", "E missing_member /projects/0/budgets/0/period"],
        ),
        (
            "{\"projects\": [{\"id\": \"p\", \"keys\": [{\"name\": \"k\", \"value\": \"env.TOKEN\"}], \"on_state_outage\": \"open\"}]}",
            &[],
        ),
    ]));
}

#[test]
fn routes() {
    let rows: [(&str, &[&str]); 13] = [
        ("\"@r\": {\"targets\": [\"mock/m\"]}", &[]),
        ("\"r\": {\"targets\": [\"mock/m\"]}", &["E bad_value /routes/r"]),
        ("\"@\": {\"targets\": [\"mock/m\"]}", &["E bad_value /routes/@"]),
        ("\"@a/b\": {\"targets\": [\"mock/m\"]}", &["E bad_value /routes/@a~1b"]),
        ("\"@r\": {}", &["E missing_member /routes/@r/targets"]),
        ("\"@r\": {\"targets\": []}", &["E missing_member /routes/@r/targets"]),
        ("\"@r\": {\"targets\": [\"@s\"]}", &["E conflict /routes/@r/targets/0"]),
        ("\"@r\": {\"targets\": [\"m\"]}", &["E bad_value /routes/@r/targets/0"]),
        ("\"@r\": {\"targets\": [\"mock/\"]}", &["E bad_value /routes/@r/targets/0"]),
        ("\"@r\": {\"targets\": [\"mock/m\", \"mok/m\"]}", &["E unknown_reference /routes/@r/targets/1"]),
        ("\"@r\": {\"targets\": [{\"model\": \"Mock/m\"}]}", &["E unknown_reference /routes/@r/targets/0"]),
        ("\"@r\": {\"targets\": [\"groq/b\"]}", &["W suspicious /routes/@r/targets/0"]),
        ("\"@r\": {\"targets\": [\"groq/A\"]}", &[]),
    ];
    let world = World::new();
    for (routes, expected) in rows {
        let text = format!(
            "{{\"providers\": {{\"mock\": {{}}, \"groq\": {{\"keys\": [{{\"value\": \"env.KEY\", \"models\": [\"a\"]}}]}}}}, \"routes\": {{{routes}}}}}"
        );
        assert_eq!(world.problems(&text), expected, "{text}");
    }
    let many = vec!["\"mock/m\""; crate::limits::ROUTE_TARGETS_MAX + 1].join(",");
    let text = format!("{{\"providers\": {{\"mock\": {{}}}}, \"routes\": {{\"@r\": {{\"targets\": [{many}]}}}}}}");
    assert_eq!(world.problems(&text), ["E bad_value /routes/@r/targets"]);
    // A provider that could not be read is not unknown.
    let text = "{\"providers\": {\"mock\": 1}, \"routes\": {\"@r\": {\"targets\": [\"mock/m\"]}}}";
    assert_eq!(world.problems(text), ["E wrong_type /providers/mock"]);
}

#[test]
fn a_list_with_an_unreadable_item_is_not_misnumbered() {
    let bad = "{\"name\": \"\", \"value\": \"env.KEY\"}";
    let text = provider("openai", &format!("\"keys\": [{bad}, 1, {bad}]"));
    assert_eq!(
        World::new().problems(&text),
        ["E bad_value /providers/openai/keys/0/name", "E wrong_type /providers/openai/keys/1"]
    );
}

#[test]
fn everything_at_once_and_in_order() {
    let text = "{\n  \"server\": {\"listen\": [\"nowhere\"]},\n  \"providers\": {\n    \"opanai\": {\"keys\": [{\"value\": \"env.KEY\", \"wieght\": 1}]},\n    \"groq\": {\"keys\": [{\"value\": \"env.NOPE\"}]}\n  },\n  \"routes\": {\"@r\": {\"targets\": [\"grok/x\"]}}\n}";
    let (compiled, problems) = World::new().load(text);
    assert!(compiled.is_none());
    let found: Vec<_> =
        problems.0.iter().map(|p| (p.line, p.code.as_str(), p.hint.as_deref().unwrap_or_default())).collect();
    assert_eq!(
        found,
        [
            (2, "bad_value", "`127.0.0.1:8080`, `https://0.0.0.0:8443` or `unix:/run/keyway.sock?mode=0660`"),
            (4, "unknown_reference", "did you mean `openai`?"),
            (4, "unknown_member", "did you mean `weight`?"),
            (5, "unresolved", "set it and restart, or refer to a file, which is watched"),
            (7, "unknown_reference", "did you mean `groq`?"),
        ]
    );
}

#[test]
fn strict_makes_errors_of_what_does_not_resolve() {
    let mut world = World::new();
    let text = provider("openai", "\"keys\": [{\"value\": \"env.NOPE\", \"base_url\": \"env.BAD\"}]");
    assert_eq!(
        world.problems(&text),
        ["W unresolved /providers/openai/keys/0/value", "W bad_value /providers/openai/keys/0/base_url"]
    );
    world.strict = true;
    assert_eq!(
        world.problems(&text),
        ["E unresolved /providers/openai/keys/0/value", "E bad_value /providers/openai/keys/0/base_url"]
    );
}
