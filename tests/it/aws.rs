//! Bedrock from outside: where keys come from, and that what is signed is what botocore would sign.
//! The mock recomputes every signature from the raw request.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use http::Method;
use serde_json::{Value, json};

use crate::support::client::{self, Reply, request, send};
use crate::support::gateway::{Gateway, Launch, Mock, launch};
use crate::support::upstream::{Answer, Seen, Upstream};

const ROLE: &str = "arn:aws:iam::123456789012:role/app";

fn config(base: &str, keys: &[Value]) -> String {
    json!({
        "server": {"listen": ["127.0.0.1:0"]},
        "observability": {"access_log": false},
        "providers": {"bedrock": {"keys": keys, "network_config": {"base_url": base}}},
    })
    .to_string()
}

fn key(config: Value) -> Value {
    let mut key = json!({"name": "one", "bedrock_key_config": {"region": "eu-west-1"}});
    let members = key["bedrock_key_config"].as_object_mut().unwrap();
    members.extend(config.as_object().unwrap().clone());
    key
}

fn fixed(id: &str) -> Value {
    json!({"access_key": id, "secret_key": format!("secret-of-{id}")})
}

async fn ask(gateway: &Gateway, path: &str, body: &str) -> Reply {
    // The caller's own, none of which may come through.
    let headers = [
        ("content-type", "application/json"),
        ("authorization", "Bearer sk-of-the-caller"),
        ("x-amz-security-token", "of-the-caller"),
        ("x-amz-date", "20200101T000000Z"),
    ];
    send(request(Method::POST, &gateway.url(path), &headers, body.to_owned())).await
}

async fn chat(gateway: &Gateway) -> Reply {
    let body = r#"{"model":"bedrock/openai.gpt-oss-20b-1:0","messages":[{"role":"user","content":"hi"}]}"#;
    ask(gateway, "/v1/chat/completions", body).await
}

/// Who signed the requests for models that the mock saw, oldest first.
async fn signers(mock: &Mock) -> Vec<String> {
    let all = client::get(&format!("{}/__mock/requests", mock.base())).await.json();
    let seen = all["requests"].as_array().unwrap().iter();
    let calls = seen.filter(|seen| seen["path"] == "/openai/v1/chat/completions");
    calls.map(|seen| seen["key"].as_str().unwrap_or_default().to_owned()).collect()
}

#[tokio::test]
async fn keys_of_the_config() {
    let mock = Mock::start();
    let token =
        json!({"access_key": "ASIATEMP", "secret_key": "secret-of-ASIATEMP", "session_token": "token-of-ASIATEMP"});
    let role = |arn: &str, more: Value| {
        let mut config = fixed("AKIDBASE");
        config["role_arn"] = json!(arn);
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        config
    };
    for (config_of_key, signer) in [
        (fixed("AKIDPLAIN"), "AKIDPLAIN"),
        (token, "ASIATEMP"),
        (role(ROLE, json!({})), "ASIAMOCK"),
        (role(&format!("{ROLE}-external"), json!({"external_id": "external-1", "session_name": "me@x"})), "ASIAMOCK"),
    ] {
        let gateway =
            launch(config(mock.base(), &[key(config_of_key)])).env("AWS_ENDPOINT_URL_STS", mock.base()).start();
        for _ in 0..3 {
            let reply = chat(&gateway).await;
            assert_eq!(reply.status, 200, "{signer}: {}", reply.text());
        }
        let seen = signers(&mock).await;
        assert!(seen.last().unwrap().starts_with(signer), "{seen:?}");
        assert_eq!(seen[seen.len() - 1], seen[seen.len() - 3], "temporary keys are kept");
    }
}

#[tokio::test]
async fn a_key_of_the_api_is_a_bearer() {
    let upstream = Upstream::start(|_| Answer::json(200, "{}"));
    let gateway = Gateway::start(config(
        &upstream.base(),
        &[json!({"value": "ABSK-0123456789", "bedrock_key_config": {"region": "us-east-1"}})],
    ));
    assert_eq!(chat(&gateway).await.status, 200);
    let seen = upstream.only();
    assert_eq!((seen.path.as_str(), seen.bearer()), ("/openai/v1/chat/completions", "ABSK-0123456789"));
    assert_eq!((seen.header("x-amz-date"), seen.header("x-amz-security-token")), ("", ""));
}

