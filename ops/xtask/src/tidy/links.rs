//! Relative links in Markdown lead somewhere, anchors included.

use super::{Finding, Tree};
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let anchors: BTreeMap<&str, BTreeSet<String>> =
        tree.ending_in(".md").map(|(path, text)| (path, anchors(text))).collect();
    let mut findings = Vec::new();
    for (path, text) in tree.ending_in(".md") {
        for (line, target) in links(text) {
            if let Some(what) = broken(tree, &anchors, path, &target) {
                let mend = "correct the link, or restore what it names";
                findings.push(Finding::new((path, line), format!("link to {target}"), what, mend));
            }
        }
    }
    findings
}

fn broken(tree: &Tree, anchors: &BTreeMap<&str, BTreeSet<String>>, from: &str, target: &str) -> Option<String> {
    let (file, anchor) = target.split_once('#').map_or((target, None), |(file, anchor)| (file, Some(anchor)));
    let path = if file.is_empty() {
        from.to_owned()
    } else {
        let Some(path) = resolve(from, file) else { return Some("it leaves the repository".to_owned()) };
        path
    };
    let folder = format!("{path}/");
    let is_there = path.is_empty()
        || tree.files.contains_key(&path)
        || tree.files.range(folder.clone()..).next().is_some_and(|(name, _)| name.starts_with(&folder));
    if !is_there {
        return Some(format!("there is no {path}"));
    }
    let (anchor, known) = (anchor?, anchors.get(path.as_str())?);
    (!known.contains(anchor)).then(|| format!("{path} has no heading for #{anchor}"))
}

/// `target` seen from the folder of `from`; none when it climbs out of the repository.
fn resolve(from: &str, target: &str) -> Option<String> {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

/// Lines outside fenced code, with their numbers from 1.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter_map(move |(at, line)| {
        let is_fence = line.trim_start().starts_with("```") || line.trim_start().starts_with("~~~");
        fenced ^= is_fence;
        (!fenced && !is_fence).then_some((at + 1, line))
    })
}

/// `[text](target)` and `[name]: target`, without what leads to other hosts.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in prose(text) {
        // Every second piece between backticks is code.
        let line: String = line.split('`').step_by(2).collect::<Vec<_>>().join(" ");
        let mut rest = line.as_str();
        while let Some((_, after)) = rest.split_once("](") {
            let Some((target, left)) = after.split_once(')') else { break };
            found.push((number, target.split_whitespace().next().unwrap_or_default().to_owned()));
            rest = left;
        }
        let definition = line.trim_start().strip_prefix('[').and_then(|rest| rest.split_once("]: "));
        found.extend(definition.map(|(_, target)| (number, target.trim().to_owned())));
    }
    found.retain(|(_, target)| !target.contains("://") && !target.starts_with("mailto:"));
    found
}

/// The anchors that headings get where the pages are shown: lower case, dashes for spaces, no punctuation.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (_, line) in prose(text) {
        let heading = line.trim_start_matches('#');
        let level = line.len() - heading.len();
        if !(1..=6).contains(&level) || !heading.starts_with(' ') {
            continue;
        }
        let kept = heading.trim().to_lowercase();
        let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        let slug: String = kept.map(|c| if c == ' ' { '-' } else { c }).collect();
        let again = (1..).map(|count| format!("{slug}-{count}"));
        let free = std::iter::once(slug.clone()).chain(again).find(|name| !found.contains(name));
        found.extend(free);
    }
    found
}
