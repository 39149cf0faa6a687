//! Files and functions that are too long are listed with their size; the list may only shrink.

use super::{Finding, RATCHET, Tree};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

/// Lines that a Rust file may have.
const FILE_LINES: usize = 400;
/// Lines that a function may have, from its signature to its last brace.
const FUNCTION_LINES: usize = 70;

/// Lines by file, and by file and function.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sizes {
    #[serde(default)]
    pub(super) files: BTreeMap<String, usize>,
    #[serde(default)]
    pub(super) functions: BTreeMap<String, usize>,
}

/// The head of the file that `--bless` writes.
const HEAD: &str = "# Files over 400 and functions over 70 lines, with the size that they may not outgrow.\n\
                    # Written by `cargo xtask tidy --bless`; a line added here needs a reason in its commit.\n\n";

pub(super) fn write(sizes: &Sizes) -> Result<String, toml::ser::Error> {
    Ok(format!("{HEAD}{}", toml::to_string(sizes)?))
}

/// All sizes, where each function begins, and what could not be parsed.
pub(super) fn measure(tree: &Tree) -> (Sizes, BTreeMap<String, usize>, Vec<Finding>) {
    let (mut sizes, mut begins, mut findings) = (Sizes::default(), BTreeMap::new(), Vec::new());
    for (path, text) in tree.rust() {
        sizes.files.insert(path.to_owned(), text.lines().count());
        match syn::parse_file(text) {
            Ok(file) => {
                let mut lengths = Lengths { prefix: format!("{path} "), sizes: &mut sizes, begins: &mut begins };
                lengths.visit_file(&file);
            }
            Err(error) => findings.push(Finding::new(
                (path, error.span().start().line),
                "not parsed",
                error.to_string(),
                "make it valid Rust",
            )),
        }
    }
    (sizes, begins, findings)
}

/// Those over the limits.
pub(super) fn over(sizes: &Sizes) -> Sizes {
    let above = |map: &BTreeMap<String, usize>, limit: usize| {
        map.iter().filter(|(_, lines)| **lines > limit).map(|(key, lines)| (key.clone(), *lines)).collect()
    };
    Sizes { files: above(&sizes.files, FILE_LINES), functions: above(&sizes.functions, FUNCTION_LINES) }
}

pub(super) fn check(tree: &Tree, allowed: &Sizes) -> Vec<Finding> {
    let (sizes, begins, mut findings) = measure(tree);
    let now = over(&sizes);
    for (file, lines) in &now.files {
        findings.extend(compare((file, 1), *lines, allowed.files.get(file), FILE_LINES));
    }
    for (function, lines) in &now.functions {
        let file = function.split(' ').next().unwrap_or_default();
        let begin = begins.get(function).copied().unwrap_or(1);
        let found = compare((file, begin), *lines, allowed.functions.get(function), FUNCTION_LINES);
        findings.extend(found.map(|finding| Finding { what: format!("{function}: {}", finding.what), ..finding }));
    }
    let loose_files = allowed.files.iter().filter(|(key, lines)| now.files.get(*key).unwrap_or(&0) < lines);
    let loose_functions = allowed.functions.iter().filter(|(key, lines)| now.functions.get(*key).unwrap_or(&0) < lines);
    for (key, lines) in loose_files.chain(loose_functions) {
        findings.push(Finding::new(
            (RATCHET, 1),
            format!("{key} is shorter than the {lines} lines listed"),
            "what has been won should be kept",
            "run cargo xtask tidy --bless and commit the list",
        ));
    }
    findings
}

fn compare(at: (&str, usize), lines: usize, allowed: Option<&usize>, limit: usize) -> Option<Finding> {
    match allowed {
        Some(allowed) if lines <= *allowed => None,
        Some(allowed) => Some(Finding::new(
            at,
            format!("{lines} lines"),
            format!("it had {allowed} and may only shrink"),
            "split it by what it decides, or take the new part elsewhere",
        )),
        None => Some(Finding::new(
            at,
            format!("{lines} lines"),
            format!("more than {limit}"),
            "split it; if it must be, list it by cargo xtask tidy --bless and say why in the commit",
        )),
    }
}

/// Walks one file and notes each function's length under `path module::Type::name`.
struct Lengths<'a> {
    prefix: String,
    sizes: &'a mut Sizes,
    begins: &'a mut BTreeMap<String, usize>,
}

impl Lengths<'_> {
    fn note(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let (begin, end) = (signature.span().start().line, block.span().end().line);
        let key = format!("{}{}", self.prefix, signature.ident);
        let lines = end + 1 - begin;
        // Functions may share a name (by cfg, or in two impls): the longest counts.
        let longest = self.sizes.functions.entry(key.clone()).or_default();
        if lines > *longest {
            *longest = lines;
            self.begins.insert(key, begin);
        }
    }

    fn inside(&mut self, name: &str, walk: impl FnOnce(&mut Self)) {
        let outer = self.prefix.len();
        self.prefix.push_str(name);
        self.prefix.push_str("::");
        walk(self);
        self.prefix.truncate(outer);
    }
}

impl<'ast> Visit<'ast> for Lengths<'_> {
    fn visit_item_fn(&mut self, node: &'ast syn::ItemFn) {
        self.note(&node.sig, &node.block);
        visit::visit_item_fn(self, node);
    }

    fn visit_impl_item_fn(&mut self, node: &'ast syn::ImplItemFn) {
        self.note(&node.sig, &node.block);
        visit::visit_impl_item_fn(self, node);
    }

    fn visit_trait_item_fn(&mut self, node: &'ast syn::TraitItemFn) {
        if let Some(block) = &node.default {
            self.note(&node.sig, block);
        }
        visit::visit_trait_item_fn(self, node);
    }

    fn visit_item_mod(&mut self, node: &'ast syn::ItemMod) {
        self.inside(&node.ident.to_string(), |inner| visit::visit_item_mod(inner, node));
    }

    fn visit_item_trait(&mut self, node: &'ast syn::ItemTrait) {
        self.inside(&node.ident.to_string(), |inner| visit::visit_item_trait(inner, node));
    }

    fn visit_item_impl(&mut self, node: &'ast syn::ItemImpl) {
        let last = if let syn::Type::Path(path) = node.self_ty.as_ref() { path.path.segments.last() } else { None };
        let name = last.map(|segment| segment.ident.to_string());
        self.inside(name.as_deref().unwrap_or("impl"), |inner| visit::visit_item_impl(inner, node));
    }
}