/// Environment, profile, web identity, container, instance; each only where those before have nothing.
#[tokio::test]
async fn what_the_machine_has() {
    let mock = Mock::start();
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let profiles = file(
        "credentials",
        "[default]\naws_access_key_id = AKIDPROFILE\naws_secret_access_key = secret-of-AKIDPROFILE\n",
    );
    let roles = file("config", &format!("[profile deep]\nrole_arn = {ROLE}\nsource_profile = default\n"));
    let web = file("web", "web-identity-token\n");
    let container = format!("{}/__mock/container-credentials", mock.base());
    type Step<'a> = &'a dyn Fn(Launch) -> Launch;
    let instance: Step<'_> = &|l| l.env("AWS_EC2_METADATA_SERVICE_ENDPOINT", mock.base());
    let container: Step<'_> = &|l| {
        l.env("AWS_CONTAINER_CREDENTIALS_FULL_URI", &container)
            .env("AWS_CONTAINER_AUTHORIZATION_TOKEN", "container-token")
    };
    let web: Step<'_> = &|l| l.env("AWS_WEB_IDENTITY_TOKEN_FILE", &web).env("AWS_ROLE_ARN", ROLE);
    let profile: Step<'_> = &|l| l.env("AWS_SHARED_CREDENTIALS_FILE", &profiles).env("AWS_CONFIG_FILE", &roles);
    let deep: Step<'_> = &|l| l.env("AWS_PROFILE", "deep");
    let environment: Step<'_> =
        &|l| l.env("AWS_ACCESS_KEY_ID", "AKIDENV").env("AWS_SECRET_ACCESS_KEY", "secret-of-AKIDENV");
    for (steps, signer) in [
        (&[instance][..], "ASIAMOCK1"),
        (&[instance, container], "ASIAMOCK2"),
        (&[instance, container, web], "ASIAMOCK3"),
        (&[instance, container, web, profile], "AKIDPROFILE"),
        (&[instance, container, web, profile, deep], "ASIAMOCK4"),
        (&[instance, container, web, profile, deep, environment], "AKIDENV"),
    ] {
        let launch = launch(config(mock.base(), &[key(json!({}))])).env("AWS_ENDPOINT_URL_STS", mock.base());
        let gateway = steps.iter().fold(launch, |launch, step| step(launch)).start();
        let reply = chat(&gateway).await;
        assert_eq!(reply.status, 200, "{signer}: {}", reply.text());
        assert_eq!(signers(&mock).await.last().unwrap(), signer);
    }
}

#[tokio::test]
async fn wrong_keys_are_a_credential_fault_and_say_nothing() {
    let mock = Mock::start();
    let wrong = json!({"access_key": "AKIDWRONG", "secret_key": "canary-0123456789"});
    let mut second = key(fixed("AKIDGOOD"));
    second["name"] = json!("two");
    second["priority"] = json!(900);
    let gateway = Gateway::start(config(mock.base(), &[key(wrong.clone()), second]));
    let reply = chat(&gateway).await;
    assert_eq!((reply.status.as_u16(), reply.header("x-keyway-attempts")), (200, "2"), "{}", reply.text());
    let refused_role =
        json!({"role_arn": format!("{ROLE}-external"), "access_key": "AKIDX", "secret_key": "secret-of-AKIDX"});
    for config_of_key in [wrong, refused_role] {
        let gateway =
            launch(config(mock.base(), &[key(config_of_key)])).env("AWS_ENDPOINT_URL_STS", mock.base()).start();
        let reply = chat(&gateway).await;
        assert_eq!(reply.status, 502, "{}", reply.text());
        assert_eq!(reply.json()["error"]["code"], "upstream_credentials_exhausted");
        assert!(!gateway.output().contains("canary"));
    }
}

