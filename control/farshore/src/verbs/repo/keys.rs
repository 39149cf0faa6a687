//! `farshore repo key`, and where passphrases come from: a file or the environment, never the command line (P10).

use super::failed;
use crate::cli::{KeyVerb, Output, UnlockArgs};
use crate::failure::Failure;
use crate::output::{hint, say, structured};
use farshore_repository::{Repository, Unlock};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

/// Far longer than any passphrase.
const LONGEST: u64 = 4096;
const VARIABLE: &str = "FARSHORE_PASSPHRASE";
const NEW_VARIABLE: &str = "FARSHORE_NEW_PASSPHRASE";

/// What opens a repository; nothing when nothing was given.
pub(crate) fn unlock(args: &UnlockArgs) -> Result<Unlock, Failure> {
    Ok(Unlock { passphrase: passphrase(args.passphrase_file.as_deref(), VARIABLE)? })
}

fn passphrase(file: Option<&Path>, variable: &str) -> Result<Option<Vec<u8>>, Failure> {
    match (file, std::env::var_os(variable)) {
        (Some(file), _) => from_file(file).map(Some),
        (None, Some(value)) => checked(OsString::into_vec(value), variable).map(Some),
        (None, None) => Ok(None),
    }
}

/// The passphrase in a file of one line.
pub(super) fn from_file(path: &Path) -> Result<Vec<u8>, Failure> {
    Ok(Unlock::from_file(path).map_err(failed)?.passphrase.unwrap_or_default())
}

/// An empty one is a mistake, and would make a repository that is not what was meant.
fn checked(bytes: Vec<u8>, from: &str) -> Result<Vec<u8>, Failure> {
    if bytes.is_empty() || bytes.len() as u64 > LONGEST {
        let text = format!("{from} holds no passphrase of 1 to {LONGEST} bytes");
        return Err(Failure::new("FS-REPO-PASSPHRASE", text, "put the passphrase there, or name no file and unset it"));
    }
    Ok(bytes)
}

/// Runs one of the verbs.
pub(super) fn run(verb: KeyVerb, output: Output, quiet: bool) -> Result<(), Failure> {
    match verb {
        KeyVerb::Add { at, new_passphrase_file } => {
            let Some(new) = passphrase(new_passphrase_file.as_deref(), NEW_VARIABLE)? else {
                let advice = "name it with --new-passphrase-file, or set FARSHORE_NEW_PASSPHRASE";
                return Err(Failure::new("FS-REPO-PASSPHRASE", "no new passphrase was given", advice));
            };
            let slot = Repository::add_key(&at.path, &unlock(&at.unlock)?, &new).map_err(failed)?;
            if !structured(output, &serde_json::json!({ "slot": slot }))? {
                say(&format!("key slot {slot} opens it, too"));
            }
            Ok(())
        }
        KeyVerb::List { path } => {
            let slots = Repository::key_slots(&path).map_err(failed)?;
            if !structured(output, &slots)? {
                slots.iter().for_each(|slot| say(slot));
            }
            Ok(())
        }
        KeyVerb::Remove { at, slot } => {
            Repository::remove_key(&at.path, &unlock(&at.unlock)?, &slot).map_err(failed)?;
            hint(quiet, &format!("key slot {slot} is gone; a copy of it from before still opens the repository"));
            Ok(())
        }
    }
}
