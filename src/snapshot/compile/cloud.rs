//! `azure_key_config`, `vertex_key_config`, `bedrock_key_config`: where such a key goes and what it
//! shows there.
//!
//! A region, project or tenant becomes part of a host or path only after a check. What the machine
//! itself may do (its role, its service account) is shown to its cloud alone.

use std::sync::Arc;

use super::provider::Host;
use super::{Compiler, secrets};
use crate::config::file::{AzureKeyFile, BedrockKeyFile, KeyFile, VertexKeyFile};
use crate::config::problem::pointer_to;
use crate::config::{Code, SecretRef};
use crate::provider::credential::{
    Aws, AwsKeys, AwsRole, AwsSource, Cloud, Credential, Entra, EntraApp, Google, Source, aws, azure, google,
};
use crate::provider::place::Project;
use crate::provider::{AuthKind, BaseUrl, Place, UpstreamAuth};
use crate::secret::Secret;
use crate::snapshot::Unready;

/// Where Bifrost goes when no region is given.
const DEFAULT_REGION: &str = "us-east-1";

/// Where a key of a cloud goes.
#[derive(Default)]
pub(super) struct Site {
    pub place: Place,
    /// The cloud's own address, where the config names no other.
    pub base_url: Option<String>,
    /// Between the address and the operation, in place of the row's prefix.
    pub below: Option<String>,
    region: Option<Box<str>>,
    google: Option<Google>,
}

/// `None`: the key goes where its row says.
pub(super) fn site(
    cx: &mut Compiler<'_>,
    host: &Host<'_>,
    file: &KeyFile,
    pointer: &str,
) -> Result<Option<Site>, Unready> {
    let kind = host.row.map_or(AuthKind::None, |row| row.auth);
    match kind {
        AuthKind::Azure => azure_site(cx, file.azure_key_config.as_ref(), pointer).map(Some),
        AuthKind::GoogleOAuth => google_site(cx, file.vertex_key_config.as_ref(), pointer).map(Some),
        AuthKind::AwsSigV4 => aws_site(cx, file.bedrock_key_config.as_ref(), pointer).map(Some),
        AuthKind::None | AuthKind::Bearer | AuthKind::Header(_) => Ok(None),
    }
}

fn azure_site(cx: &mut Compiler<'_>, file: Option<&AzureKeyFile>, pointer: &str) -> Result<Site, Unready> {
    let at = pointer_to(pointer, "azure_key_config");
    let version = file.and_then(|file| file.api_version.as_ref());
    let version = optional(cx, version, &pointer_to(&at, "api_version"), azure::api_version)?;
    let place = match version {
        None => Place::Plain,
        Some(word) if &*word == "v1" => Place::Plain,
        Some(word) if word.starts_with(|c: char| c.is_ascii_alphabetic()) => Place::Versioned { api_version: word },
        Some(date) => Place::Deployments { api_version: date },
    };
    Ok(Site { place, ..Site::default() })
}

fn google_site(cx: &mut Compiler<'_>, file: Option<&VertexKeyFile>, pointer: &str) -> Result<Site, Unready> {
    let at = pointer_to(pointer, "vertex_key_config");
    let absent = VertexKeyFile::default();
    let file = file.unwrap_or(&absent);
    let credentials = pointer_to(&at, "auth_credentials");
    let google = optional(cx, file.auth_credentials.as_ref(), &credentials, Google::parse);
    let region = optional(cx, file.region.as_ref(), &pointer_to(&at, "region"), google::region);
    let project = optional(cx, file.project_id.as_ref(), &pointer_to(&at, "project_id"), google::project);
    let number = optional(cx, file.project_number.as_ref(), &pointer_to(&at, "project_number"), google::project_number);
    let (google, region, project, number) = (google?, region?, project?, number?);
    let Some(region) = region else {
        cx.missing(&at, "region", "like `europe-west4`, or `global`");
        return Err(incomplete("the region is missing"));
    };
    let Some(project) = project.or_else(|| google.as_ref()?.project_id().map(Box::from)) else {
        cx.missing(&at, "project_id", "the id of the Google Cloud project");
        return Err(incomplete("the project is missing"));
    };
    Ok(Site {
        base_url: Some(format!("https://{}", google::host(&region))),
        below: Some(format!("/v1/projects/{project}/locations/{region}/endpoints/openapi")),
        place: Place::Project(Box::new(Project { id: project, number, location: region })),
        google: Some(google.unwrap_or(Google::Ambient)),
        region: None,
    })
}

