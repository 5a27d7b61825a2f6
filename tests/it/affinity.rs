//! Files, batches, stored responses and conversations: each call goes back to the key that made the thing,
//! also after a kill, and under projects to nobody else.

use std::sync::atomic::{AtomicUsize, Ordering};

use http::Method;

use crate::support::client::{self, Reply};
use crate::support::gateway::{Gateway, launch};
use crate::support::upstream::{Answer, Seen, Upstream};

/// Gives out ids that hold the key that made them, and tells every other key that there is nothing.
fn upstream() -> Upstream {
    let count = AtomicUsize::new(0);
    Upstream::start(move |seen: &Seen| {
        let n = count.fetch_add(1, Ordering::SeqCst);
        let key = seen.bearer().to_owned();
        let path = seen.path.trim_start_matches("/v1/").split('?').next().unwrap().to_owned();
        let (collection, id) = path.split_once('/').unwrap_or((&path, ""));
        let mine = |id: &str| id.contains(&key);
        match (&seen.method, collection, id) {
            (&Method::POST, "uploads", id) if id.ends_with("/complete") && mine(id) => {
                Answer::json(200, format!(r#"{{"id":"u","object":"upload","file":{{"id":"file_of_upload_{key}"}}}}"#))
            }
            (&Method::POST, "chat", _) => {
                let file = seen.json()["messages"][0]["content"][0]["file"]["file_id"].as_str().unwrap().to_owned();
                Answer::json(if mine(&file) { 200 } else { 404 }, "{}")
            }
            (&Method::POST, "batches", "") => {
                let file = seen.json()["input_file_id"].as_str().unwrap().to_owned();
                if !mine(&file) {
                    return Answer::json(404, "{}");
                }
                Answer::json(200, format!(r#"{{"object":"batch","id":"batch_{key}_{n}","output_file_id":null}}"#))
            }
            (&Method::POST, "responses", "") => {
                let body = seen.json();
                let before = [&body["previous_response_id"], &body["conversation"]];
                if before.iter().filter_map(|it| it.as_str()).any(|id| !mine(id)) {
                    return Answer::json(404, "{}");
                }
                if body["stream"] == true {
                    let event = format!(
                        "event: response.created\ndata: {{\"type\":\"response.created\",\"response\":{{\"id\":\"resp_{key}_{n}\"}}}}\n\n"
                    );
                    let events: &'static str = Box::leak(event.into_boxed_str());
                    return Answer::events([
                        events,
                        "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{}}\n\n",
                    ]);
                }
                Answer::json(200, format!(r#"{{"id":"resp_{key}_{n}","object":"response"}}"#))
            }
            (&Method::POST, _, "") => Answer::json(200, format!(r#"{{"object":"x","id":"{collection}_{key}_{n}"}}"#)),
            (_, "files", "") => Answer::json(
                200,
                format!(
                    r#"{{"object":"list","data":[{{"id":"files_{key}_0","x":1.0}},{{"id":"files_{key}_1"}}],"first_id":"a","last_id":"z","has_more":false}}"#
                ),
            ),
            (_, "batches", id) if mine(id) => {
                Answer::json(200, format!(r#"{{"id":"{id}","output_file_id":"file_out_{key}","error_file_id":null}}"#))
            }
            (_, _, id) if mine(id) => Answer::json(200, format!(r#"{{"id":"{id}"}}"#)),
            _ => Answer::json(404, "{}"),
        }
    })
}

fn config(base: &str, extra: &str, keys: &str) -> String {
    format!(
        r#"{{"server": {{"listen": ["127.0.0.1:0"]}}, "observability": {{"access_log": false}}, {extra}
           "providers": {{"up": {{"custom_provider_config": {{"base_provider_type": "openai"}}, "network_config": {{"base_url": "{base}"}}, "keys": [{keys}]}}}}}}"#
    )
}

fn keys(count: usize) -> String {
    let key = |at| format!(r#"{{"name": "k{at}", "value": "key{at}x", "use_for_batch_api": true}}"#);
    (0..count).map(key).collect::<Vec<_>>().join(", ")
}

async fn ask(gateway: &Gateway, token: &str, method: Method, path: &str, body: &str) -> Reply {
    let bearer = format!("Bearer {token}");
    let mut headers = vec![("content-type", "application/json")];
    if !token.is_empty() {
        headers.push(("authorization", bearer.as_str()));
    }
    client::send(client::request(method, &gateway.url(path), &headers, body.to_owned())).await
}

async fn make(gateway: &Gateway, token: &str, path: &str, body: &str) -> String {
    let reply = ask(gateway, token, Method::POST, path, body).await;
    assert_eq!(reply.status, 200, "{path}: {}", reply.text());
    let text = reply.text();
    let id = text.split(r#""id":""#).nth(1).and_then(|rest| rest.split('"').next());
    id.unwrap_or_else(|| panic!("no id in {text}")).to_owned()
}

#[tokio::test]
async fn each_thing_goes_back_to_its_key_also_after_a_kill() {
    let upstream = upstream();
    let mut gateway = launch(config(&upstream.base(), "", &keys(5))).start();
    let mut made = Vec::new();
    for round in 0..8 {
        for (path, body) in [
            ("/v1/files", r#"{"purpose":"batch"}"#.to_owned()),
            ("/v1/conversations", "{}".to_owned()),
            ("/v1/responses", r#"{"model":"up/m","input":"x"}"#.to_owned()),
            ("/v1/responses", r#"{"model":"up/m","input":"x","stream":true}"#.to_owned()),
            ("/v1/vector_stores", "{}".to_owned()),
        ] {
            made.push((path, make(&gateway, "", path, &body).await));
        }
        let file = made[made.len() - 5].1.clone();
        let batch = make(&gateway, "", "/v1/batches", &format!(r#"{{"input_file_id":"{file}"}}"#)).await;
        made.push(("/v1/batches", batch));
        if round == 3 {
            // What was told is known, whatever happens.
            let reply = ask(&gateway, "", Method::GET, &format!("/v1/files/{file}"), "").await;
            assert_eq!(reply.status, 200);
            gateway.kill();
            gateway.restart();
        }
    }
    for (path, id) in &made {
        let reply = ask(&gateway, "", Method::GET, &format!("{path}/{id}"), "").await;
        assert_eq!(reply.status, 200, "{path} {id}: {}", reply.text());
        match *path {
            "/v1/responses" => {
                let body = format!(r#"{{"model":"up/m","input":"y","previous_response_id":"{id}"}}"#);
                make(&gateway, "", path, &body).await;
            }
            "/v1/conversations" => {
                make(
                    &gateway,
                    "",
                    "/v1/responses",
                    &format!(r#"{{"model":"up/m","input":"y","conversation":"{id}"}}"#),
                )
                .await;
            }
            // The outcome of a batch is a file of the same key.
            "/v1/batches" => {
                let output = reply.json()["output_file_id"].as_str().unwrap().to_owned();
                let content = ask(&gateway, "", Method::GET, &format!("/v1/files/{output}/content"), "").await;
                assert_eq!(content.status, 200, "{output}");
                let file = ask(&gateway, "", Method::GET, &format!("/v1/files/{output}"), "").await;
                assert_eq!(file.status, 200, "{output}");
            }
            _ => {}
        }
    }
    // A thing that nobody here made goes anywhere.
    assert_eq!(ask(&gateway, "", Method::GET, "/v1/files/unknown", "").await.status, 404);
    println!("{} things over 5 keys, half of them from before a kill", made.len());
}

#[tokio::test]
async fn files_of_uploads_and_files_in_messages_are_known() {
    let upstream = upstream();
    let gateway = Gateway::start(config(&upstream.base(), "", &keys(5)));
    for _ in 0..6 {
        let upload = make(&gateway, "", "/v1/uploads", "{}").await;
        let done = ask(&gateway, "", Method::POST, &format!("/v1/uploads/{upload}/complete"), "{}").await;
        let file = done.json()["file"]["id"].as_str().unwrap().to_owned();
        assert_eq!(ask(&gateway, "", Method::GET, &format!("/v1/files/{file}"), "").await.status, 200);
        let content = format!(r#"[{{"type":"file","file":{{"file_id":"{file}"}}}}]"#);
        let chat = format!(r#"{{"model":"up/m","messages":[{{"role":"user","content":{content}}}]}}"#);
        let reply = ask(&gateway, "", Method::POST, "/v1/chat/completions", &chat).await;
        assert_eq!(reply.status, 200, "{file}: {}", reply.text());
    }
}

/// The first answer names an upload, which goes on at the same key, and so does the file that it makes.
#[tokio::test]
async fn an_upload_of_geminis_stays_with_its_key() {
    let upstream = Upstream::start(|seen: &Seen| {
        let key = seen.header("x-goog-api-key").to_owned();
        match (seen.header("x-goog-upload-command"), &*seen.path) {
            ("start", _) => {
                let url = format!("https://up.example/upload/v1beta/files?upload_id={key}&upload_protocol=resumable");
                Answer::json(200, "{}").header("x-goog-upload-url", &url)
            }
            (_, path) if path.contains(&key) => {
                Answer::json(200, format!(r#"{{"file":{{"displayName":"x","name":"files/of-{key}"}}}}"#))
            }
            _ => Answer::json(404, "{}"),
        }
    });
    let keys = keys(5);
    let gateway = Gateway::start(format!(
        r#"{{"server": {{"listen": ["127.0.0.1:0"]}}, "providers": {{"gemini": {{"network_config": {{"base_url": "{}"}}, "keys": [{keys}]}}}}}}"#,
        upstream.base()
    ));
    for _ in 0..6 {
        let start = [("x-goog-upload-command", "start")];
        let begun =
            client::send(client::request(Method::POST, &gateway.url("/upload/v1beta/files"), &start, "{}")).await;
        assert_eq!(begun.status, 200, "{}", begun.text());
        let query = begun.header("x-goog-upload-url").split_once('?').unwrap().1.to_owned();
        let done = ask(&gateway, "", Method::POST, &format!("/upload/v1beta/files?{query}"), "bytes").await;
        assert_eq!(done.status, 200, "{query}: {}", done.text());
        let name = done.json()["file"]["name"].as_str().unwrap().to_owned();
        assert_eq!(ask(&gateway, "", Method::GET, &format!("/v1beta/{name}"), "").await.status, 200, "{name}");
    }
}

#[tokio::test]
async fn batches_and_files_need_a_key_that_is_meant_for_them() {
    let upstream = upstream();
    let plain = r#"{"name": "a", "value": "key0x"}"#;
    let gateway = Gateway::start(config(&upstream.base(), "", plain));
    for (method, path) in [(Method::POST, "/v1/files"), (Method::GET, "/v1/batches"), (Method::GET, "/v1/files/f")] {
        let reply = ask(&gateway, "", method, path, "{}").await;
        assert_eq!(reply.status, 503, "{}", reply.text());
        assert!(reply.text().contains("use_for_batch_api"), "{}", reply.text());
    }
    assert!(upstream.seen().is_empty());
    gateway.write_config(&config(
        &upstream.base(),
        "",
        &format!(r#"{plain}, {{"name": "b", "value": "key1x", "use_for_batch_api": true}}"#),
    ));
    gateway.wait_generation(2).await;
    for _ in 0..5 {
        make(&gateway, "", "/v1/files", "{}").await;
    }
    assert!(upstream.seen().iter().all(|seen| seen.bearer() == "key1x"));
}

#[tokio::test]
async fn things_belong_to_the_project_that_made_them() {
    let upstream = upstream();
    let projects = r#""projects": [
        {"id": "one", "keys": [{"name": "k", "value": "env.ONE"}], "models": ["*"]},
        {"id": "two", "keys": [{"name": "k", "value": "env.TWO"}], "models": ["*"]}],"#;
    let (one, two) = ("token-of-the-first-project-0123456789", "token-of-the-second-project-0123456789");
    let text = config(&upstream.base(), projects, &keys(1));
    let gateway = launch(text).env("ONE", one).env("TWO", two).start();
    let mut files = Vec::new();
    for token in [one, two] {
        files.push((token, make(&gateway, token, "/v1/files", "{}").await));
    }
    assert_eq!(files[0].1, "files_key0x_0");
    for (owner, id) in &files {
        for token in [one, two] {
            let seen = upstream.seen().len();
            let expected = if token == *owner { 200 } else { 404 };
            let get = ask(&gateway, token, Method::GET, &format!("/v1/files/{id}"), "").await;
            assert_eq!(get.status, expected, "{id}: {}", get.text());
            let batch =
                ask(&gateway, token, Method::POST, "/v1/batches", &format!(r#"{{"input_file_id":"{id}"}}"#)).await;
            assert_eq!(batch.status, expected, "{id}: {}", batch.text());
            assert_eq!(upstream.seen().len() - seen, if expected == 200 { 2 } else { 0 }, "nothing is asked upstream");
        }
    }
    for (token, mine) in &files {
        let list = ask(&gateway, token, Method::GET, "/v1/files", "").await;
        assert_eq!(list.status, 200, "{}", list.text());
        let ids: Vec<_> = list.json()["data"].as_array().unwrap().iter().map(|it| it["id"].clone()).collect();
        assert_eq!(ids, [mine.as_str()], "{}", list.text());
        assert_eq!(
            (list.json()["first_id"].as_str(), list.json()["last_id"].as_str()),
            (Some(mine.as_str()), Some(mine.as_str()))
        );
    }
    let (_, gone) = &files[0];
    assert_eq!(ask(&gateway, two, Method::DELETE, &format!("/v1/files/{gone}"), "").await.status, 404);
    assert_eq!(ask(&gateway, one, Method::DELETE, &format!("/v1/files/{gone}"), "").await.status, 200);
    assert_eq!(ask(&gateway, one, Method::GET, &format!("/v1/files/{gone}"), "").await.status, 404);
    assert_eq!(ask(&gateway, one, Method::GET, "/v1/files/nobodys", "").await.status, 404);
}
