//! `prices`: what an upstream model costs, by name.

use std::collections::HashMap;

use super::provider::ProviderDraft;
use super::{Compiler, did_you_mean};
use crate::budget::Price;
use crate::config::Code;
use crate::config::file::PriceFile;
use crate::config::problem::pointer_to;
use crate::snapshot::Prices;

pub(super) fn all(cx: &mut Compiler<'_>, files: &[(String, PriceFile)], providers: &[ProviderDraft]) -> Prices {
    let mut prices = Prices { models: HashMap::new(), providers: HashMap::new() };
    for (name, file) in files {
        let at = pointer_to("/prices", name);
        let Some(price) = one(file) else {
            let problem =
                cx.problems.error(Code::MissingMember, &*at, "no price: neither input nor output costs anything");
            problem.hint("write 0 for a model that is free");
            continue;
        };
        let folded = name.to_ascii_lowercase();
        match folded.strip_suffix("/*") {
            Some(provider) => {
                let known = || providers.iter().map(|draft| draft.name.as_str());
                if !known().any(|known| known.eq_ignore_ascii_case(provider)) {
                    let text = "the price's provider is not configured";
                    let problem = cx.problems.warning(Code::UnknownReference, &*at, text);
                    if let Some(hint) = did_you_mean(provider, known()) {
                        problem.hint(hint);
                    }
                }
                prices.providers.insert(provider.into(), price);
            }
            None if folded.is_empty() || folded.contains('*') => {
                let problem = cx.problems.error(Code::BadValue, &*at, "not the name of a model");
                problem.hint("`model`, `provider/model` or `provider/*`");
            }
            None => {
                if prices.models.insert(folded.into(), price).is_some() {
                    cx.problems.error(Code::Duplicate, at, "another price has this name in another spelling");
                }
            }
        }
    }
    prices
}

/// What is not priced apart costs what it is a part of.
fn one(file: &PriceFile) -> Option<Price> {
    if file.input_usd_per_mtok.is_none() && file.output_usd_per_mtok.is_none() {
        return None;
    }
    let input = file.input_usd_per_mtok.unwrap_or_default();
    let output = file.output_usd_per_mtok.unwrap_or_default();
    Some(Price {
        input: Price::per_token(input),
        input_cached: Price::per_token(file.cached_input_usd_per_mtok.unwrap_or(input)),
        input_cache_written: Price::per_token(file.cache_write_usd_per_mtok.unwrap_or(input)),
        output: Price::per_token(output),
        reasoning: Price::per_token(file.reasoning_usd_per_mtok.unwrap_or(output)),
    })
}
