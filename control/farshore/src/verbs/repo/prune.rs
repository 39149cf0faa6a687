//! `farshore repo prune`: says which points would go, and does it when told to.

use super::{bytes, failed, open, open_to_read, settle_owner};
use crate::cli::{Output, PruneWhich, RepoPruneArgs};
use crate::failure::{Exit, Failure};
use crate::output::{count, hint, say, structured, table, time};
use farshore_core::repository::keep::{Rule, is_zone, kept};
use farshore_format::repository::PointManifest;
use farshore_repository::{Error, Store};
use farshore_repository::{Pruned, Repository};
use farshore_schemas::ids::PointId;
use farshore_schemas::messages::keep::Keep;
use farshore_schemas::units::Timestamp;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;

/// What goes and what stays, each oldest first.
struct Plan {
    go: Vec<PointManifest>,
    /// Those that were named and cannot be read.
    lost: Vec<PointId>,
    /// Each with what keeps it; none when what goes was named.
    stay: Vec<(PointManifest, Option<Why>)>,
}

/// What keeps a point.
enum Why {
    Rule(Rule),
    /// It must stay until then.
    Immutable(Timestamp),
}

/// Runs the verb.
pub(super) fn run(args: &RepoPruneArgs, output: Output, quiet: bool) -> Result<(), Failure> {
    let repository = if args.apply { open(&args.at)? } else { open_to_read(&args.at)? };
    let plan = plan(&repository, args)?;
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

fn plan(repository: &Repository, args: &RepoPruneArgs) -> Result<Plan, Failure> {
    let named: BTreeSet<PointId> = args.which.points.iter().cloned().map(PointId).collect();
    let gone = repository.lost_points().map_err(failed)?;
    let mut lost: Vec<PointId> = gone.into_iter().filter(|point| named.contains(point)).collect();
    let mut points = Vec::new();
    for name in repository.point_names().map_err(failed)? {
        match repository.point(&name) {
            Ok(point) => points.extend(point),
            // Who names it lets it go, though nobody can say what it was.
            Err(_) if named.contains(&name) => lost.push(name),
            Err(error) => return Err(failed(error)),
        }
    }
    points.sort_by(|a, b| (a.taken, &a.point).cmp(&(b.taken, &b.point)));
    if named.is_empty() {
        let keep = keep(args)?;
        let immutable = repository.immutability().map_err(failed)?.points;
        return Ok(by_rules(points, &keep, &immutable));
    }
    repository.may_drop(&named.iter().cloned().collect::<Vec<_>>()).map_err(failed)?;
    let known = |name: &PointId| lost.contains(name) || points.iter().any(|point| point.point == *name);
    if let Some(missing) = named.iter().find(|name| !known(name)) {
        return Err(failed(Error::NoPoint { store: Store::Repository, point: missing.clone() }));
    }
    let (go, stay): (Vec<_>, Vec<_>) = points.into_iter().partition(|point| named.contains(&point.point));
    Ok(Plan { go, lost, stay: stay.into_iter().map(|point| (point, None)).collect() })
}

/// The rules as a job has them.
fn keep(args: &RepoPruneArgs) -> Result<Keep, Failure> {
    if !is_zone(&args.zone) {
        let text = format!("{} is not a time zone", args.zone);
        return Err(
            Failure::new("FS-REPO-ZONE", text, "name an IANA time zone such as Europe/Berlin").with(Exit::Refused)
        );
    }
    let count = |count: Option<NonZeroU32>| count.map(NonZeroU32::get);
    let PruneWhich { keep, keep_days, keep_weekly, keep_monthly, keep_yearly, points: _ } = &args.which;
    Ok(Keep {
        points: count(*keep),
        days: count(*keep_days),
        weekly: count(*keep_weekly),
        monthly: count(*keep_monthly),
        yearly: count(*keep_yearly),
        zone: args.zone.clone(),
    })
}

/// What the rules keep of each VM, of points oldest first. A folder does not tell in which order points of one VM were made
/// but by when they were taken.
fn by_rules(points: Vec<PointManifest>, keep: &Keep, immutable: &BTreeMap<PointId, Timestamp>) -> Plan {
    let now = Timestamp(jiff::Timestamp::now().as_millisecond());
    let mut of_vms: BTreeMap<String, Vec<&PointManifest>> = BTreeMap::new();
    for point in &points {
        of_vms.entry(point.vm.to_string()).or_default().push(point);
    }
    let mut stays: BTreeMap<PointId, Rule> = BTreeMap::new();
    for of_vm in of_vms.values() {
        let taken: Vec<_> = of_vm.iter().map(|point| point.taken).collect();
        let rules = of_vm.iter().zip(kept(&taken, keep, now));
        stays.extend(rules.filter_map(|(point, rule)| Some((point.point.clone(), rule?))));
    }
    let (mut go, mut stay) = (Vec::new(), Vec::new());
    for point in points {
        match (stays.get(&point.point), immutable.get(&point.point)) {
            (Some(rule), _) => stay.push((point, Some(Why::Rule(*rule)))),
            (None, Some(until)) => stay.push((point, Some(Why::Immutable(*until)))),
            (None, None) => go.push(point),
        }
    }
    Plan { go, lost: Vec::new(), stay }
}

/// What keeps a point, as it is shown.
fn shown_why(why: &Why) -> String {
    let rule = match why {
        Why::Immutable(until) => return format!("immutable until {}", time(until.0)),
        Why::Rule(rule) => rule,
    };
    let shown = match rule {
        Rule::Points => "newest",
        Rule::Least => "one of the last three",
        Rule::Days => "days",
        Rule::Weekly => "first of its week",
        Rule::Monthly => "first of its month",
        Rule::Yearly => "first of its year",
    };
    shown.to_owned()
}

/// With no log to order it, a prune comes after all that the folder has seen.
fn apply(repository: &Repository, plan: &Plan) -> Result<Pruned, Failure> {
    let seen = repository.position().map_err(failed)?.unwrap_or(0);
    let points: Vec<PointId> =
        plan.go.iter().map(|point| point.point.clone()).chain(plan.lost.iter().cloned()).collect();
    repository.prune(&points, seen.saturating_add(1)).map_err(failed)
}

fn tell(plan: &Plan, pruned: Option<&Pruned>, output: Output) -> Result<(), Failure> {
    let why: BTreeMap<String, String> =
        plan.stay.iter().filter_map(|(point, why)| Some((point.point.to_string(), shown_why(why.as_ref()?)))).collect();
    let shown = json!({
        "applied": pruned.is_some(),
        "go": plan.go.iter().map(|point| point.point.to_string()).collect::<Vec<_>>(),
        "lost": plan.lost.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "stay": plan.stay.iter().map(|(point, _)| point.point.to_string()).collect::<Vec<_>>(),
        "why": why,
        "freed": pruned.map(|pruned| pruned.freed.0),
        "marked": pruned.map(|pruned| pruned.marked.0),
        "rewritten": pruned.map(|pruned| pruned.rewritten.0),
    });
    if structured(output, &shown)? {
        return Ok(());
    }
    let row = |point: &PointManifest, what: &str, why: &str| {
        vec![what.to_owned(), point.point.to_string(), point.vm.vm.to_string(), time(point.taken.0), why.to_owned()]
    };
    let lost = plan.lost.iter().map(|point| ["go", &point.to_string(), "?", "?", ""].map(str::to_owned).into());
    let go = plan.go.iter().map(|point| row(point, "go", ""));
    let stay =
        plan.stay.iter().map(|(point, why)| row(point, "stay", &why.as_ref().map_or_else(String::new, shown_why)));
    table(&["", "point", "vm", "taken", "kept by"], go.chain(lost).chain(stay).collect());
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
