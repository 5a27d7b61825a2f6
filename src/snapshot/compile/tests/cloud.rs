//! Keys of the large clouds: where they go, what makes two of them the same, what is not looked up.

use super::*;
use crate::provider::credential::Source;
use crate::provider::{Place, UpstreamAuth};
use crate::snapshot::Ready;

fn ready(world: &World, provider: &str, config: &str) -> Ready {
    let text = format!(
        "{{\"providers\": {{\"{provider}\": {{\"keys\": [{{\"name\": \"k\", \"{provider}_key_config\": {config}}}]}}}}}}"
    );
    let snapshot = world.snapshot(&text);
    key(&snapshot, provider, "k").ready.clone().expect("ready")
}

fn url(ready: &Ready) -> String {
    format!("{}://{}{}", ready.transport.scheme, ready.transport.authority, ready.base_path)
}

#[test]
fn addresses() {
    let openapi =
        |host: &str, region: &str| format!("https://{host}/v1/projects/acme/locations/{region}/endpoints/openapi");
    for (provider, config, expected) in [
        (
            "azure",
            r#"{"endpoint": "https://acme.openai.azure.com"}"#,
            "https://acme.openai.azure.com/openai/v1".to_owned(),
        ),
        (
            "azure",
            r#"{"endpoint": "https://acme.openai.azure.com/openai/"}"#,
            "https://acme.openai.azure.com/openai/v1".to_owned(),
        ),
        (
            "azure",
            r#"{"endpoint": "https://acme.services.ai.azure.com/api/projects/p/openai/v1"}"#,
            "https://acme.services.ai.azure.com/api/projects/p/openai/v1".to_owned(),
        ),
        (
            "bedrock",
            r#"{"region": "eu-west-1"}"#,
            "https://bedrock-runtime.eu-west-1.amazonaws.com/openai/v1".to_owned(),
        ),
        (
            "bedrock",
            r#"{"region": "cn-north-1"}"#,
            "https://bedrock-runtime.cn-north-1.amazonaws.com.cn/openai/v1".to_owned(),
        ),
        ("bedrock", "{}", "https://bedrock-runtime.us-east-1.amazonaws.com/openai/v1".to_owned()),
        ("vertex", r#"{"region": "global", "project_id": "acme"}"#, openapi("aiplatform.googleapis.com", "global")),
        ("vertex", r#"{"region": "eu", "project_id": "acme"}"#, openapi("aiplatform.eu.rep.googleapis.com", "eu")),
        (
            "vertex",
            r#"{"region": "europe-west4", "project_id": "acme"}"#,
            openapi("europe-west4-aiplatform.googleapis.com", "europe-west4"),
        ),
    ] {
        assert_eq!(url(&ready(&World::new(), provider, config)), expected, "{config}");
    }
}

#[test]
fn places() {
    let world = World::new();
    let place = |provider: &str, config: &str| ready(&world, provider, config).place;
    let azure = |version: &str| place("azure", &format!(r#"{{"endpoint": "https://a.openai.azure.com"{version}}}"#));
    assert_eq!(azure(""), Place::Plain);
    assert_eq!(azure(r#", "api_version": "v1""#), Place::Plain);
    assert_eq!(azure(r#", "api_version": "preview""#), Place::Versioned { api_version: "preview".into() });
    assert_eq!(azure(r#", "api_version": "2024-10-21""#), Place::Deployments { api_version: "2024-10-21".into() });
    let arn = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile";
    assert_eq!(place("bedrock", &format!(r#"{{"arn": "{arn}/"}}"#)), Place::Profile { arn: arn.into() });
    let Place::Project(project) = place("vertex", r#"{"region": "us", "project_id": "acme", "project_number": "123"}"#)
    else {
        panic!("a project");
    };
    assert_eq!((&*project.id, project.number.as_deref(), &*project.location), ("acme", Some("123"), "us"));
}

/// What tells two credentials apart, each as a change of one member; everything else leaves them one.
#[test]
fn fingerprints() {
    let mut world = World::new();
    world.set("OTHER", "another-secret");
    let print = |provider: &str, config: &str| {
        let ready = ready(&world, provider, config);
        ready.auth.credential().expect("a credential").fingerprint
    };
    let azure =
        r#"{"endpoint": "https://a.openai.azure.com", "tenant_id": "t", "client_id": "c", "client_secret": "env.KEY"}"#;
    let aws = r#"{"region": "us-east-1", "access_key": "AKIDEXAMPLE", "secret_key": "env.KEY", "role_arn": "arn:aws:iam::123456789012:role/a"}"#;
    for (provider, base, same, others) in [
        (
            "azure",
            azure,
            (r#""https://a.openai"#, r#""https://b.openai"#),
            &[
                (r#""t""#, r#""u""#),
                (r#""c""#, r#""d""#),
                ("env.KEY", "env.OTHER"),
                (r#""c","#, r#""c", "scopes": ["x"],"#),
                ("azure.com", "azure.us"),
            ][..],
        ),
        (
            "bedrock",
            aws,
            ("us-east-1", "us-east-1"),
            &[
                ("us-east-1", "us-west-2"),
                ("AKIDEXAMPLE", "AKIDOTHER"),
                ("env.KEY", "env.OTHER"),
                ("role/a", "role/b"),
                (r#"role/a""#, r#"role/a", "external_id": "xx""#),
            ],
        ),
    ] {
        assert_eq!(print(provider, base), print(provider, &base.replace(same.0, same.1)), "{provider}");
        for (from, to) in others {
            let changed = base.replace(from, to);
            assert_ne!(changed, base);
            assert_ne!(print(provider, base), print(provider, &changed), "{to}");
        }
    }
}

#[test]
fn what_goes_first() {
    let world = World::new();
    let snapshot = world.snapshot(
        r#"{"providers": {
            "azure": {"keys": [{"value": "env.KEY", "azure_key_config": {"endpoint": "https://evil.example", "client_id": "c"}}]},
            "bedrock": {"keys": [{"value": "env.KEY"}]}}}"#,
    );
    for (provider, header, shown) in
        [("azure", "api-key", "sk-resolved-0123456789"), ("bedrock", "authorization", "Bearer sk-resolved-0123456789")]
    {
        let ready = key(&snapshot, provider, "default").ready.as_ref().expect("ready");
        let UpstreamAuth::Header { name, value } = &ready.auth else { panic!("a header") };
        assert_eq!((name.as_str(), value.to_str().unwrap()), (header, shown));
    }
    let ambient = ready(&world, "bedrock", r#"{"region": "us-east-1"}"#);
    let Some(Source::Aws(aws)) = ambient.auth.credential().map(|it| &it.source) else { panic!("of AWS") };
    assert!(matches!(aws.keys, crate::provider::credential::AwsSource::Ambient) && aws.role.is_none());
}

/// A secret that leads nowhere: the key waits for it, and the rest of the config stands.
#[test]
fn secrets_that_are_missing() {
    let text = r#"{"providers": {
        "azure": {"keys": [{"azure_key_config": {"endpoint": "https://a.openai.azure.com", "tenant_id": "t", "client_id": "c", "client_secret": "env.NOPE"}}]},
        "bedrock": {"keys": [{"bedrock_key_config": {"region": "us-east-1", "access_key": "env.NOPE", "secret_key": "env.KEY"}}]},
        "vertex": {"keys": [{"vertex_key_config": {"region": "us", "project_id": "p", "auth_credentials": {"file": "nope.json"}}}]}}}"#;
    let snapshot = World::new().snapshot(text);
    for provider in ["azure", "bedrock", "vertex"] {
        assert!(key(&snapshot, provider, "default").ready.is_err(), "{provider}");
    }
}
