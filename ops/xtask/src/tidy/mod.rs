//! Checks that neither the compiler nor clippy makes. Each check is a function from what is in the repository to
//! findings, so that a test can show it failing on a small bad input. What may change without a change of code (floors,
//! words) stands in `ops/xtask/tidy.toml`, the licences in `deny.toml`, the sizes in `ops/xtask/ratchet.toml`.

mod arrows;
mod golden;
mod licences;
mod links;
mod ratchet;
mod rejections;
mod source;
#[cfg(test)]
mod tests;
mod words;

use source::{Graph, Tree};
use std::fmt;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

/// Where the floors and words stand.
const TIDY: &str = "ops/xtask/tidy.toml";
/// Where the sizes stand.
const RATCHET: &str = "ops/xtask/ratchet.toml";
/// Where the licences stand.
const DENY: &str = "deny.toml";

/// One thing to mend.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    file: String,
    line: usize,
    what: String,
    why: String,
    mend: String,
}

impl Finding {
    fn new(at: (&str, usize), what: impl Into<String>, why: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { file: at.0.to_owned(), line: at.1, what: what.into(), why: why.into(), mend: mend.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}: {}; {}", self.file, self.line, self.what, self.why, self.mend)
    }
}

/// Why the checks themselves could not run.
#[derive(Debug, thiserror::Error)]
enum TidyError {
    #[error("FS-TIDY-RUN: {command} did not run: {why}. Run it by hand to see more")]
    Command { command: &'static str, why: String },
    #[error("FS-TIDY-FILE: {file} cannot be used: {why}. Restore it from git")]
    File { file: String, why: String },
}

/// Runs every check; prints one line for each finding.
pub(crate) fn run(bless: bool) -> ExitCode {
    let mut out = std::io::stdout().lock();
    // Nobody is left to tell when writing to the terminal fails.
    match check_all(bless) {
        Ok(findings) if findings.is_empty() => {
            let _ = writeln!(out, "tidy");
            ExitCode::SUCCESS
        }
        Ok(findings) => {
            for finding in &findings {
                let _ = writeln!(out, "{finding}");
            }
            let _ = writeln!(out, "{} findings", findings.len());
            ExitCode::FAILURE
        }
        Err(error) => {
            let _ = writeln!(out, "{error}");
            ExitCode::from(2)
        }
    }
}

fn check_all(bless: bool) -> Result<Vec<Finding>, TidyError> {
    let metadata = cargo_metadata::MetadataCommand::new()
        .exec()
        .map_err(|error| TidyError::Command { command: "cargo metadata", why: error.to_string() })?;
    let root = metadata.workspace_root.as_std_path();
    let tree = Tree::of_repository(root)?;
    let graph = Graph::of(&metadata)?;
    if bless {
        bless_sizes(root, &tree)?;
    }
    let config: source::Config = tree.toml(TIDY)?;
    let deny: source::Deny = tree.toml(DENY)?;
    let allowed: ratchet::Sizes = if bless { ratchet::over(&ratchet::measure(&tree).0) } else { tree.toml(RATCHET)? };
    let mut findings = formatting(root)?;
    findings.extend(ratchet::check(&tree, &allowed));
    findings.extend(arrows::check(&graph, &config));
    findings.extend(licences::check(&graph, &deny.licenses.allow));
    findings.extend(licences::check_single(&graph, "opentelemetry"));
    findings.extend(links::check(&tree));
    findings.extend(golden::check(&tree));
    findings.extend(words::check(&tree, &config.words));
    findings.extend(rejections::check(&tree));
    findings.sort();
    Ok(findings)
}

fn bless_sizes(root: &Path, tree: &Tree) -> Result<(), TidyError> {
    let failed = |why: String| TidyError::File { file: RATCHET.into(), why };
    let text = ratchet::write(&ratchet::over(&ratchet::measure(tree).0)).map_err(|error| failed(error.to_string()))?;
    std::fs::write(root.join(RATCHET), text).map_err(|error| failed(error.to_string()))
}

/// rustfmt names the files that it would change.
fn formatting(root: &Path) -> Result<Vec<Finding>, TidyError> {
    let failed = |why: String| TidyError::Command { command: "cargo fmt --all -- --check -l", why };
    let output = std::process::Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["fmt", "--all", "--", "--check", "-l"])
        .current_dir(root)
        .output()
        .map_err(|error| failed(error.to_string()))?;
    let findings = unformatted(root, &String::from_utf8_lossy(&output.stdout));
    if findings.is_empty() && !output.status.success() {
        return Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    Ok(findings)
}

fn unformatted(root: &Path, list: &str) -> Vec<Finding> {
    let finding = |line: &str| {
        let path = Path::new(line);
        let shown = path.strip_prefix(root).unwrap_or(path).display().to_string();
        Finding::new((&shown, 1), "not formatted", "rustfmt would change it", "run cargo fmt --all")
    };
    list.lines().map(str::trim).filter(|line| line.ends_with(".rs")).map(finding).collect()
}
