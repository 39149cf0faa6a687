//! What the YAML parser finds wrong, in words for whoever wrote the text: not for whoever programs with the parser.

use serde_saphyr::Error;

/// One line; the place is told apart.
pub(crate) fn said(error: &Error) -> String {
    let mut cause = error;
    while let Error::WithSnippet { error, .. } | Error::AliasError { error, .. } = cause {
        cause = error;
    }
    if let Error::DuplicateMappingKey { key, .. } = cause {
        let key = key.as_ref().map(|key| format!(" {key:?}")).unwrap_or_default();
        return format!("the key{key} stands twice: remove one of them");
    }
    first_line(&error.to_string())
}

/// The parser adds a picture of the place below its first line; the command line draws its own.
fn first_line(text: &str) -> String {
    let line = text.lines().find(|line| !line.trim().is_empty()).unwrap_or("it is not YAML");
    let said = line.trim_start_matches("error: ");
    // It begins with the place, which is told apart.
    let place = said.strip_prefix("line ").and_then(|rest| rest.split_once(": "));
    place
        .filter(|(place, _)| !place.contains(char::is_alphabetic) || place.contains("column"))
        .map_or(said, |(_, rest)| rest)
        .to_owned()
}

#[cfg(test)]
mod tests {
    use crate::resources::parse;

    #[test]
    fn a_key_that_stands_twice_is_named_with_its_place_and_nothing_of_the_parsers_own_words() {
        let head = "apiVersion: farshore/v1\nkind: Host\nmetadata: {name: a}\n";
        let twice = parse(&format!("{head}spec: {{mover: m, folder: /a, folder: /b}}\n")).unwrap_err();
        assert_eq!((twice.line, twice.message.as_str()), (4, "the key \"folder\" stands twice: remove one of them"));
        let outside = parse(&format!("{head}kind: Host\nspec: {{mover: m, folder: /a}}\n")).unwrap_err();
        assert_eq!((outside.line, outside.message.as_str()), (4, "the key \"kind\" stands twice: remove one of them"));
    }
}
