//! `farshore repo prune`: says which points would go, and does it when told to.

use super::{bytes, failed, open, open_to_read, settle_owner};
use crate::cli::{Output, PruneWhich, RepoPruneArgs};
use crate::failure::Failure;
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
    /// Those that were named and cannot be read.
    lost: Vec<PointId>,
    stay: Vec<PointManifest>,
}

/// Runs the verb.
pub(super) fn run(args: &RepoPruneArgs, output: Output, quiet: bool) -> Result<(), Failure> {
    let repository = if args.apply { open(&args.at)? } else { open_to_read(&args.at)? };
    let plan = plan(&repository, &args.which)?;
    if args.apply {
        let advice = "let the site prune it; --take-ownership takes the folder away from a site that is gone for good";
        settle_owner(&repository, args.take_ownership, advice)?;
    }
    let pruned = if args.apply { Some(apply(&repository, &plan)?) } else { None };
    tell(&plan, pruned.as_ref(), output)?;
    if pruned.is_none() {
        hint(quiet, "nothing was changed; --apply does it");
    }
    Ok(())
}

fn plan(repository: &Repository, which: &PruneWhich) -> Result<Plan, Failure> {
    let named: BTreeSet<PointId> = which.points.iter().cloned().map(PointId).collect();
    let lost = repository.lost_points().map_err(failed)?;
    let mut plan = Plan {
        go: Vec::new(),
        lost: lost.into_iter().filter(|point| named.contains(point)).collect(),
        stay: Vec::new(),
    };
    let mut points = Vec::new();
    for name in repository.point_names().map_err(failed)? {
        match repository.point(&name) {
            Ok(point) => points.extend(point),
            // Who names it lets it go, though nobody can say what it was.
            Err(_) if named.contains(&name) => plan.lost.push(name),
            Err(error) => return Err(failed(error)),
        }
    }
    points.sort_by(|a, b| (a.taken, &a.point).cmp(&(b.taken, &b.point)));
    let known = |name: &PointId| plan.lost.contains(name) || points.iter().any(|point| point.point == *name);
    if let Some(missing) = named.iter().find(|name| !known(name)) {
        return Err(failed(Error::NoPoint { store: Store::Repository, point: missing.clone() }));
    }
    let going = which.keep.map_or(named, |keep| old(&points, keep));
    (plan.go, plan.stay) = points.into_iter().partition(|point| going.contains(&point.point));
    Ok(plan)
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
    let points: Vec<PointId> =
        plan.go.iter().map(|point| point.point.clone()).chain(plan.lost.iter().cloned()).collect();
    repository.prune(&points, seen.saturating_add(1)).map_err(failed)
}

fn tell(plan: &Plan, pruned: Option<&Pruned>, output: Output) -> Result<(), Failure> {
    let names = |points: &[PointManifest]| points.iter().map(|point| point.point.to_string()).collect::<Vec<_>>();
    let shown = json!({
        "applied": pruned.is_some(),
        "go": names(&plan.go),
        "lost": plan.lost.iter().map(ToString::to_string).collect::<Vec<_>>(),
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
    let lost = plan.lost.iter().map(|point| vec!["go".to_owned(), point.to_string(), "?".to_owned(), "?".to_owned()]);
    let rows = plan
        .go
        .iter()
        .map(|point| row(point, "go"))
        .chain(lost)
        .chain(plan.stay.iter().map(|point| row(point, "stay")));
    table(&["", "point", "vm", "taken"], rows.collect());
    if let Some(Pruned { freed, marked, rewritten, .. }) = pruned {
        say(&format!(
            "{} dropped; {} put into the trash, which the next prune empties; {} written anew; {} freed",
            count((plan.go.len() + plan.lost.len()) as u64, "point"),
            bytes(*marked),
            bytes(*rewritten),
            bytes(*freed)
        ));
    }
    Ok(())
}