fn aws_site(cx: &mut Compiler<'_>, file: Option<&BedrockKeyFile>, pointer: &str) -> Result<Site, Unready> {
    let at = pointer_to(pointer, "bedrock_key_config");
    if file.is_some_and(|file| file.project_id.is_some()) {
        cx.not_yet(pointer_to(&at, "project_id"), "`project_id`");
    }
    if file.is_some_and(|file| file.batch_s3_config.is_some()) {
        cx.not_yet(pointer_to(&at, "batch_s3_config"), "`batch_s3_config`");
    }
    let region = file.and_then(|file| file.region.as_ref());
    let region = optional(cx, region, &pointer_to(&at, "region"), aws::region);
    let arn = optional(cx, file.and_then(|file| file.arn.as_ref()), &pointer_to(&at, "arn"), aws::arn);
    let (region, arn) = (region?, arn?);
    let region = region.unwrap_or_else(|| {
        let text = format!("no region is given: {DEFAULT_REGION} is used");
        cx.problems.warning(Code::Suspicious, pointer, text).hint("write `\"bedrock_key_config\": {\"region\": …}`");
        DEFAULT_REGION.into()
    });
    Ok(Site {
        base_url: Some(format!("https://bedrock-runtime.{region}.{}", aws::domain(&region))),
        place: arn.map_or(Place::Plain, |arn| Place::Profile { arn }),
        region: Some(region),
        ..Site::default()
    })
}

/// What the key shows. `value` is the key's own, which goes first wherever it is there.
pub(super) fn auth(
    cx: &mut Compiler<'_>,
    host: &Host<'_>,
    file: &KeyFile,
    site: Site,
    base: Option<&BaseUrl>,
    (holder, pointer): (&str, &str),
) -> Result<Option<UpstreamAuth>, Unready> {
    let kind = host.row.map_or(AuthKind::None, |row| row.auth);
    let source = match kind {
        AuthKind::Azure => Source::Entra(entra(cx, file.azure_key_config.as_ref(), base, pointer)?),
        AuthKind::GoogleOAuth => Source::Google(site.google.unwrap_or(Google::Ambient)),
        AuthKind::AwsSigV4 => {
            let region = site.region.clone().unwrap_or_default();
            Source::Aws(signer(cx, file.bedrock_key_config.as_ref(), region, pointer)?)
        }
        AuthKind::None | AuthKind::Bearer | AuthKind::Header(_) => return Ok(None),
    };
    if base.is_some_and(|base| !source.may_be_shown_to(&base.host)) {
        let text = "the identity of this machine would be shown to an address that is not its cloud's";
        let problem = cx.problems.error(Code::Conflict, pointer, text);
        problem.hint("give the key a credential of its own");
        return Err(incomplete("the machine's identity is not shown to this address"));
    }
    let fingerprint = secrets::fingerprint_of_source(cx.fingerprint_key, &source);
    let holder = format!("{}/{holder}", host.name).into();
    let credential = Arc::new(Credential { fingerprint, holder, source });
    Ok(Some(match site.region {
        Some(region) => UpstreamAuth::Signed { credential, region, service: aws::SERVICE },
        None => UpstreamAuth::Token(credential),
    }))
}

fn entra(
    cx: &mut Compiler<'_>,
    file: Option<&AzureKeyFile>,
    base: Option<&BaseUrl>,
    pointer: &str,
) -> Result<Entra, Unready> {
    let at = pointer_to(pointer, "azure_key_config");
    let absent = AzureKeyFile::default();
    let file = file.unwrap_or(&absent);
    let cloud = base.map_or(Cloud::Public, |base| Cloud::of_host(&base.host));
    let scope = azure::scope(file.scopes.as_deref().unwrap_or_default(), cloud).map_err(|what| {
        cx.problems.error(Code::BadValue, pointer_to(&at, "scopes"), what);
        incomplete("the scopes are no scopes")
    });
    let client_id = optional(cx, file.client_id.as_ref(), &pointer_to(&at, "client_id"), azure::client_id);
    let secret = optional(cx, file.client_secret.as_ref(), &pointer_to(&at, "client_secret"), azure::client_secret);
    let tenant = optional(cx, file.tenant_id.as_ref(), &pointer_to(&at, "tenant_id"), azure::tenant);
    let (scope, client_id, secret, tenant) = (scope?, client_id?, secret?, tenant?);
    let app = match (tenant, client_id, secret) {
        (Some(tenant), Some(client_id), Some(client_secret)) => EntraApp::Secret { tenant, client_id, client_secret },
        (tenant, client_id, None) => EntraApp::Ambient { tenant, client_id },
        (tenant, client_id, Some(_)) => {
            for (member, is_there) in [("client_id", client_id.is_some()), ("tenant_id", tenant.is_some())] {
                if !is_there {
                    cx.missing(&at, member, "a client secret belongs to an application of a tenant");
                }
            }
            return Err(incomplete("client_id, client_secret and tenant_id go together"));
        }
    };
    Ok(Entra { app, scope, cloud })
}

