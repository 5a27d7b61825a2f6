//! The issuers of tokens beside the mocked clouds: Entra, Google's token endpoint, STS, and the
//! metadata services of machines. Each checks what it is sent and says no in its own shape.
//!
//! Makes a service account of its own (`/__mock/google-service-account.json`), whose signature it can
//! check; of every other credential the secret follows from the public part.

use std::borrow::Cow;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Method};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::base64;
use super::call::Call;
use super::reply::Reply;
use super::verify;
use crate::base64url;

/// How tokens of these issuers begin.
pub const ENTRA: &str = "entra.";
pub const GOOGLE: &str = "ya29.";

const EMAIL: &str = "mock@mock-project.iam.gserviceaccount.com";
const KEY_ID: &str = "mock-key-1";
const TOKEN_URL: &str = "https://oauth2.googleapis.com/token";
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
const SESSION: &str = "mock-imds-session";
const ROLE: &str = "mock-role";

/// What the issuers remember.
#[derive(Debug, Default)]
pub struct Issuers {
    issued: AtomicU64,
    /// Made when it is first asked for: that takes a while.
    account: OnceLock<Option<KeyPair>>,
}

impl Issuers {
    /// The answer, where the call is one to an issuer.
    pub fn answer(&self, call: &Call, now: SystemTime) -> Option<Reply> {
        let path = call.path();
        match call.method {
            Method::POST if path.ends_with("/oauth2/v2.0/token") => Some(self.entra(call)),
            Method::POST if path == "/token" => Some(self.google(call, now)),
            Method::POST if path == "/" => Some(self.sts(call, now)),
            Method::PUT if path == "/latest/api/token" => Some(session(call)),
            Method::GET => self.machine(call, path, now),
            _ => None,
        }
    }

    /// The file of an account whose signature the mock can check.
    pub fn account_file(&self) -> Option<Value> {
        let der: Pkcs8V1Der<'_> = self.account()?.as_der().ok()?;
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", base64::encode(der.as_ref()));
        Some(json!({
            "type": "service_account", "project_id": "mock-project", "private_key_id": KEY_ID, "private_key": pem,
            "client_email": EMAIL, "client_id": "1", "token_uri": TOKEN_URL,
        }))
    }

    fn account(&self) -> Option<&KeyPair> {
        self.account.get_or_init(|| KeyPair::generate(KeySize::Rsa2048).ok()).as_ref()
    }

    fn entra(&self, call: &Call) -> Reply {
        let wrong = |status: u16, error: &str, text: &str| {
            Reply::json(&json!({ "error": error, "error_description": text })).status(status)
        };
        let Some(form) = Form::of(call) else {
            return wrong(400, "invalid_request", "AADSTS900144: the body is no form.");
        };
        let client = form.get("client_id");
        if form.get("grant_type") != "client_credentials" {
            return wrong(400, "unsupported_grant_type", "AADSTS70003");
        }
        if !form.get("scope").split(' ').all(|scope| scope.ends_with("/.default")) {
            return wrong(400, "invalid_scope", "AADSTS1002012: the scope is not valid.");
        }
        let by_secret = form.get("client_secret") == format!("secret-of-{client}");
        let by_assertion = form.get("client_assertion_type")
            == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
            && form.get("client_assertion") == format!("assertion-of-{client}");
        if client.is_empty() || by_secret == by_assertion {
            return wrong(401, "invalid_client", "AADSTS7000215: Invalid client secret provided.");
        }
        self.bearer(ENTRA, &client)
    }

    fn google(&self, call: &Call, now: SystemTime) -> Reply {
        let wrong =
            |text: &str| Reply::json(&json!({ "error": "invalid_grant", "error_description": text })).status(400);
        let Some(form) = Form::of(call) else { return wrong("the body is no form") };
        match &*form.get("grant_type") {
            "urn:ietf:params:oauth:grant-type:jwt-bearer" => match self.assertion(&form.get("assertion"), now) {
                Ok(()) => self.bearer(GOOGLE, "account"),
                Err(why) => wrong(why),
            },
            "refresh_token" => {
                let client = form.get("client_id");
                let fits = form.get("client_secret") == format!("secret-of-{client}")
                    && form.get("refresh_token") == format!("refresh-of-{client}");
                if fits { self.bearer(GOOGLE, "user") } else { wrong("Bad Request") }
            }
            _ => Reply::json(&json!({ "error": "unsupported_grant_type" })).status(400),
        }
    }

