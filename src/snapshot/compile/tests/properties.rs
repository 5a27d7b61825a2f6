//! Whatever stands in the file: no panic, and no value in any problem.

use proptest::prelude::*;

use super::*;

/// Told apart from everything that a message of ours could hold.
const CANARY: &str = "cAnArY0123456789";

/// Members of each object of the format, with places for values.
fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(format!("\"{CANARY}\"")),
        Just(format!("\"https://{CANARY}:x@h\"")),
        Just(format!("\"http://h:{CANARY}\"")),
        Just(format!("\"https://{CANARY}:1\"")),
        Just(format!("\"unix:/{CANARY}?mode={CANARY}\"")),
        Just(format!("\"openai/{CANARY}\"")),
        Just(format!("\"{CANARY}/x\"")),
        Just(format!("\"@{CANARY}\"")),
        Just(format!("\" {CANARY}\"")),
        Just(format!("\"{CANARY}\\n\"")),
        Just(format!("\"blake3:{CANARY}\"")),
        Just(format!("{{\"value\": \"{CANARY}\"}}")),
        Just(format!("[\"{CANARY}\", \"{CANARY}\", \"*\"]")),
        Just("\"env.LEAK\"".to_owned()),
        Just("{\"file\": \"leak\"}".to_owned()),
        Just("true".to_owned()),
        Just("0".to_owned()),
        Just("null".to_owned()),
        Just("[]".to_owned()),
        Just("{}".to_owned()),
    ]
}

/// A file in which every `?` has become some value.
fn any_file() -> impl Strategy<Value = String> {
    const FILES: [&str; 5] = [
        "{\"server\": {\"listen\": [?, ?], \"tls\": {\"cert_file\": ?, \"key_file\": ?}, \"drain_seconds\": ?, \"open_data_plane\": ?, \"limits\": {\"in_flight_max\": ?}}, \
          \"management\": {\"listen\": [?], \"keys\": [{\"name\": ?, \"value\": ?}, {\"name\": ?, \"hash\": ?}]}, \"observability\": {\"log_level\": ?}}",
        "{\"providers\": {\"openai\": {\"keys\": [{\"id\": ?, \"name\": ?, \"value\": ?, \"models\": ?, \"blacklisted_models\": [?], \"aliases\": {\"a\": ?, \"A\": {\"model_id\": ?, \"region\": ?}}, \
          \"base_url\": ?, \"created_at\": ?, \"azure_key_config\": {\"endpoint\": ?}}], \"network_config\": {\"base_url\": ?, \"ca_cert_pem\": ?, \"extra_headers\": {\"x-a\": ?}}}}}",
        "{\"providers\": {\"vllm\": {\"keys\": [{\"value\": ?, \"vllm_key_config\": {\"url\": ?, \"model_name\": ?}}]}, \"mine\": {\"custom_provider_config\": {\"base_provider_type\": ?, \"is_key_less\": ?, \
          \"allowed_requests\": {\"chat_completion\": ?}, \"request_path_overrides\": {\"embedding\": ?}}, \"network_config\": {\"base_url\": ?}}}}",
        "{\"providers\": {\"mock\": {}}, \"routes\": {\"@a\": {\"strategy\": ?, \"targets\": [?, {\"model\": ?, \"weight\": ?}]}}, \
          \"projects\": [{\"id\": ?, \"keys\": [{\"name\": ?, \"value\": ?}, {\"name\": ?, \"hash\": ?}], \"models\": [?, ?], \"on_state_outage\": ?}], \"prices\": ?, \"state\": {\"redis\": {\"url\": ?}}}",
        "{\"management\": {\"sealing_key\": ?, \"references\": {\"env\": [?], \"files\": [?]}, \"allowed_origins\": [?]}, \"state\": {\"dir\": ?}, \
          \"providers\": {\"groq\": {\"keys\": [{\"value\": ?}, {\"name\": \"s\", \"value\": {\"value\": \"sealed:v1:LEAK:x\"}}]}}}",
    ];
    prop::sample::select(&FILES[..]).prop_flat_map(|file| {
        let places = file.matches('?').count();
        prop::collection::vec(any_text(), places).prop_map(move |values| {
            let mut parts = file.split('?');
            let mut text = parts.next().unwrap_or_default().to_owned();
            for (value, part) in values.iter().zip(parts) {
                text.push_str(value);
                text.push_str(part);
            }
            text
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn problems_never_quote_a_value(text in any_file(), strict in any::<bool>()) {
        let mut world = World::new();
        world.set("LEAK", &format!("{CANARY} {CANARY}"));
        world.put("leak", CANARY);
        world.strict = strict;
        let (compiled, problems) = world.load(&text);
        prop_assert_eq!(compiled.is_some(), !problems.has_errors());
        let shown = format!("{}{}{:?}", problems.render("config.json"), problems.to_json(), problems);
        prop_assert!(!shown.to_ascii_lowercase().contains(&CANARY.to_ascii_lowercase()), "{}\n{}", text, shown);
        if let Some(compiled) = compiled {
            // What was resolved from outside is nowhere in the debug form either.
            let shown = format!("{:?}", compiled.snapshot.providers);
            let leaked = shown.contains(&format!("{CANARY} {CANARY}"));
            prop_assert!(!leaked, "{}", text);
        }
        for problem in &problems.0 {
            prop_assert!(problem.line > 0 && problem.column > 0, "{:?}", problem);
        }
    }
}
