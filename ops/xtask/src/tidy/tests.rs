//! Each check, shown failing on a small bad input and silent on its good twin.

use super::source::{Config, Crate, Graph, Pure, Tree, Word};
use super::{Finding, arrows, golden, licences, links, ratchet, rejections, unformatted, words};
use std::path::Path;

fn tree(files: &[(&str, &str)]) -> Tree {
    Tree { files: files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect() }
}

fn shown(findings: &[Finding]) -> Vec<String> {
    findings.iter().map(Finding::to_string).collect()
}

fn one(findings: &[Finding]) -> String {
    let shown = shown(findings);
    assert_eq!(shown.len(), 1, "{shown:?}");
    shown[0].clone()
}

fn function(name: &str, lines: usize) -> String {
    format!("fn {name}() {{\n{}}}\n", "    drop(());\n".repeat(lines - 2))
}

#[test]
fn a_finding_says_where_what_why_and_what_to_do() {
    let finding = Finding::new(("a.rs", 7), "what", "why", "mend it");
    assert_eq!(finding.to_string(), "a.rs:7: what: why; mend it");
}

#[test]
fn rustfmt_names_become_findings() {
    let found = unformatted(Path::new("repo"), "repo/schemas/src/a.rs\nnot a file\n");
    assert!(one(&found).starts_with("schemas/src/a.rs:1: not formatted"));
    assert!(unformatted(Path::new("repo"), "").is_empty());
}

#[test]
fn a_long_file_fails_unless_it_is_listed_and_may_not_grow() {
    let files = tree(&[("a.rs", &"\n".repeat(401)), ("b.rs", &"\n".repeat(400))]);
    let mut sizes = ratchet::Sizes::default();
    assert!(one(&ratchet::check(&files, &sizes)).starts_with("a.rs:1: 401 lines: more than 400"));
    sizes.files.insert("a.rs".into(), 401);
    assert!(ratchet::check(&files, &sizes).is_empty());
    let grown = tree(&[("a.rs", &"\n".repeat(402))]);
    assert!(one(&ratchet::check(&grown, &sizes)).contains("402 lines: it had 401"));
}

#[test]
fn a_long_function_is_named_with_its_line() {
    let text =
        format!("mod inner {{\nimpl Thing {{\n#[inline]\n{}}}\n}}\n{}", function("long", 71), function("short", 70));
    let files = tree(&[("a.rs", &text)]);
    let found = ratchet::check(&files, &ratchet::Sizes::default());
    assert!(one(&found).starts_with("a.rs:4: a.rs inner::Thing::long: 71 lines: more than 70"), "{found:?}");
}

#[test]
fn braces_in_strings_and_comments_do_not_end_a_function() {
    let text = format!("fn long() {{\nlet _ = \"}}}}\"; // }}\nlet _ = r#\"}}\"#;\n{}}}\n", "\n".repeat(70));
    let found = ratchet::check(&tree(&[("a.rs", &text)]), &ratchet::Sizes::default());
    assert!(one(&found).contains("a.rs long: 74 lines"), "{found:?}");
}

#[test]
fn what_has_shrunk_or_gone_asks_for_a_lower_mark() {
    let mut sizes = ratchet::Sizes::default();
    sizes.files.insert("a.rs".into(), 500);
    sizes.functions.insert("gone.rs f".into(), 90);
    let found = shown(&ratchet::check(&tree(&[("a.rs", &"\n".repeat(450))]), &sizes));
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found.iter().all(|line| line.contains("--bless")), "{found:?}");
}

#[test]
fn blessed_sizes_can_be_read_again_and_leave_no_finding() {
    let files = tree(&[("a.rs", &(function("long", 80) + &"\n".repeat(400)))]);
    let over = ratchet::over(&ratchet::measure(&files).0);
    let text = ratchet::write(&over).unwrap();
    let again: ratchet::Sizes = toml::from_str(&text).unwrap();
    assert_eq!(again, over);
    assert_eq!((over.files["a.rs"], over.functions["a.rs long"]), (480, 80));
    assert!(ratchet::check(&files, &again).is_empty());
}

#[test]
fn rust_that_does_not_parse_is_a_finding() {
    let found = ratchet::check(&tree(&[("a.rs", "fn a() {}\nfn b( {}\n")]), &ratchet::Sizes::default());
    assert!(one(&found).starts_with("a.rs:2: not parsed"), "{found:?}");
}

