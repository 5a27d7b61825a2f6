//! Keys of one provider, over the Bifrost face: what a client of it would send.
//!
//! An answer may fail to come, for the gateway may be killed under it.

use http::Method;
use serde_json::Value;

use super::client::{Reply, request, try_send};

/// Where the keys are; cheap to copy into a task.
#[derive(Clone)]
pub struct Keys {
    url: String,
}

impl Keys {
    /// `base` is `http://127.0.0.1:PORT`.
    pub fn of(base: &str, provider: &str) -> Self {
        Self { url: format!("{base}/api/providers/{provider}/keys") }
    }

    /// With `If-Match` where a tag is given. No answer: the gateway is gone.
    pub async fn call(&self, method: Method, id: &str, tag: Option<&str>, body: &Value) -> Result<Reply, String> {
        let url = if id.is_empty() { self.url.clone() } else { format!("{}/{id}", self.url) };
        let mut headers = vec![("content-type", "application/json")];
        headers.extend(tag.map(|tag| ("if-match", tag)));
        let body = if body.is_null() { String::new() } else { body.to_string() };
        try_send(request(method, &url, &headers, body)).await
    }

    pub async fn create(&self, body: &Value) -> Reply {
        self.call(Method::POST, "", None, body).await.unwrap()
    }

    pub async fn put(&self, id: &str, body: &Value) -> Reply {
        self.call(Method::PUT, id, None, body).await.unwrap()
    }

    pub async fn delete(&self, id: &str) -> Reply {
        self.call(Method::DELETE, id, None, &Value::Null).await.unwrap()
    }

    pub async fn get(&self, id: &str) -> Reply {
        self.call(Method::GET, id, None, &Value::Null).await.unwrap()
    }

    pub async fn list(&self) -> Vec<Value> {
        let reply = self.get("").await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.json()["keys"].as_array().unwrap().clone()
    }
}

/// The code of a refusal.
pub fn code(reply: &Reply) -> String {
    reply.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
}
