//! A crate is a layer, arrows between crates point down or sideways, and what decides reaches no I/O and no chance.

use super::source::{Config, Crate, Graph};
use super::{Finding, TIDY};
use std::collections::{BTreeMap, VecDeque};

pub(super) fn check(graph: &Graph, config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    let floors: BTreeMap<&str, usize> = config
        .floors
        .iter()
        .enumerate()
        .flat_map(|(floor, names)| names.iter().map(move |name| (name.as_str(), floor)))
        .collect();
    for member in graph.crates.iter().filter(|one| one.is_member) {
        match floors.get(member.name.as_str()) {
            Some(floor) => findings.extend(upward(graph, member, *floor, &floors)),
            None => findings.push(Finding::new(
                (TIDY, 1),
                format!("{} stands on no floor", member.name),
                "arrows to and from it cannot be checked",
                "give it a floor, with a decision record for the new crate",
            )),
        }
    }
    for name in &config.pure.crates {
        match graph.crates.iter().position(|one| one.is_member && one.name == *name) {
            Some(start) => findings.extend(impure(graph, start, &config.pure.never)),
            None => findings.push(Finding::new(
                (TIDY, 1),
                format!("{name} is listed as pure and is no crate here"),
                "nothing is checked by that line",
                "correct the name",
            )),
        }
    }
    findings
}

fn upward(graph: &Graph, from: &Crate, floor: usize, floors: &BTreeMap<&str, usize>) -> Vec<Finding> {
    let targets = from.needs.iter().map(|&at| &graph.crates[at]).filter(|to| to.is_member);
    targets
        .filter(|to| floors.get(to.name.as_str()).is_some_and(|&other| other < floor))
        .map(|to| {
            Finding::new(
                ("Cargo.toml", 1),
                format!("{} depends on {}", from.name, to.name),
                "arrows between crates never run up",
                "move what is shared to a floor below both",
            )
        })
        .collect()
}

/// Searches breadth first, so that the way shown is a shortest one.
fn impure(graph: &Graph, start: usize, never: &[String]) -> Vec<Finding> {
    let mut came_from: BTreeMap<usize, usize> = BTreeMap::from([(start, start)]);
    let mut queue = VecDeque::from([start]);
    let mut findings = Vec::new();
    while let Some(at) = queue.pop_front() {
        let here = &graph.crates[at];
        if at != start && never.iter().any(|pattern| is_named(&here.name, pattern)) {
            findings.push(Finding::new(
                ("Cargo.toml", 1),
                format!("{} reaches {} by {}", graph.crates[start].name, here.name, way(graph, &came_from, at)),
                "it must stay free of I/O, clocks and chance",
                "take the effect to the floor above, or leave the feature out",
            ));
            continue;
        }
        for &next in here.links.iter().filter(|&&next| !graph.crates[next].is_macro) {
            if let std::collections::btree_map::Entry::Vacant(free) = came_from.entry(next) {
                free.insert(at);
                queue.push_back(next);
            }
        }
    }
    findings
}

fn is_named(name: &str, pattern: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    }
}

fn way(graph: &Graph, came_from: &BTreeMap<usize, usize>, end: usize) -> String {
    let mut names = vec![graph.crates[end].name.as_str()];
    let mut at = end;
    while let Some(&before) = came_from.get(&at).filter(|&&before| before != at) {
        names.push(&graph.crates[before].name);
        at = before;
    }
    names.reverse();
    names.join(" > ")
}
