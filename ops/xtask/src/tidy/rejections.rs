//! A rejection says by its fields what the caller can act on; one whose only field is text says it to nobody.

use super::{Finding, Tree};
use syn::visit::{self, Visit};

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.rust() {
        // What does not parse is reported with the sizes.
        if let Ok(file) = syn::parse_file(text) {
            let mut search = Search { path, findings: &mut findings };
            search.visit_file(&file);
        }
    }
    findings
}

struct Search<'a> {
    path: &'a str,
    findings: &'a mut Vec<Finding>,
}

impl<'ast> Visit<'ast> for Search<'_> {
    fn visit_item_enum(&mut self, node: &'ast syn::ItemEnum) {
        if node.ident == "Rejection" {
            let textual = node.variants.iter().filter(|variant| {
                let mut fields = variant.fields.iter();
                matches!((fields.next(), fields.next()), (Some(only), None) if is_string(&only.ty))
            });
            for variant in textual {
                self.findings.push(Finding::new(
                    (self.path, variant.ident.span().start().line),
                    format!("Rejection::{} has a String as its only field", variant.ident),
                    "a caller would have to match on text",
                    "give it fields with types of their own",
                ));
            }
        }
        visit::visit_item_enum(self, node);
    }
}

fn is_string(field: &syn::Type) -> bool {
    let syn::Type::Path(path) = field else { return false };
    path.path.segments.last().is_some_and(|last| last.ident == "String")
}
