//! Secrets that must not be seen: in every field of every provider, by API and by file, in bodies
//! that are taken and in bodies that are not; looked for in everything that leaves the process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use crate::support::canaries::{Canaries, base64_of};
use crate::support::client::{Reply, request, send};
use crate::support::gateway::{Gateway, launch};
use crate::support::upstream::{Answer, Seen, Upstream};

mod attack;
mod file;

use attack::Attack;

const CHAT: &str = "/v1/chat/completions";
/// What shows the inside of a gateway.
const WINDOWS: [&str; 9] = [
    "/api/providers",
    "/api/keys",
    "/api/config/status",
    "/api/openapi.json",
    "/api/explain?model=gpt-4o",
    "/api/explain?model=up/m",
    "/readyz?verbose",
    "/metrics",
    "/livez",
];

/// A gateway whose every word is looked at.
struct Watched {
    gateway: Gateway,
    canaries: Arc<Canaries>,
    manager: String,
    requests: usize,
}

impl Watched {
    async fn call(&mut self, method: Method, path: &str, headers: &[(&str, &str)], body: impl Into<Vec<u8>>) -> Reply {
        let bearer = format!("Bearer {}", self.manager);
        let mut all = vec![("content-type", "application/json"), ("authorization", &*bearer)];
        all.retain(|(name, _)| !headers.iter().any(|(given, _)| given == name));
        all.extend(headers.iter().filter(|(_, value)| !value.is_empty()));
        // Without the query, which may hold what is looked for.
        let what = format!("the answer to {method} {}", path.split('?').next().unwrap_or_default());
        let reply = send(request(method, &self.gateway.url(path), &all, body.into())).await;
        self.requests += 1;
        self.canaries.look(&what, &reply.body);
        for (name, value) in &reply.headers {
            self.canaries.look(&format!("{name} of {what}"), value.as_bytes());
        }
        reply
    }

    async fn send(&mut self, attack: &Attack) -> Reply {
        let headers = [("content-type", attack.content_type)];
        self.call(attack.method.clone(), &attack.path, &headers, attack.body.clone()).await
    }

    /// Everything that can be read of the gateway.
    async fn look_around(&mut self, files_except: &[&str]) {
        let mut paths: Vec<String> = WINDOWS.map(str::to_owned).to_vec();
        for provider in self.call(Method::GET, "/api/providers", &[], "").await.json()["providers"].as_array().unwrap()
        {
            let at = format!("/api/providers/{}", provider["name"].as_str().unwrap());
            let keys = self.call(Method::GET, &format!("{at}/keys"), &[], "").await.json();
            let ids = keys["keys"].as_array().unwrap().iter().map(|key| key["id"].as_str().unwrap().to_owned());
            paths.extend(ids.map(|id| format!("{at}/keys/{id}")));
            paths.push(at);
        }
        for path in paths {
            let reply = self.call(Method::GET, &path, &[], "").await;
            assert!(matches!(reply.status.as_u16(), 200 | 404), "{path}: {}", reply.status);
        }
        let output = self.gateway.output();
        assert!(!output.contains("panicked"), "{output}");
        self.canaries.look("the log", output);
        self.canaries.look_at_files(self.gateway.dir(), files_except);
        let cmdline = std::fs::read(format!("/proc/{}/cmdline", self.gateway.pid())).unwrap_or_default();
        self.canaries.look("the command line", cmdline);
    }

    fn report(&self, what: &str) {
        let Self { canaries, requests, .. } = self;
        println!("{what}: {} canaries, {requests} requests, {} bytes looked at", canaries.count(), canaries.looked());
        canaries.assert_none();
    }
}

/// Refuses, and repeats what it was sent in every way that it can: in the body, in headers.
fn parrot() -> Upstream {
    Upstream::start(|seen| {
        let heard: Vec<String> = seen.headers.iter().map(|(n, v)| format!("{n}: {}", v.to_str().unwrap())).collect();
        let heard =
            json!({"error": {"message": heard.join("; "), "code": seen.bearer(), "type": seen.bearer()}}).to_string();
        let status = status_in(seen);
        let answer = if status == 200 { Answer::json(200, "{\"data\": []}") } else { Answer::json(status, heard) };
        answer
            .header("x-heard", seen.bearer())
            .header("set-cookie", &format!("key={}", seen.bearer()))
            .header("www-authenticate", &format!("Bearer realm=\"{}\"", seen.bearer()))
            .header("authorization", seen.header("authorization"))
    })
}

/// The model `m-401` asks for that status; whoever asks for models gets a refusal.
fn status_in(seen: &Seen) -> u16 {
    let body: Value = serde_json::from_slice(&seen.body).unwrap_or_default();
    let model = body["model"].as_str().unwrap_or("m-500");
    model.strip_prefix("m-").and_then(|status| status.parse().ok()).unwrap_or(200)
}