fn member(name: &str, links: &[usize]) -> Crate {
    Crate { name: name.into(), is_member: true, needs: links.to_vec(), links: links.to_vec(), ..Crate::default() }
}

fn outside(name: &str, links: &[usize]) -> Crate {
    Crate { is_member: false, ..member(name, links) }
}

fn config() -> Config {
    Config {
        floors: vec![vec!["shell".into()], vec!["core".into(), "twin".into()]],
        pure: Pure { crates: vec!["core".into()], never: vec!["tokio".into(), "actix-*".into()] },
        words: Vec::new(),
    }
}

#[test]
fn an_arrow_up_fails_and_arrows_down_and_sideways_do_not() {
    let good = Graph { crates: vec![member("shell", &[1]), member("core", &[2]), member("twin", &[])] };
    assert!(arrows::check(&good, &config()).is_empty());
    let bad = Graph { crates: vec![member("shell", &[]), member("core", &[0])] };
    assert!(one(&arrows::check(&bad, &config())).contains("core depends on shell: arrows between crates never run up"));
}

#[test]
fn what_only_a_build_script_needs_is_an_arrow_too() {
    let mut core = member("core", &[]);
    core.needs = vec![0];
    let bad = Graph { crates: vec![member("shell", &[]), core] };
    assert!(one(&arrows::check(&bad, &config())).contains("core depends on shell"));
}

#[test]
fn a_crate_without_a_floor_and_a_pure_name_without_a_crate_fail() {
    let graph = Graph { crates: vec![member("new", &[])] };
    let found = shown(&arrows::check(&graph, &config()));
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].contains("new stands on no floor"));
    assert!(found[1].contains("core is listed as pure and is no crate here"));
}

#[test]
fn a_pure_crate_that_reaches_io_fails_and_shows_the_way() {
    let graph = |names: [&str; 3], is_macro: bool| {
        let mut middle = outside(names[1], &[2]);
        middle.is_macro = is_macro;
        Graph { crates: vec![member("core", &[1]), middle, outside(names[2], &[])] }
    };
    let found = arrows::check(&graph(["core", "harmless", "tokio"], false), &config());
    assert!(one(&found).contains("core reaches tokio by core > harmless > tokio"), "{found:?}");
    let found = arrows::check(&graph(["core", "harmless", "actix-web"], false), &config());
    assert!(one(&found).contains("actix-web"), "{found:?}");
    assert!(arrows::check(&graph(["core", "derive", "tokio"], true), &config()).is_empty());
    assert!(arrows::check(&graph(["core", "harmless", "tokio-ish"], false), &config()).is_empty());
}

fn licensed(license: Option<&str>) -> Graph {
    let one = Crate { license: license.map(str::to_owned), version: "1.0.0".into(), ..outside("thing", &[]) };
    Graph { crates: vec![one] }
}

#[test]
fn licences_are_read_as_expressions() {
    let allowed = ["MIT".to_owned(), "Apache-2.0".to_owned(), "Apache-2.0 WITH LLVM-exception".to_owned()];
    let good =
        ["MIT", "MIT/GPL-3.0", "GPL-3.0 OR MIT", "(MIT OR GPL-3.0) AND Apache-2.0", "Apache-2.0 WITH LLVM-exception"];
    for text in good {
        assert!(licences::check(&licensed(Some(text)), &allowed).is_empty(), "{text}");
    }
    let bad = ["GPL-3.0", "MIT AND GPL-3.0", "MIT OR", "(MIT", "MIT WITH x-exception", "MIT MIT", "", "MIT)"];
    for text in bad {
        let found = licences::check(&licensed(Some(text)), &allowed);
        assert!(one(&found).contains("thing 1.0.0 has the licence"), "{text}: {found:?}");
    }
    assert!(one(&licences::check(&licensed(None), &allowed)).contains("does not name"));
}

#[test]
fn two_versions_in_the_telemetry_family_fail() {
    let at = |name: &str, version: &str| Crate { version: version.into(), ..outside(name, &[]) };
    let good = Graph {
        crates: vec![at("opentelemetry", "1.0"), at("opentelemetry_sdk", "2.0"), at("syn", "1"), at("syn", "2")],
    };
    assert!(licences::check_single(&good, "opentelemetry").is_empty());
    let bad = Graph { crates: vec![at("opentelemetry_sdk", "1.0"), at("opentelemetry_sdk", "2.0")] };
    assert!(one(&licences::check_single(&bad, "opentelemetry")).contains("opentelemetry_sdk is there as 1.0 and 2.0"));
}