    /// Signature and claims of a service account's assertion.
    fn assertion(&self, jwt: &str, now: SystemTime) -> Result<(), &'static str> {
        let mut parts = jwt.rsplitn(2, '.');
        let (signature, signed) = (parts.next().unwrap_or_default(), parts.next().ok_or("no JWT")?);
        let (head, claims) = signed.split_once('.').ok_or("no JWT")?;
        let account = self.account().ok_or("no account")?;
        let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, account.public_key());
        let signature = base64url::decode(signature).ok_or("the signature is no base64url")?;
        key.verify(signed.as_bytes(), &signature).map_err(|_| "Invalid JWT Signature.")?;
        let json = |part: &str| -> Option<Value> { serde_json::from_slice(&base64url::decode(part)?).ok() };
        let (head, claims) = (json(head).ok_or("no head")?, json(claims).ok_or("no claims")?);
        if head.get("alg") != Some(&json!("RS256")) || head.get("kid") != Some(&json!(KEY_ID)) {
            return Err("Invalid JWT: algorithm or key id");
        }
        for (name, wanted) in [("iss", EMAIL), ("aud", TOKEN_URL), ("scope", SCOPE)] {
            if claims.get(name) != Some(&json!(wanted)) {
                return Err("Invalid JWT: iss, aud or scope");
            }
        }
        let number = |name: &str| claims.get(name).and_then(Value::as_u64).unwrap_or(0);
        let now = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |span| span.as_secs());
        let (iat, exp) = (number("iat"), number("exp"));
        if iat.abs_diff(now) > 300 || exp <= now || exp > iat + 3600 {
            return Err("Invalid JWT: Token must be a short-lived token and in a reasonable timeframe.");
        }
        Ok(())
    }

    fn sts(&self, call: &Call, now: SystemTime) -> Reply {
        let wrong = |code: &str| {
            let text =
                format!("<ErrorResponse><Error><Code>{code}</Code><Message>no</Message></Error></ErrorResponse>");
            Reply::bytes("text/xml", text.into()).status(403)
        };
        let Some(form) = Form::of(call).filter(|form| form.get("Version") == "2011-06-15") else {
            return wrong("InvalidAction");
        };
        let (arn, action) = (form.get("RoleArn"), form.get("Action"));
        let authorization = call.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        match (&*action, authorization) {
            ("AssumeRole", Some(authorization)) => match verify::aws(call, authorization, now) {
                // A role whose name asks for it is guarded by an external id.
                Ok(_) if arn.ends_with("-external") && form.get("ExternalId") != "external-1" => {
                    return wrong("AccessDenied");
                }
                Ok(_) => {}
                Err(_) => return wrong("SignatureDoesNotMatch"),
            },
            ("AssumeRoleWithWebIdentity", None) if form.get("WebIdentityToken") == "web-identity-token" => {}
            ("AssumeRoleWithWebIdentity", None) => return wrong("InvalidIdentityToken"),
            _ => return wrong("MissingAuthenticationToken"),
        }
        if form.get("RoleSessionName").len() < 2 || !arn.starts_with("arn:aws") {
            return wrong("ValidationError");
        }
        let Keys { id, secret, token, expiration } = self.keys(now);
        let text = format!(
            "<{action}Response><{action}Result><Credentials><AccessKeyId>{id}</AccessKeyId>\
             <SecretAccessKey>{secret}</SecretAccessKey><SessionToken>{token}</SessionToken>\
             <Expiration>{expiration}</Expiration></Credentials></{action}Result></{action}Response>"
        );
        Reply::bytes("text/xml", text.into())
    }

    /// Metadata services, told apart by their paths.
    fn machine(&self, call: &Call, path: &str, now: SystemTime) -> Option<Reply> {
        let header = |name: &str| call.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let denied = || Reply::bytes("text/plain", "no".into()).status(401);
        let keys = || {
            let Keys { id, secret, token, expiration } = self.keys(now);
            Reply::json(&json!({
                "AccessKeyId": id, "SecretAccessKey": secret, "Token": token, "Expiration": expiration, "Code": "Success",
            }))
        };
        const INSTANCE: &str = "/latest/meta-data/iam/security-credentials/";
        Some(match path {
            "/computeMetadata/v1/instance/service-accounts/default/token" => {
                if header("metadata-flavor") != "Google" {
                    return Some(denied());
                }
                let flavor = (HeaderName::from_static("metadata-flavor"), HeaderValue::from_static("Google"));
                self.bearer(GOOGLE, "machine").header(flavor.0, flavor.1)
            }
            "/metadata/identity/oauth2/token" => {
                let query = Form::parse(call.uri.query().unwrap_or_default().as_bytes());
                let fits = header("metadata") == "true"
                    && query.get("api-version") == "2018-02-01"
                    && query.get("resource").starts_with("https://")
                    && !query.get("resource").ends_with("/.default");
                if fits { self.bearer(ENTRA, "machine") } else { denied() }
            }
            "/__mock/container-credentials" => {
                if header("authorization") == "container-token" {
                    keys()
                } else {
                    denied()
                }
            }
            path if path.starts_with(INSTANCE) => {
                if header("x-aws-ec2-metadata-token") != SESSION {
                    return Some(denied());
                }
                match path.strip_prefix(INSTANCE) {
                    Some("") => Reply::bytes("text/plain", ROLE.into()),
                    Some(ROLE) => keys(),
                    _ => Reply::bytes("text/plain", "no".into()).status(404),
                }
            }
            _ => return None,
        })
    }

    fn number(&self) -> u64 {
        self.issued.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// A client whose id ends in `-lives-N` gets a token for N seconds.
    fn bearer(&self, kind: &str, whose: &str) -> Reply {
        let life: u64 = whose.rsplit_once("-lives-").and_then(|(_, life)| life.parse().ok()).unwrap_or(3599);
        let token = format!("{kind}{whose}.{}", self.number());
        Reply::json(&json!({ "access_token": token, "expires_in": life, "token_type": "Bearer" }))
    }

    fn keys(&self, now: SystemTime) -> Keys {
        let id = format!("ASIAMOCK{}", self.number());
        let end = OffsetDateTime::from(now + Duration::from_secs(3600));
        Keys {
            secret: format!("secret-of-{id}"),
            token: format!("token-of-{id}"),
            expiration: end.replace_nanosecond(0).unwrap_or(end).format(&Rfc3339).unwrap_or_default(),
            id,
        }
    }
}