#[tokio::test]
async fn what_is_sent_by_api_reaches_its_upstream_alone() {
    let mut canaries = Canaries::default();
    let upstream = parrot();
    let (manager, project) = (canaries.make("the management token"), canaries.make("the project token"));
    let good = attack::good(&mut canaries, &upstream.base());
    let bad = attack::bad(&mut canaries, &upstream.base());
    let strangers: Vec<String> = (0..12).map(|i| canaries.make(format!("token {i} of a stranger"))).collect();
    let config = attack::config(&upstream.base());
    let launch = launch(config).env("KW_MANAGER", &manager).env("KW_PROJECT", &project).env("FIRST_KEY", "sk-first");
    let gateway = launch.start();
    let mut watched = Watched { gateway, canaries: Arc::new(canaries), manager, requests: 0 };

    // Temporary files live for a moment: somebody looks all the time.
    let over = Arc::new(AtomicBool::new(false));
    let looker = std::thread::spawn({
        let (over, canaries) = (Arc::clone(&over), Arc::clone(&watched.canaries));
        let dir = watched.gateway.dir().to_owned();
        move || {
            while !over.load(Ordering::Relaxed) {
                canaries.look_at_files(&dir, &[]);
                // Two cores are shared with the gateway that is looked at.
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    });

    let bearer = format!("Bearer {project}");
    for (attack, secret) in &good {
        let reply = watched.send(attack).await;
        assert_eq!(reply.status, 200, "{} {}", attack.what, reply.text());
        let shown = reply.json();
        let (provider, id) = match &shown["id"] {
            Value::String(id) => (attack.path.split('/').nth(3).unwrap().to_owned(), Some(id.clone())),
            _ => (shown["name"].as_str().unwrap().to_owned(), None),
        };
        // Where it belongs it has to arrive; whatever comes back is not passed on.
        for status in [200, 401, 402, 403] {
            upstream.forget();
            let body = json!({"model": format!("{provider}/m-{status}"), "messages": []}).to_string();
            let pin = id.as_deref().map_or(("x-none", "1"), |id| ("x-bf-api-key-id", id));
            watched.call(Method::POST, CHAT, &[("authorization", &bearer), pin], body).await;
            let sent = upstream.seen();
            let arrived = sent.iter().any(|seen| seen.headers.values().any(|v| contains(v.as_bytes(), secret)));
            // Benched after the first refusal.
            assert!(arrived || status > 401, "{} did not arrive", attack.what);
        }
        if let Some(id) = id {
            let probe = format!("/api/providers/{provider}/keys/{id}/refresh-models");
            watched.call(Method::POST, &probe, &[], "").await;
        }
    }
    let kept = std::fs::read_to_string(watched.gateway.config_path()).unwrap();
    let mut refused = 0;
    for attack in &bad {
        let reply = watched.send(attack).await;
        let status = reply.status.as_u16();
        assert!((400..500).contains(&status), "{}: {status} {}", attack.what, reply.text());
        assert!(!reply.header("x-request-id").is_empty());
        refused += 1;
    }
    let after = std::fs::read_to_string(watched.gateway.config_path()).unwrap();
    assert_eq!(after, kept, "refused, and yet the file has changed");
    for token in &strangers {
        stranger(&mut watched, token).await;
    }
    watched.look_around(&[]).await;
    over.store(true, Ordering::Relaxed);
    looker.join().unwrap();
    println!("{} bodies taken, {refused} refused", good.len());
    watched.report("by API");
}

/// A credential in every place where clients put one, for every kind of route.
async fn stranger(watched: &mut Watched, token: &str) {
    let bearer = format!("Bearer {token}");
    let basic = format!("Basic {}", base64_of(format!("admin:{token}").as_bytes()));
    let sigv4 = format!("AWS4-HMAC-SHA256 Credential={token}/20260101/x/bedrock/aws4_request, Signature={token}");
    let cookie = format!("token={token}");
    let query = percent_encoding::utf8_percent_encode(token, percent_encoding::NON_ALPHANUMERIC).to_string();
    for (method, path) in
        [(Method::GET, "/api/keys"), (Method::POST, CHAT), (Method::GET, "/metrics"), (Method::GET, "/no/such")]
    {
        for header in [
            ("authorization", &*bearer),
            ("authorization", token),
            ("authorization", &basic),
            ("authorization", &sigv4),
            ("x-api-key", token),
            ("api-key", token),
            ("x-goog-api-key", token),
            ("cookie", &cookie),
            ("x-bf-api-key", token),
            ("x-bf-api-key-id", token),
        ] {
            let headers = if header.0 == "authorization" { vec![header] } else { vec![("authorization", ""), header] };
            let reply = watched.call(method.clone(), path, &headers, "{\"model\": \"up/m\", \"messages\": []}").await;
            assert_eq!(reply.status, 401, "{method} {path} {}", header.0);
        }
        let path = format!("{path}?key={query}&x=1");
        watched.call(method.clone(), &path, &[("authorization", "")], "{}").await;
    }
}

fn contains(text: &[u8], secret: &str) -> bool {
    text.windows(secret.len()).any(|window| window == secret.as_bytes())
}