#[test]
fn links_must_lead_somewhere() {
    let good = "# A `b` Title!\n[self](#a-b-title) [file](docs/b.md) [folder](docs) [web](https://example.org/x#y) `[code](no.md)`\n\
                ```\n[fenced](no.md)\n# not a heading\n```\n[there](docs/b.md#deep-one-1)\n[ref]: docs/b.md\n";
    let other = "## Deep one\n## Deep one\n[up](../README.md)\n";
    let files = [("README.md", good), ("docs/b.md", other)];
    assert_eq!(shown(&links::check(&tree(&files))), Vec::<String>::new());
    let bad = [
        ("[a](missing.md)", "there is no missing.md"),
        ("[a](../outside.md)", "it leaves the repository"),
        ("[a](#nowhere)", "README.md has no heading for #nowhere"),
        ("[a](docs/b.md#not-a-heading)", "docs/b.md has no heading"),
        ("[a]: docs/none.md", "there is no docs/none.md"),
    ];
    for (text, expected) in bad {
        let found = links::check(&tree(&[("README.md", text), ("docs/b.md", other)]));
        let line = one(&found);
        assert!(line.starts_with("README.md:1: ") && line.contains(expected), "{line}");
    }
}

#[test]
fn a_golden_file_must_be_named_by_a_test() {
    let file = ("a/tests/golden/frame-1.bin", "");
    for naming in ["include_bytes!(\"golden/frame-1.bin\")", "golden(\"frame-1\")", "format!(\"frame-{n}.bin\")"] {
        assert!(golden::check(&tree(&[file, ("a/tests/a.rs", naming)])).is_empty(), "{naming}");
    }
    let others = "golden(\"frame-10\"); format!(\"frame-{n}.txt\"); format!(\"{n}.bin\")";
    let found = golden::check(&tree(&[file, ("a/tests/a.rs", others), ("golden.txt", "")]));
    assert!(one(&found).starts_with("a/tests/golden/frame-1.bin:1: golden file without a test"), "{found:?}");
}

fn word(text: &str, at_start: bool, ignore_case: bool) -> Word {
    Word { text: text.into(), why: "why".into(), mend: "mend".into(), at_start, ignore_case }
}

#[test]
fn banned_words_are_found_outside_the_list_and_the_lock_file() {
    let words = [word("/shire/", true, false), word("as a wizard", false, true), word("HACK", false, false)];
    let text = "a\nsee /shire/frodo\nnet/shire/x and ./shire/y\nAs A Wizard\nhack\n";
    let files = tree(&[("a.md", text), ("Cargo.lock", text), (super::TIDY, text)]);
    let found = shown(&words::check(&files, &words));
    assert_eq!(found, ["a.md:2: \"/shire/\": why; mend", "a.md:4: \"as a wizard\": why; mend"]);
}

#[test]
fn a_rejection_with_text_only_fails() {
    let text = "enum Rejection {\n A,\n B(String),\n C { why: std::string::String },\n D { why: String, code: u8 },\n E(u8),\n}\n\
                enum Error { Text(String) }\n";
    let found = shown(&rejections::check(&tree(&[("a.rs", text)])));
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("a.rs:3: Rejection::B"), "{found:?}");
    assert!(found[1].starts_with("a.rs:4: Rejection::C"), "{found:?}");
}

/// The real lists can be read and are used: an empty list would hold nothing.
#[test]
fn the_lists_in_the_repository_are_whole() {
    let config: Config = toml::from_str(include_str!("../../tidy.toml")).unwrap();
    assert!(config.floors.len() > 5 && config.pure.crates.len() == 4 && config.words.len() > 5);
    let deny: super::source::Deny = toml::from_str(include_str!("../../../../deny.toml")).unwrap();
    assert!(deny.licenses.allow.iter().any(|licence| licence == "Apache-2.0"));
    assert!(!deny.licenses.allow.iter().any(|licence| licence.contains("GPL") && licence != "MPL-2.0"));
    let sizes: Result<ratchet::Sizes, _> = toml::from_str(include_str!("../../ratchet.toml"));
    assert!(sizes.is_ok());
}
