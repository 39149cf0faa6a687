//! How answers are written: tables for people, JSON and YAML for scripts. Everything that goes to standard output goes
//! through here, so that a closed pipe ends the program quietly.

use crate::cli::Output;
use crate::failure::Failure;
use serde::Serialize;
use std::io::Write;

/// Writes text to standard output.
pub(crate) fn say(text: &str) {
    let mut out = anstream::stdout().lock();
    if writeln!(out, "{text}").is_err() {
        // Whoever read us has gone (`farshore log ls | head`): there is nobody left to tell.
        std::process::exit(0);
    }
}

/// Writes a hint or progress to standard error.
pub(crate) fn hint(quiet: bool, text: &str) {
    if !quiet {
        let _closed = writeln!(anstream::stderr().lock(), "{text}");
    }
}

/// Writes a value as JSON or YAML; false when a table is wanted.
pub(crate) fn structured<T: Serialize>(output: Output, value: &T) -> Result<bool, Failure> {
    match output {
        Output::Table => return Ok(false),
        Output::Json => say(&serde_json::to_string_pretty(value).map_err(|error| Failure::defect(&error))?),
        Output::Yaml => say(serde_saphyr::to_string(value).map_err(|error| Failure::defect(&error))?.trim_end()),
    }
    Ok(true)
}

/// Writes a table.
pub(crate) fn table(header: &[&str], rows: Vec<Vec<String>>) {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_header(header.iter().map(|text| text.to_uppercase()));
    for row in rows {
        table.add_row(row);
    }
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    say(&lines.join("\n"));
}

/// Writes rows in the form asked for: a table, or the values themselves.
pub(crate) fn rows<T: Serialize>(
    output: Output,
    values: &[T],
    header: &[&str],
    row: impl Fn(&T) -> Vec<String>,
) -> Result<(), Failure> {
    if !structured(output, &values)? {
        table(header, values.iter().map(row).collect());
    }
    Ok(())
}

/// A text with what would end the line, or do other things to a terminal, written out: names of files may hold anything.
pub(crate) fn one_line(text: &str) -> String {
    let shown =
        |letter: char| if letter.is_control() { letter.escape_default().to_string() } else { letter.to_string() };
    text.chars().map(shown).collect()
}

/// A number of things, in the right form: `1 point`, `2 points`, `2 repositories`, `2 accesses`.
pub(crate) fn count(number: impl TryInto<u64>, one: &str) -> String {
    let number = number.try_into().unwrap_or(u64::MAX);
    let vowel_before_y = || one.chars().rev().nth(1).is_some_and(|letter| "aeiou".contains(letter));
    match one.strip_suffix('y').filter(|_| !vowel_before_y()) {
        _ if number == 1 => format!("1 {one}"),
        Some(stem) => format!("{number} {stem}ies"),
        None if one.ends_with(['s', 'x']) => format!("{number} {one}es"),
        None => format!("{number} {one}s"),
    }
}

/// A wall time as people read it, in UTC.
pub(crate) fn time(millis: i64) -> String {
    jiff::Timestamp::from_millisecond(millis).map_or_else(|_| millis.to_string(), |at| at.strftime("%F %T").to_string())
}

#[cfg(test)]
mod tests {
    use super::{count, one_line};

    #[test]
    fn a_name_stays_on_its_line() {
        assert_eq!(one_line("a\nnothing is damaged\u{1b}[2J é"), "a\\nnothing is damaged\\u{1b}[2J é");
    }

    #[test]
    fn things_are_counted_in_the_right_form() {
        let said = [count(0_u8, "disk"), count(1_usize, "disk"), count(2_u64, "disk"), count(2_u32, "repository")];
        assert_eq!(said, ["0 disks", "1 disk", "2 disks", "2 repositories"]);
        assert_eq!([count(3_u8, "access"), count(4_u8, "key")], ["3 accesses", "4 keys"]);
    }
}
