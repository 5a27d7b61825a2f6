//! Members that are parsed and whose feature this release does not have.
//!
//! The one list of them: a feature that arrives takes its line out. A value that asks for nothing
//! (`false`, `0`, an empty list) is let through, because files of Bifrost are full of them.

use super::Compiler;
use crate::config::ConfigFile;
use crate::config::file::{NetworkFile, ProviderFile};
use crate::config::problem::pointer_to;

pub(super) fn check(cx: &mut Compiler<'_>, file: &ConfigFile) {
    for (name, provider) in file.providers.iter().flatten() {
        let pointer = pointer_to("/providers", name);
        provider_members(cx, provider, &pointer);
        if let Some(network) = &provider.network_config {
            network_members(cx, network, &pointer_to(&pointer, "network_config"));
        }
    }
    if file.observability.as_ref().is_some_and(|it| it.otlp_endpoint.is_some()) {
        cx.not_yet("/observability/otlp_endpoint", "`otlp_endpoint`");
    }
}

fn refuse(cx: &mut Compiler<'_>, pointer: &str, members: &[(&str, bool)]) {
    for (member, _) in members.iter().filter(|(_, is_wanted)| *is_wanted) {
        cx.not_yet(pointer_to(pointer, member), &format!("`{member}`"));
    }
}

fn provider_members(cx: &mut Compiler<'_>, file: &ProviderFile, pointer: &str) {
    let openai = file.openai_config.as_ref().is_some_and(|it| it.disable_store == Some(true));
    refuse(
        cx,
        pointer,
        &[
            ("concurrency_and_buffer_size", file.concurrency_and_buffer_size.is_some()),
            ("openai_config", openai),
            ("send_back_raw_request", file.send_back_raw_request == Some(true)),
            ("send_back_raw_response", file.send_back_raw_response == Some(true)),
            ("store_raw_request_response", file.store_raw_request_response == Some(true)),
        ],
    );
}

fn network_members(cx: &mut Compiler<'_>, file: &NetworkFile, pointer: &str) {
    refuse(cx, pointer, &[("stream_throughput_guard", file.stream_throughput_guard.is_some())]);
}
