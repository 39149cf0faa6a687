//! Every crate's licence is one that we may ship under, and a family of crates that must agree has one version each.
//! cargo-deny checks the same where it is installed; CI does not depend on that.

use super::source::Graph;
use super::{DENY, Finding};
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn check(graph: &Graph, allowed: &[String]) -> Vec<Finding> {
    let allowed: BTreeSet<&str> = allowed.iter().map(String::as_str).collect();
    let refuse = |name: &str, version: &str, licence: &str| {
        Finding::new(
            ("Cargo.lock", 1),
            format!("{name} {version} has the licence {licence}"),
            format!("{DENY} does not allow it"),
            "use another crate; allow a new licence only with a decision record",
        )
    };
    let judge = |one: &super::source::Crate| match &one.license {
        Some(text) if is_allowed(text, &allowed) => None,
        Some(text) => Some(refuse(&one.name, &one.version, text)),
        None => Some(refuse(&one.name, &one.version, "that it does not name")),
    };
    graph.crates.iter().filter_map(judge).collect()
}

/// Refuses a second version of any crate whose name begins with `family`.
pub(super) fn check_single(graph: &Graph, family: &str) -> Vec<Finding> {
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for one in graph.crates.iter().filter(|one| one.name.starts_with(family)) {
        versions.entry(&one.name).or_default().insert(&one.version);
    }
    let several = versions.into_iter().filter(|(_, found)| found.len() > 1);
    several
        .map(|(name, found)| {
            let found: Vec<_> = found.into_iter().collect();
            Finding::new(
                ("Cargo.lock", 1),
                format!("{name} is there as {}", found.join(" and ")),
                "with two versions spans are dropped without a word",
                "move the whole family to one version",
            )
        })
        .collect()
}

/// Whether an SPDX expression can be met: `OR` by either side, `AND` by both. A `/` of old manifests is an `OR`.
fn is_allowed(expression: &str, allowed: &BTreeSet<&str>) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let tokens: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    let met = either(&tokens, &mut at, allowed);
    // What cannot be read to its end is not allowed.
    met.unwrap_or(false) && at == tokens.len()
}

fn either(tokens: &[&str], at: &mut usize, allowed: &BTreeSet<&str>) -> Option<bool> {
    let mut met = both(tokens, at, allowed)?;
    while tokens.get(*at) == Some(&"OR") {
        *at += 1;
        met |= both(tokens, at, allowed)?;
    }
    Some(met)
}

fn both(tokens: &[&str], at: &mut usize, allowed: &BTreeSet<&str>) -> Option<bool> {
    let mut met = single(tokens, at, allowed)?;
    while tokens.get(*at) == Some(&"AND") {
        *at += 1;
        met &= single(tokens, at, allowed)?;
    }
    Some(met)
}

fn single(tokens: &[&str], at: &mut usize, allowed: &BTreeSet<&str>) -> Option<bool> {
    let token = *tokens.get(*at)?;
    *at += 1;
    if token == "(" {
        let met = either(tokens, at, allowed)?;
        let closed = tokens.get(*at) == Some(&")");
        *at += 1;
        return closed.then_some(met);
    }
    if tokens.get(*at) == Some(&"WITH") {
        let exception = *tokens.get(*at + 1)?;
        *at += 2;
        return Some(allowed.contains(format!("{token} WITH {exception}").as_str()));
    }
    Some(allowed.contains(token))
}
