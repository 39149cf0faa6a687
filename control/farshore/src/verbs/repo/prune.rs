//! `farshore repo prune`: says which points would go, and does it when told to.

use super::{bytes, failed, open, open_to_read};
use crate::cli::{Output, PruneWhich, RepoPruneArgs};
use crate::failure::{Exit, Failure};
use crate::output::{count, hint, say, structured, table, time};
use farshore_format::repository::PointManifest;
use farshore_repository::{Error, Store};
use farshore_repository::{Pruned, Repository};
use farshore_schemas::ids::PointId;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;

/// What goes and what stays, each oldest first.
struct Plan {
    go: Vec<PointManifest>,
    stay: Vec<PointManifest>,
}

/// Runs the verb.
pub(super) fn run(args: &RepoPruneArgs, output: Output, quiet: bool) -> Result<(), Failure> {
    let repository = if args.apply { open(&args.at)? } else { open_to_read(&args.at)? };
    let plan = plan(&repository, &args.which)?;
    if args.apply {
        settle_owner(&repository, args.take_ownership)?;
    }
    let pruned = if args.apply { Some(apply(&repository, &plan)?) } else { None };
    tell(&plan, pruned.as_ref(), output)?;
    if pruned.is_none() {
        hint(quiet, "nothing was changed; --apply does it");
    }
    Ok(())
}

/// What a site's log tells of points is only true while nobody drops them behind its back.
fn settle_owner(repository: &Repository, take: bool) -> Result<(), Failure> {
    let Some(owner) = repository.owner().map_err(failed)? else { return Ok(()) };
    if owner.offline() {
        return Ok(());
    }
    if take {
        return repository.take_ownership().map(drop).map_err(failed);
    }
    let text =
        format!("the folder is repository {} of site {}, whose log knows these points", owner.repository, owner.site);
    let advice = "let the site prune it; --take-ownership takes the folder away from a site that is gone for good";
    Err(Failure::new("FS-REPO-OWNED", text, advice).with(Exit::Refused))
}

fn plan(repository: &Repository, which: &PruneWhich) -> Result<Plan, Failure> {
    let mut points = repository.points().map_err(failed)?;
    points.sort_by(|a, b| (a.taken, &a.point).cmp(&(b.taken, &b.point)));
    let named: BTreeSet<PointId> = match which.keep {
        Some(keep) => old(&points, keep),
        None => which.points.iter().cloned().map(PointId).collect(),
    };
    if let Some(missing) = named.iter().find(|name| points.iter().all(|point| point.point != **name)) {
        return Err(failed(Error::NoPoint { store: Store::Repository, point: missing.clone() }));
    }
    let (go, stay) = points.into_iter().partition(|point| named.contains(&point.point));
    Ok(Plan { go, stay })
}

/// All but the newest so many of each VM, of points oldest first.
fn old(points: &[PointManifest], keep: NonZeroU32) -> BTreeSet<PointId> {
    let mut of_vms: BTreeMap<String, Vec<&PointId>> = BTreeMap::new();
    for point in points {
        of_vms.entry(point.vm.to_string()).or_default().push(&point.point);
    }
    let keep = usize::try_from(keep.get()).unwrap_or(usize::MAX);
    of_vms.values().flat_map(|of_vm| &of_vm[..of_vm.len().saturating_sub(keep)]).map(|point| (*point).clone()).collect()
}

/// With no log to order it, a prune comes after all that the folder has seen.
fn apply(repository: &Repository, plan: &Plan) -> Result<Pruned, Failure> {
    let seen = repository.position().map_err(failed)?.unwrap_or(0);
    let points: Vec<PointId> = plan.go.iter().map(|point| point.point.clone()).collect();
    repository.prune(&points, seen.saturating_add(1)).map_err(failed)
}

fn tell(plan: &Plan, pruned: Option<&Pruned>, output: Output) -> Result<(), Failure> {
    let names = |points: &[PointManifest]| points.iter().map(|point| point.point.to_string()).collect::<Vec<_>>();
    let shown = json!({
        "applied": pruned.is_some(),
        "go": names(&plan.go),
        "stay": names(&plan.stay),
        "freed": pruned.map(|pruned| pruned.freed.0),
        "marked": pruned.map(|pruned| pruned.marked.0),
        "rewritten": pruned.map(|pruned| pruned.rewritten.0),
    });
    if structured(output, &shown)? {
        return Ok(());
    }
    let row = |point: &PointManifest, what: &str| {
        vec![what.to_owned(), point.point.to_string(), point.vm.vm.to_string(), time(point.taken.0)]
    };
    let rows = plan.go.iter().map(|point| row(point, "go")).chain(plan.stay.iter().map(|point| row(point, "stay")));
    table(&["", "point", "vm", "taken"], rows.collect());
    if let Some(Pruned { freed, marked, rewritten, .. }) = pruned {
        say(&format!(
            "{} dropped; {} put into the trash, which the next prune empties; {} written anew; {} freed",
            count(plan.go.len() as u64, "point"),
            bytes(*marked),
            bytes(*rewritten),
            bytes(*freed)
        ));
    }
    Ok(())
}
