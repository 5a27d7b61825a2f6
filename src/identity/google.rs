//! Tokens of Google: a service account's signed assertion, a user's refresh token, else what the
//! machine has — the file that `GOOGLE_APPLICATION_CREDENTIALS` names, gcloud's own, the metadata
//! server.
//!
//! All are exchanged at Google's token endpoint, whatever a file says. It can be moved by gcloud's
//! variable `CLOUDSDK_AUTH_TOKEN_HOST`, the metadata server by `GCE_METADATA_HOST`.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde_json::json;

use super::cell::Fetched;
use super::exchange::{Exchange, Issuer, header};
use super::{NoPass, jwt};
use crate::provider::credential::google::{SCOPE, TOKEN_URL};
use crate::provider::credential::{AuthorizedUser, Google, ServiceAccount};
use crate::secret::Secret;

const GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const METADATA: &str = "metadata.google.internal";
const METADATA_PATH: &str = "/computeMetadata/v1/instance/service-accounts/default/token";
/// Life of an assertion: the longest that Google takes.
const ASSERTION_SECONDS: u64 = 3600;

pub async fn fetch(exchange: &Exchange, google: &Google) -> Result<Fetched, NoPass> {
    match google {
        Google::ServiceAccount(account) => of_account(exchange, account).await,
        Google::AuthorizedUser(user) => of_user(exchange, user).await,
        Google::Ambient => ambient(exchange).await,
    }
}

async fn of_account(exchange: &Exchange, account: &ServiceAccount) -> Result<Fetched, NoPass> {
    let assertion = assertion(account, exchange.world.wall())?;
    exchange.post_form(&issuer(exchange)?, "", &[("grant_type", GRANT), ("assertion", &assertion)]).await?.bearer()
}

fn assertion(account: &ServiceAccount, wall: SystemTime) -> Result<String, NoPass> {
    let iat = wall.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |span| span.as_secs());
    let head = match &account.private_key_id {
        Some(id) => json!({"alg": "RS256", "typ": "JWT", "kid": id}),
        None => json!({"alg": "RS256", "typ": "JWT"}),
    };
    let claims = json!({
        "iss": account.client_email, "scope": SCOPE, "aud": TOKEN_URL, "iat": iat, "exp": iat + ASSERTION_SECONDS,
    });
    jwt::rs256(&account.private_key, &head.to_string(), &claims.to_string()).map_err(NoPass::Unusable)
}

async fn of_user(exchange: &Exchange, user: &AuthorizedUser) -> Result<Fetched, NoPass> {
    let fields = [
        ("grant_type", "refresh_token"),
        ("client_id", &*user.client_id),
        ("client_secret", user.client_secret.expose()),
        ("refresh_token", user.refresh_token.expose()),
    ];
    exchange.post_form(&issuer(exchange)?, "", &fields).await?.bearer()
}

fn issuer(exchange: &Exchange) -> Result<Issuer, NoPass> {
    let moved = exchange.env("CLOUDSDK_AUTH_TOKEN_HOST");
    Issuer::public(moved.as_ref().map_or(TOKEN_URL, Secret::expose))
}

/// Application default credentials.
async fn ambient(exchange: &Exchange) -> Result<Fetched, NoPass> {
    let named = exchange.env("GOOGLE_APPLICATION_CREDENTIALS");
    let file = match &named {
        Some(path) => Some(
            exchange
                .world
                .file(Path::new(path.expose()))
                .ok_or(NoPass::Unusable("the file of GOOGLE_APPLICATION_CREDENTIALS cannot be read"))?,
        ),
        None => gcloud_file(exchange).and_then(|path| exchange.world.file(&path)),
    };
    let Some(file) = file else { return of_machine(exchange).await };
    match Google::parse(&file) {
        Ok(Google::ServiceAccount(account)) => of_account(exchange, &account).await,
        Ok(Google::AuthorizedUser(user)) => of_user(exchange, &user).await,
        Ok(Google::Ambient) => Err(NoPass::Unexpected),
        Err(_) => Err(NoPass::Unusable("the file of application default credentials is none that is taken")),
    }
}

/// Where `gcloud auth application-default login` puts its file.
fn gcloud_file(exchange: &Exchange) -> Option<PathBuf> {
    let folder = match exchange.env("CLOUDSDK_CONFIG") {
        Some(folder) => PathBuf::from(folder.expose()),
        None => Path::new(exchange.env("HOME")?.expose()).join(".config/gcloud"),
    };
    Some(folder.join("application_default_credentials.json"))
}

async fn of_machine(exchange: &Exchange) -> Result<Fetched, NoPass> {
    const NONE: NoPass = NoPass::Unusable("no credential: neither auth_credentials, nor application default ones");
    let moved = exchange.env("GCE_METADATA_HOST");
    let host = moved.as_ref().map_or(METADATA, Secret::expose);
    let issuer = Issuer::metadata(&format!("http://{host}"))?;
    let told = match exchange.get(&issuer, METADATA_PATH, header("metadata-flavor", "Google")?).await {
        // No such service: this is no machine of Google's.
        Err(NoPass::Unreachable) => return Err(NONE),
        told => told?,
    };
    // Whatever else answers on that name is not it.
    if told.headers.get("metadata-flavor").is_none_or(|flavor| flavor != "Google") {
        return Err(NONE);
    }
    told.bearer()
}
