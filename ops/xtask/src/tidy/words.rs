//! Words that do not belong in the repository. The list and this check's own tests aside, every text file is searched.

use super::source::Word;
use super::{Finding, TIDY, Tree};

pub(super) fn check(tree: &Tree, words: &[Word]) -> Vec<Finding> {
    let searched = tree.files.iter().filter(|(path, _)| *path != TIDY && !path.ends_with(".lock"));
    let mut findings = Vec::new();
    for (path, text) in searched {
        for (at, line) in text.lines().enumerate() {
            let hits = words.iter().filter(|word| occurs(line, word));
            findings.extend(
                hits.map(|word| Finding::new((path, at + 1), format!("{:?}", word.text), &word.why, &word.mend)),
            );
        }
    }
    findings
}

fn occurs(line: &str, word: &Word) -> bool {
    let (line, text) = if word.ignore_case {
        (line.to_lowercase(), word.text.to_lowercase())
    } else {
        (line.to_owned(), word.text.clone())
    };
    line.match_indices(&text).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !word.at_start || before.is_none_or(|c| !c.is_alphanumeric() && !matches!(c, '.' | '-' | '_' | '}'))
    })
}
