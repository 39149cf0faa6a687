//! `farshore repo adopt`: takes a folder from its owner. With a site it is an operator's decision in the site's log; without, the
//! folder is taken from every site, and stands until one takes it over.

use super::{failed, open};
use crate::cli::{Output, RepoAdoptArgs, RepoAt};
use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::output::{say, structured};
use crate::verbs::drive::LOOK;
use crate::verbs::get::typed;
use crate::verbs::vms::Reach;
use farshore_core::repository::{Defined, State};
use farshore_repository::Error;
use farshore_schemas::ids::{Kind, Name};
use farshore_schemas::messages::agent::FolderOwner;
use farshore_schemas::messages::repository::{Command, Work};
use farshore_schemas::messages::{Message, Override};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// A mover that is started together with its site is there by then.
const COMES: Duration = Duration::from_secs(5);

/// An owner as the command line names it.
pub(crate) fn shown(owner: FolderOwner) -> String {
    format!("{}/{}", owner.lineage, owner.epoch)
}

/// Reads `LINEAGE/EPOCH`.
pub(crate) fn parse_owner(text: &str) -> Result<FolderOwner, String> {
    let wanted = "it is LINEAGE/EPOCH, as the refusal and `farshore repo stats` show them";
    let (lineage, epoch) = text.split_once('/').ok_or(wanted)?;
    let lineage = lineage.parse().map_err(|error| format!("{error}: {wanted}"))?;
    Ok(FolderOwner { lineage, epoch: epoch.parse().map_err(|_| wanted)? })
}

/// Runs the verb.
pub(super) fn run(args: &RepoAdoptArgs, output: Output) -> Result<(), Failure> {
    if args.take_ownership {
        return offline(args, output);
    }
    let (Some(owner), Some(reason), Some(data)) = (args.from, &args.reason, &args.data) else {
        let text = format!("nothing says from whom {} is to be taken, and why", args.repository.display());
        let advice = "with a site that runs: farshore repo adopt NAME --data DIR --from LINEAGE/EPOCH --reason WHY, where the \
                      refusal in `farshore status` names the owner; with none: farshore repo adopt FOLDER --take-ownership. Who \
                      has the folder now is shut out: be certain that it is not the site's only control";
        return Err(Failure::new("FS-REPO-ADOPT", text, advice).with(Exit::Refused));
    };
    let name = args.repository.to_string_lossy();
    let name = Name::parse(&name).map_err(|error| {
        let text = format!("{name} is not the name of a repository: {error}");
        let advice = "give the name that it has in the site; only --take-ownership works on a folder";
        Failure::new("FS-REPO-ADOPT", text, advice).with(Exit::Refused)
    })?;
    let client = Client::of(data)?;
    let by = std::env::var("USER").unwrap_or_else(|_| "operator".to_owned());
    let why = Override { by, reason: reason.clone() };
    client.command(Kind::Repository, &name, &Message::Repository(Command::Adopt { owner, why }))?;
    let defined = until_tried(&client, &name)?;
    if let Some(failed) = &defined.log.failed {
        let why = &failed.failure;
        let text =
            format!("it is decided, and the folder of {name} could not be had yet: {}: {}", why.code, why.message);
        return Err(Failure::new("FS-REPO-NOT-ADOPTED", text, &why.advice));
    }
    let kept = defined.log.kept.as_ref().map(|kept| kept.seq.0);
    if !structured(output, &json!({ "repository": name.to_string(), "from": shown(owner), "log": kept }))? {
        say(&format!("repository {name} is taken over from {}, which is shut out", shown(owner)));
    }
    Ok(())
}

/// Takes the folder from every site.
fn offline(args: &RepoAdoptArgs, output: Output) -> Result<(), Failure> {
    let repository = open(&RepoAt { path: args.repository.clone(), unlock: args.unlock.clone() })?;
    let before = match repository.owner() {
        Err(Error::Damage { .. }) => Err(()),
        before => Ok(before.map_err(failed)?),
    };
    let owner = repository.take_ownership().map_err(failed)?;
    let from = before.as_ref().ok().and_then(Option::as_ref).map(|owner| shown(owner.named()));
    if structured(output, &json!({ "repository": repository.name().to_string(), "from": from, "now": shown(owner) }))? {
        return Ok(());
    }
    let whose = match before {
        Ok(Some(owner)) => format!("site {}", owner.site),
        Ok(None) => "nobody".to_owned(),
        Err(()) => "an owner whose file cannot be read".to_owned(),
    };
    say(&format!("{} is taken from {whose}: no site opens it", args.repository.display()));
    say(&format!("a site takes it over with farshore repo adopt NAME --from {} --reason WHY", shown(owner)));
    Ok(())
}

/// Waits until the log was kept in the folder, or was not: what shows whether it can be had.
fn until_tried(client: &Client, name: &Name) -> Result<Box<Defined>, Failure> {
    let begun = Instant::now();
    loop {
        let defined = look(client, name)?;
        if defined.orders.open.values().all(|open| !matches!(open.work, Work::KeepLog { .. })) {
            return Ok(defined);
        }
        let (reach, mover) = (Reach::ask(client)?, defined.spec.mover.as_str());
        if !reach.is_connected(mover) && begun.elapsed() > COMES {
            let text = format!("it is decided, and the mover {mover} of repository {name} {}", reach.line(mover));
            let advice = "run its agent: the folder is taken over when it opens it";
            return Err(Failure::new("FS-CLI-MOVER-AWAY", text, advice).with(Exit::Incomplete));
        }
        std::thread::sleep(LOOK);
    }
}

fn look(client: &Client, name: &Name) -> Result<Box<Defined>, Failure> {
    let shown: Value = client.get(&format!("/api/v1/resources/repository/{name}"))?;
    if let Some(State::Defined(defined)) = typed(&shown) {
        return Ok(defined);
    }
    let text = format!("the repository {name} is not defined, or the site runs another version");
    Err(Failure::new("FS-CLI-REPOSITORY-GONE", text, "see `farshore get repositories`").not_found())
}

/// How a folder's owner is shown in a list.
pub(super) fn owner_line(owner: Option<&farshore_repository::OwnerFile>) -> String {
    owner.map_or_else(|| "none".to_owned(), |owner| format!("site {}, {}", owner.site, shown(owner.named())))
}