struct Keys {
    id: String,
    secret: String,
    token: String,
    expiration: String,
}

/// IMDSv2: a session is asked for first.
fn session(call: &Call) -> Reply {
    let ttl = call.headers.get("x-aws-ec2-metadata-token-ttl-seconds").and_then(|value| value.to_str().ok());
    match ttl.and_then(|ttl| ttl.parse::<u32>().ok()) {
        Some(1..=21_600) => Reply::bytes("text/plain", SESSION.into()),
        _ => Reply::bytes("text/plain", "no".into()).status(400),
    }
}

/// The fields of a form, each once.
struct Form(Vec<(String, String)>);

impl Form {
    fn of(call: &Call) -> Option<Self> {
        let kind = call.headers.get(CONTENT_TYPE)?.to_str().ok()?;
        kind.starts_with("application/x-www-form-urlencoded").then(|| Self::parse(&call.body))
    }

    fn parse(bytes: &[u8]) -> Self {
        Self(form_urlencoded::parse(bytes).into_owned().collect())
    }

    /// Empty where the field is missing, or there twice.
    fn get(&self, name: &str) -> Cow<'_, str> {
        let mut found = self.0.iter().filter(|(it, _)| it == name);
        match (found.next(), found.next()) {
            (Some((_, value)), None) => Cow::Borrowed(value),
            _ => Cow::Borrowed(""),
        }
    }
}
