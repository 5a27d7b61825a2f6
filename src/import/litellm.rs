//! LiteLLM's config.yaml as one of ours.
//!
//! A deployment becomes a place in a key: its credential, address and order make the key, the name
//! that callers ask for becomes one of its `models`, and an alias where the upstream is asked for
//! another. Requests by the old names find their keys by that. What a bare name cannot say (shares
//! across providers, fallbacks) becomes a route.

mod deployment;
mod keys;
mod routes;
mod settings;
mod vendors;

use super::findings::Findings;
use super::out::Out;
use super::source::At;
use deployment::Deployment;

/// The config that says the same, as far as it can be said.
pub fn convert(root: &At<'_>, findings: &mut Findings) -> Out {
    let mut out = Out::object(root);
    settings::management(root, &mut out, findings);
    let mut deployments = deployment::all(root, findings);
    localize(&mut deployments, findings);
    let providers = keys::providers(root, &deployments, findings);
    out.set_some("providers", Some(settings::network(root, providers, findings)));
    out.set_some("routes", routes::all(root, &deployments, findings));
    settings::report(root, findings);
    out
}

/// A name with a provider before its first `/` means that provider. Such a name loses its prefix
/// where the provider is the deployment's own, and cannot be kept where it is another's.
fn localize(deployments: &mut Vec<Deployment<'_>>, findings: &mut Findings) {
    let providers: Vec<&'static str> = deployments.iter().map(|it| it.vendor.provider).collect();
    for it in deployments.iter_mut() {
        let own = it.vendor.provider;
        it.local = it.public.clone();
        if let Some((prefix, rest)) = it.public.split_once('/')
            && providers.contains(&prefix)
        {
            if prefix == own {
                it.local = rest.to_owned();
            } else {
                let text =
                    format!("requests by this name mean the provider `{prefix}`, and this deployment is of `{own}`");
                findings.dropped(&it.at, text);
                it.local.clear();
            }
        }
    }
    deployments.retain(|it| !it.local.is_empty());
}