fn signer(
    cx: &mut Compiler<'_>,
    file: Option<&BedrockKeyFile>,
    region: Box<str>,
    pointer: &str,
) -> Result<Aws, Unready> {
    let at = pointer_to(pointer, "bedrock_key_config");
    let absent = BedrockKeyFile::default();
    let file = file.unwrap_or(&absent);
    let keep = |secret: &Secret| Ok::<_, &'static str>(secret.clone());
    let access = optional(cx, file.access_key.as_ref(), &pointer_to(&at, "access_key"), keep);
    let secret = optional(cx, file.secret_key.as_ref(), &pointer_to(&at, "secret_key"), keep);
    let token = optional(cx, file.session_token.as_ref(), &pointer_to(&at, "session_token"), keep);
    let role = role(cx, file, &at);
    let (access, secret, token, role) = (access?, secret?, token?, role?);
    let keys = match (access, secret) {
        (Some(access), Some(secret)) => {
            AwsSource::Static(AwsKeys::new(&access, &secret, token.as_ref()).map_err(|(which, what)| {
                let (member, written) = match which {
                    aws::Member::AccessKey => ("access_key", &file.access_key),
                    aws::Member::SecretKey => ("secret_key", &file.secret_key),
                    aws::Member::SessionToken => ("session_token", &file.session_token),
                };
                let what = format!("the value {what}");
                match written {
                    Some(written) => cx.unusable(written, &pointer_to(&at, member), what),
                    None => Unready::Incomplete { what },
                }
            })?)
        }
        (None, None) if token.is_none() => AwsSource::Ambient,
        (access, secret) => {
            for (member, is_there) in [("access_key", access.is_some()), ("secret_key", secret.is_some())] {
                if !is_there {
                    cx.missing(&at, member, "access_key and secret_key go together");
                }
            }
            return Err(incomplete("access_key and secret_key go together"));
        }
    };
    Ok(Aws { keys, role, region })
}

fn role(cx: &mut Compiler<'_>, file: &BedrockKeyFile, at: &str) -> Result<Option<AwsRole>, Unready> {
    let arn = optional(cx, file.role_arn.as_ref(), &pointer_to(at, "role_arn"), aws::role_arn);
    let external_id = optional(cx, file.external_id.as_ref(), &pointer_to(at, "external_id"), aws::external_id);
    let session_name = optional(cx, file.session_name.as_ref(), &pointer_to(at, "session_name"), aws::session_name);
    let (arn, external_id, session_name) = (arn?, external_id?, session_name?);
    let Some(arn) = arn else {
        for (member, is_there) in [("external_id", external_id.is_some()), ("session_name", session_name.is_some())] {
            if is_there {
                let text = "this belongs to a role, and none is named";
                cx.problems.error(Code::Conflict, pointer_to(at, member), text).hint("add `role_arn`");
            }
        }
        return Ok(None);
    };
    let session_name = session_name.unwrap_or_else(|| aws::SESSION_NAME.into());
    Ok(Some(AwsRole { arn, external_id, session_name }))
}

/// A member that may be absent or empty, looked up and parsed. Of one that is no good the value is
/// not shown.
fn optional<T>(
    cx: &mut Compiler<'_>,
    written: Option<&SecretRef>,
    at: &str,
    parse: impl FnOnce(&Secret) -> Result<T, &'static str>,
) -> Result<Option<T>, Unready> {
    let Some(written) = written.filter(|written| !secrets::is_empty_literal(written)) else { return Ok(None) };
    let secret = cx.look(written, at)?;
    parse(&secret).map(Some).map_err(|what| cx.unusable(written, at, format!("the value {what}")))
}

fn incomplete(what: &str) -> Unready {
    Unready::Incomplete { what: what.to_owned() }
}
