//! What the checks look at: the files of the repository, and the graph of crates.

use super::TidyError;
use cargo_metadata::{DependencyKind, Metadata, TargetKind};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::path::Path;

/// `ops/xtask/tidy.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    /// From the top down; an arrow may point to its own floor or below.
    pub(super) floors: Vec<Vec<String>>,
    /// What must stay free of I/O and chance.
    pub(super) pure: Pure,
    /// What no file may contain.
    #[serde(rename = "word")]
    pub(super) words: Vec<Word>,
}

/// Crates that decide, and crates that they must not reach.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pure {
    pub(super) crates: Vec<String>,
    /// A `*` at the end stands for anything.
    pub(super) never: Vec<String>,
}

/// A banned word.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Word {
    pub(super) text: String,
    pub(super) why: String,
    pub(super) mend: String,
    /// Only when no letter, digit, dot, dash, underscore or brace stands directly before it.
    #[serde(default)]
    pub(super) at_start: bool,
    #[serde(default)]
    pub(super) ignore_case: bool,
}

/// The part of `deny.toml` that is checked here too.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Deny {
    pub(super) licenses: Licenses,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Licenses {
    pub(super) allow: Vec<String>,
}

/// The files that git knows or would add, by their path from the root. Bytes that are no text are kept as empty text.
#[derive(Debug, Clone, Default)]
pub(super) struct Tree {
    pub(super) files: BTreeMap<String, String>,
}

impl Tree {
    pub(super) fn of_repository(root: &Path) -> Result<Tree, TidyError> {
        let failed = |why: String| TidyError::Command { command: "git ls-files", why };
        let output = std::process::Command::new("git")
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .current_dir(root)
            .output()
            .map_err(|error| failed(error.to_string()))?;
        if !output.status.success() {
            return Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
        }
        let mut files = BTreeMap::new();
        for name in String::from_utf8_lossy(&output.stdout).split('\0').filter(|name| !name.is_empty()) {
            // A file that is deleted but not yet committed is listed and not there.
            if let Ok(bytes) = std::fs::read(root.join(name)) {
                files.insert(name.to_owned(), String::from_utf8(bytes).unwrap_or_default());
            }
        }
        Ok(Tree { files })
    }

    pub(super) fn rust(&self) -> impl Iterator<Item = (&str, &str)> {
        self.ending_in(".rs")
    }

    pub(super) fn ending_in(&self, end: &str) -> impl Iterator<Item = (&str, &str)> {
        self.files
            .iter()
            .filter(move |(path, _)| path.ends_with(end))
            .map(|(path, text)| (path.as_str(), text.as_str()))
    }

    pub(super) fn toml<T: DeserializeOwned>(&self, file: &str) -> Result<T, TidyError> {
        let unusable = |why: String| TidyError::File { file: file.to_owned(), why };
        let text = self.files.get(file).ok_or_else(|| unusable("it is missing".to_owned()))?;
        toml::from_str(text).map_err(|error| unusable(error.to_string()))
    }
}

/// One crate of the lock file.
#[derive(Debug, Clone, Default)]
pub(super) struct Crate {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) license: Option<String>,
    /// Runs in the compiler, so what it needs is not in our programs.
    pub(super) is_macro: bool,
    pub(super) is_member: bool,
    /// Positions of what it needs to run or to be built; not what only its tests need.
    pub(super) needs: Vec<usize>,
    /// The part of `needs` that is linked in.
    pub(super) links: Vec<usize>,
}

/// All crates.
#[derive(Debug, Clone, Default)]
pub(super) struct Graph {
    pub(super) crates: Vec<Crate>,
}

impl Graph {
    pub(super) fn of(metadata: &Metadata) -> Result<Graph, TidyError> {
        let failed = |why: &str| TidyError::Command { command: "cargo metadata", why: why.to_owned() };
        let resolve = metadata.resolve.as_ref().ok_or_else(|| failed("it resolved nothing"))?;
        let places: BTreeMap<_, _> = metadata.packages.iter().enumerate().map(|(at, p)| (&p.id, at)).collect();
        let mut crates: Vec<Crate> = metadata
            .packages
            .iter()
            .map(|package| Crate {
                name: package.name.to_string(),
                version: package.version.to_string(),
                license: package.license.clone(),
                is_macro: package.targets.iter().any(|target| target.kind.contains(&TargetKind::ProcMacro)),
                is_member: metadata.workspace_members.contains(&package.id),
                needs: Vec::new(),
                links: Vec::new(),
            })
            .collect();
        for node in &resolve.nodes {
            let Some(&from) = places.get(&node.id) else { continue };
            for dependency in &node.deps {
                let Some(&to) = places.get(&dependency.pkg) else { continue };
                let is = |kind: DependencyKind| dependency.dep_kinds.iter().any(|used| used.kind == kind);
                if is(DependencyKind::Normal) {
                    crates[from].links.push(to);
                }
                if is(DependencyKind::Normal) || is(DependencyKind::Build) {
                    crates[from].needs.push(to);
                }
            }
        }
        Ok(Graph { crates })
    }
}
