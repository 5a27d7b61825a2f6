//! `proxy_config`: the proxy on the way to a provider, from the file or from the environment.
//!
//! What does not resolve makes the provider's keys unready: nothing goes past a proxy that was asked for.

use std::sync::Arc;

use super::{Compiler, secrets};
use crate::config::file::ProxyFile;
use crate::config::problem::pointer_to;
use crate::config::{Code, SecretRef};
use crate::limits::PROXY_LOGIN_BYTES_MAX;
use crate::provider::ProxyUrl;
use crate::secret::Secret;
use crate::snapshot::{ProxyEnvironment, ProxyKind, ProxyServer, Reach, Through, Unready};

pub(super) fn of(cx: &mut Compiler<'_>, file: Option<&ProxyFile>, pointer: &str) -> Result<Through, Unready> {
    let Some(file) = file else { return Ok(Through::Nothing) };
    let kind = match file.kind.as_deref() {
        Some("http") => ProxyKind::Http,
        Some("socks5") => ProxyKind::Socks5,
        Some("environment") => return environment(cx, file, pointer),
        Some(_) => return Ok(Through::Nothing),
        None if *file == ProxyFile::default() => return Ok(Through::Nothing),
        None => {
            cx.missing(pointer, "type", "`http`, `socks5`, `environment` or `none`");
            return Err(Unready::Incomplete { what: "no type of proxy".to_owned() });
        }
    };
    let login = login(cx, file, pointer);
    let at = pointer_to(pointer, "url");
    let Some(reference) = file.url.as_ref().filter(|url| !secrets::is_empty_literal(url)) else {
        cx.missing(pointer, "url", "like `\"http://proxy.example:3128\"` or `\"socks5://127.0.0.1:1080\"`");
        return Err(Unready::Incomplete { what: "no address of the proxy".to_owned() });
    };
    let url = cx.proxy_url(reference, kind, &at)?;
    let ca_pem = match &file.ca_cert_pem {
        Some(reference) => Some(trusted(cx, reference, &url, pointer)?),
        None => None,
    };
    let reach = match file.public_address_only {
        Some(true) if !cx.is_allowed_origin(&url.host, url.port) => Reach::Public,
        _ => Reach::Anywhere,
    };
    let ProxyUrl { tls, host, port, .. } = url;
    Ok(Through::Server(Arc::new(ProxyServer { kind, tls, host, port, ca_pem, login: login?, reach })))
}

fn trusted(cx: &mut Compiler<'_>, reference: &SecretRef, url: &ProxyUrl, pointer: &str) -> Result<Arc<str>, Unready> {
    let at = pointer_to(pointer, "ca_cert_pem");
    if !url.tls {
        let problem = cx.problems.error(Code::Conflict, &*at, "this proxy is not spoken to over TLS");
        problem.hint("the CA of a proxy that opens TLS goes into `network_config.ca_cert_pem`");
    }
    cx.certificates(reference, &at)
}

/// Name and password; each as long as SOCKS can carry.
fn login(cx: &mut Compiler<'_>, file: &ProxyFile, pointer: &str) -> Result<Option<(Secret, Secret)>, Unready> {
    let mut part = |reference: Option<&SecretRef>, member: &str| {
        let reference = reference.filter(|reference| !secrets::is_empty_literal(reference));
        reference
            .map(|reference| cx.proxy_login(reference, &pointer_to(pointer, member), PROXY_LOGIN_BYTES_MAX))
            .transpose()
    };
    let (name, password) = (part(file.username.as_ref(), "username"), part(file.password.as_ref(), "password"));
    match (name?, password?) {
        (None, None) => Ok(None),
        (Some(name), password) => Ok(Some((name, password.unwrap_or_else(|| Secret::new(""))))),
        (None, Some(_)) => {
            cx.missing(pointer, "username", "a password goes with a name");
            Err(Unready::Incomplete { what: "a password without a name at the proxy".to_owned() })
        }
    }
}

fn environment(cx: &mut Compiler<'_>, file: &ProxyFile, pointer: &str) -> Result<Through, Unready> {
    let written = [
        ("url", &file.url),
        ("username", &file.username),
        ("password", &file.password),
        ("ca_cert_pem", &file.ca_cert_pem),
    ];
    for (member, _) in written.iter().filter(|(_, it)| it.as_ref().is_some_and(|it| !secrets::is_empty_literal(it))) {
        let problem = cx.problems.error(Code::Conflict, pointer_to(pointer, member), "the environment says this");
        problem.hint("remove the member, or name the proxy here: `\"type\": \"http\"`");
    }
    let exempt = cx.proxy_exemptions();
    let https = cx.proxy_of_environment(&["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"], pointer)?;
    let http = cx.proxy_of_environment(&["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"], pointer)?;
    Ok(Through::Environment(Box::new(ProxyEnvironment { https, http, exempt })))
}
