//! Tokens of Entra: client credentials of the config, else what the machine has — an application in
//! the environment, workload identity, managed identity.
//!
//! Authority and metadata service can be moved by the variables of Azure's own SDKs
//! (`AZURE_AUTHORITY_HOST`, `IDENTITY_ENDPOINT`, `AZURE_POD_IDENTITY_AUTHORITY_HOST`).

use std::path::Path;

use super::NoPass;
use super::cell::Fetched;
use super::exchange::{Exchange, Issuer, form, header};
use crate::provider::credential::{Entra, EntraApp, azure};
use crate::secret::Secret;

const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
const METADATA: &str = "http://169.254.169.254";

pub async fn fetch(exchange: &Exchange, entra: &Entra) -> Result<Fetched, NoPass> {
    match &entra.app {
        EntraApp::Secret { tenant, client_id, client_secret } => {
            let proof = [("client_secret", client_secret.expose())];
            client_credentials(exchange, entra, tenant, client_id, &proof).await
        }
        EntraApp::Ambient { tenant, client_id } => {
            ambient(exchange, entra, tenant.as_deref(), client_id.as_deref()).await
        }
    }
}

/// In the order of Azure's default credential, as far as a server has them.
async fn ambient(
    exchange: &Exchange,
    entra: &Entra,
    tenant: Option<&str>,
    client_id: Option<&str>,
) -> Result<Fetched, NoPass> {
    let wrong = |_| NoPass::Unusable("AZURE_TENANT_ID or AZURE_CLIENT_ID is not one");
    let own = |name: &str, given: Option<&str>, parse: fn(&Secret) -> Result<Box<str>, &'static str>| {
        let found = || exchange.env(name).map(|value| parse(&value).map_err(wrong)).transpose();
        given.map_or_else(found, |given| Ok(Some(given.into())))
    };
    let tenant = own("AZURE_TENANT_ID", tenant, azure::tenant)?;
    let named = client_id.is_some();
    let client_id = own("AZURE_CLIENT_ID", client_id, azure::client_id)?;
    if let (Some(tenant), Some(client_id)) = (&tenant, &client_id) {
        if let Some(secret) = exchange.env("AZURE_CLIENT_SECRET").filter(|_| !named) {
            let proof = [("client_secret", secret.expose())];
            return client_credentials(exchange, entra, tenant, client_id, &proof).await;
        }
        if let Some(file) = exchange.env("AZURE_FEDERATED_TOKEN_FILE") {
            // Read each time: the cluster puts a new one there every hour.
            let token = exchange.world.file(Path::new(file.expose()));
            let token = token.ok_or(NoPass::Unusable("the file of AZURE_FEDERATED_TOKEN_FILE cannot be read"))?;
            let proof = [("client_assertion_type", ASSERTION_TYPE), ("client_assertion", token.expose().trim())];
            return client_credentials(exchange, entra, tenant, client_id, &proof).await;
        }
    }
    managed(exchange, entra, client_id.as_deref()).await
}

async fn client_credentials(
    exchange: &Exchange,
    entra: &Entra,
    tenant: &str,
    client_id: &str,
    proof: &[(&str, &str)],
) -> Result<Fetched, NoPass> {
    let moved = exchange.env("AZURE_AUTHORITY_HOST");
    let authority = Issuer::public(&with_scheme(moved.as_ref().map_or(entra.cloud.authority(), Secret::expose)))?;
    let mut fields = vec![("grant_type", "client_credentials"), ("client_id", client_id), ("scope", &*entra.scope)];
    fields.extend(proof);
    // A tenant was checked to be plain.
    exchange.post_form(&authority, &format!("/{tenant}/oauth2/v2.0/token"), &fields).await?.bearer()
}

/// The variable may hold a bare host, as Azure's SDKs have it.
fn with_scheme(authority: &str) -> String {
    if authority.contains("://") { authority.to_owned() } else { format!("https://{authority}") }
}

/// Managed identity: of an app service, else of the instance.
async fn managed(exchange: &Exchange, entra: &Entra, client_id: Option<&str>) -> Result<Fetched, NoPass> {
    // A resource is a scope without its tail.
    let resource = entra.scope.split(' ').next().unwrap_or_default();
    let resource = resource.strip_suffix("/.default").unwrap_or(resource);
    let query = |version: &str| {
        let mut fields = vec![("api-version", version), ("resource", resource)];
        fields.extend(client_id.map(|id| ("client_id", id)));
        String::from_utf8_lossy(&form(&fields)).into_owned()
    };
    if let (Some(endpoint), Some(secret)) = (exchange.env("IDENTITY_ENDPOINT"), exchange.env("IDENTITY_HEADER")) {
        let issuer = Issuer::metadata(endpoint.expose())?;
        let headers = header("x-identity-header", secret.expose())?;
        return exchange.get(&issuer, &format!("?{}", query("2019-08-01")), headers).await?.bearer();
    }
    let moved = exchange.env("AZURE_POD_IDENTITY_AUTHORITY_HOST");
    let issuer = Issuer::metadata(moved.as_ref().map_or(METADATA, Secret::expose))?;
    let path = format!("/metadata/identity/oauth2/token?{}", query("2018-02-01"));
    match exchange.get(&issuer, &path, header("metadata", "true")?).await {
        // No such service: this is no machine of Azure's.
        Err(NoPass::Unreachable) => Err(NoPass::Unusable(
            "no credential: neither client_id, client_secret and tenant_id, nor workload or managed identity",
        )),
        told => told?.bearer(),
    }
}