/// The date of a refusal tells a wrong clock from a wrong key: the first is signed again, once.
#[tokio::test]
async fn a_wrong_clock_is_told_from_a_wrong_key() {
    let refusal = |date: &str| {
        Answer::json(403, r#"{"message":"Signature expired"}"#)
            .header("x-amzn-errortype", "InvalidSignatureException:http://internal/")
            .header("date", date)
    };
    let ahead = httpdate::fmt_http_date(std::time::SystemTime::now() + std::time::Duration::from_secs(7200));
    let upstream = Upstream::scripted([refusal(&ahead), Answer::json(200, "{}")]);
    let gateway = Gateway::start(config(&upstream.base(), &[key(fixed("AKIDX"))]));
    let reply = chat(&gateway).await;
    assert_eq!((reply.status.as_u16(), reply.header("x-keyway-attempts")), (200, "2"), "{}", reply.text());
    let dates: Vec<String> = upstream.seen().iter().map(|seen| seen.header("x-amz-date").to_owned()).collect();
    assert!(minutes(&dates[1]) - minutes(&dates[0]) >= 119, "{dates:?}");
    assert_eq!(chat(&gateway).await.header("x-keyway-attempts"), "1", "what was learnt stays");

    for (answers, attempts) in [
        // The clocks agree, hence the key is wrong.
        (vec![refusal(&httpdate::fmt_http_date(std::time::SystemTime::now()))], "1"),
        // A clock that runs away is not run after.
        (vec![refusal(&ahead), refusal("Fri, 01 Jan 2100 00:00:00 GMT"), Answer::json(200, "{}")], "2"),
    ] {
        let upstream = Upstream::scripted(answers);
        let gateway = Gateway::start(config(&upstream.base(), &[key(fixed("AKIDX"))]));
        let reply = chat(&gateway).await;
        assert_eq!((reply.status.as_u16(), reply.header("x-keyway-attempts")), (502, attempts), "{}", reply.text());
    }
}

/// The service that gives out temporary keys is asked again by its own clock, and by that clock it is
/// reckoned how long they are good.
#[tokio::test]
async fn the_clock_of_the_token_service_counts() {
    let now = std::time::SystemTime::now();
    let ahead = httpdate::fmt_http_date(now + std::time::Duration::from_secs(7200));
    let soon = (time::OffsetDateTime::from(now) + time::Duration::seconds(7200 + 3000))
        .format(&time::format_description::well_known::Rfc3339)
        .unwrap();
    let keys = format!(
        "<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>ASIAX</AccessKeyId>\
         <SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken><Expiration>{soon}</Expiration>\
         </Credentials></AssumeRoleResult></AssumeRoleResponse>"
    );
    let refusal = "<ErrorResponse><Error><Code>SignatureDoesNotMatch</Code></Error></ErrorResponse>";
    let service = Upstream::scripted([
        Answer::json(403, refusal).header("date", &ahead),
        Answer::json(200, keys).header("date", &ahead),
    ]);
    let upstream = Upstream::start(|_| Answer::json(200, "{}"));
    let mut config_of_key = fixed("AKIDX");
    config_of_key["role_arn"] = json!(ROLE);
    let gateway =
        launch(config(&upstream.base(), &[key(config_of_key)])).env("AWS_ENDPOINT_URL_STS", &service.base()).start();
    for _ in 0..2 {
        assert_eq!(chat(&gateway).await.status, 200);
    }
    let dates: Vec<String> = service.seen().iter().map(|seen| seen.header("x-amz-date").to_owned()).collect();
    assert_eq!(dates.len(), 2, "kept for its life: {dates:?}");
    assert!(minutes(&dates[1]) - minutes(&dates[0]) >= 119, "{dates:?}");
}

/// Minutes of `20260131T235900Z` since some day long ago.
fn minutes(date: &str) -> i64 {
    let number = |from: usize, to: usize| date[from..to].parse::<i64>().unwrap();
    let day = time::Date::from_calendar_date(
        i32::try_from(number(0, 4)).unwrap(),
        time::Month::try_from(u8::try_from(number(4, 6)).unwrap()).unwrap(),
        u8::try_from(number(6, 8)).unwrap(),
    );
    i64::from(day.unwrap().to_julian_day()) * 1440 + number(9, 11) * 60 + number(11, 13)
}

/// A request as botocore's signer wants it: what AWS reads of the head, and who signs.
fn for_botocore(seen: &Seen, base: &str, keys: &Value) -> Value {
    let read = |name: &str| name == "content-type" || name == "host" || name.starts_with("x-amz");
    let headers: serde_json::Map<String, Value> = seen
        .headers
        .iter()
        .filter(|(name, _)| read(name.as_str()))
        .map(|(name, value)| (name.to_string(), json!(value.to_str().unwrap())))
        .collect();
    json!({
        "method": seen.method.as_str(), "url": format!("{base}{}", seen.path), "headers": headers,
        "body": String::from_utf8(seen.body.to_vec()).unwrap(), "region": "eu-west-1",
        "access_key": keys["access_key"], "secret_key": keys["secret_key"], "token": keys["session_token"],
    })
}

/// Requests of all kinds, signed by keyway and by botocore: the same header to the letter.
#[tokio::test]
async fn signed_as_botocore_signs() {
    let Some(python) = python() else { return };
    let upstream = Upstream::start(|_| Answer::json(200, "{}"));
    let mut sent = Vec::new();
    for keys in [
        json!({"access_key": "AKIDEXAMPLE", "secret_key": "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "session_token": null}),
        json!({"access_key": "ASIAEXAMPLE", "secret_key": "a+b/c=", "session_token": "IQoJb3JpZ2luX2VjE//+=="}),
    ] {
        let mut written = keys.clone();
        written.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        let gateway = Gateway::start(config(&upstream.base(), &[key(written)]));
        for (path, body) in [
            ("/v1/chat/completions", r#"{"model":"bedrock/openai.gpt-oss-20b-1:0","messages":[]}"#),
            ("/passthrough/bedrock/model/anthropic.claude-v2%3A1/converse", r#"{"messages":[{"text":"päivää ☃"}]}"#),
            ("/passthrough/bedrock/model/anthropic.claude-v2:1/converse-stream", "{}"),
            (
                "/passthrough/bedrock/model/arn%3Aaws%3Abedrock%3Aeu-west-1%3A123456789012%3Ainference-profile%2Feu.x/invoke",
                "",
            ),
            ("/passthrough/bedrock/model/a~b_c.d-e/count-tokens?b=2&a=1&c=%20%2B&d", "x"),
            ("/passthrough/bedrock/x", "{}"),
        ] {
            upstream.forget();
            let reply = ask(&gateway, path, body).await;
            assert_eq!(reply.status, 200, "{path}: {}", reply.text());
            sent.push((upstream.only(), keys.clone()));
        }
    }
    let questions: Vec<Value> = sent.iter().map(|(seen, keys)| for_botocore(seen, &upstream.base(), keys)).collect();
    let answers = ask_botocore(&python, &json!(questions));
    assert_eq!(answers.len(), sent.len());
    for ((seen, _), theirs) in sent.iter().zip(&answers) {
        assert_eq!(seen.header("authorization"), theirs.as_str().unwrap(), "{}", seen.path);
    }
    println!("{} requests compared", sent.len());
}

/// An interpreter that has botocore.
fn python() -> Option<String> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join(".cache/venv/bin/python");
    let found = [own.to_str().unwrap(), "python3"].into_iter().find(|python| {
        let probe = Command::new(python).args(["-c", "import botocore"]).stderr(Stdio::null()).status();
        probe.is_ok_and(|status| status.success())
    });
    if found.is_none() {
        eprintln!("not compared with botocore: it is not installed (`make tools`)");
        assert!(std::env::var_os("KEYWAY_REQUIRE_ALL").is_none_or(|value| value != "1"), "botocore is missing");
    }
    found.map(str::to_owned)
}

fn ask_botocore(python: &str, questions: &Value) -> Vec<Value> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk/sign.py");
    let mut child = Command::new(python)
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(questions.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Each with the field that its problem names.
#[test]
fn what_is_refused() {
    for (changed, word) in [
        (json!({"region": "us-east-1.evil.example/"}), "region"),
        (json!({"access_key": "AKIDX"}), "secret_key"),
        (json!({"secret_key": "s"}), "access_key"),
        (json!({"access_key": "AKID X", "secret_key": "s"}), "access_key"),
        (json!({"role_arn": "arn:aws:iam::1:user/x"}), "role_arn"),
        (json!({"external_id": "ab"}), "external_id"),
        (json!({"arn": "https://evil.example"}), "arn"),
        (json!({"project_id": "p"}), "project_id"),
    ] {
        let (code, output) = launch(config("http://127.0.0.1:1", &[key(changed)])).refused();
        assert_eq!(code, 1, "{word}: {output}");
        assert!(output.contains(word), "{word}: {output}");
    }
    // The role of the instance is not signed to an address that somebody chose.
    let (code, output) = launch(config("https://evil.example", &[key(json!({}))])).refused();
    assert!(code == 1 && output.contains("identity of this machine"), "{output}");
}
