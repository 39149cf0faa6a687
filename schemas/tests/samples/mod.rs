//! Canonical samples of any stored type: every variant of every enum in it, every option once there and once not. They are
//! found by asking the type itself how it is decoded (serde names the variants of each enum), so that a variant cannot be
//! forgotten: a new one makes a new sample, which is in no golden file yet, and the test fails until it is there.
//!
//! A sample's values are made up, but never chance: the same type gives the same samples, and no two fields of one sample
//! hold the same value, so that fields that change places are seen.

pub(crate) mod golden;
mod walk;

use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Which variant was taken at a place, by its path.
pub(crate) type Plan = BTreeMap<String, usize>;

/// A place where a value can be of several shapes.
#[derive(Debug, Clone)]
pub(crate) struct Choice {
    /// Where: names of fields and variants, from the outside in.
    pub(crate) path: String,
    /// The enum or option: the same wherever it stands.
    pub(crate) what: String,
    /// Its variants.
    pub(crate) variants: Vec<String>,
}

/// Values of a type, by what is particular about each: `Ordered` is an enum's variant, `Ordered.work=Start` the same with
/// another shape of one field. Each shape of an inner enum appears once; of the enums named `opaque`, and of what is inside them, only the first.
pub(crate) fn samples<T: DeserializeOwned>(opaque: &[&str]) -> BTreeMap<String, T> {
    let mut samples = BTreeMap::new();
    let mut covered = BTreeSet::new();
    let mut waiting = VecDeque::from([(None, Plan::new())]);
    while let Some((label, plan)) = waiting.pop_front() {
        let mut choices = Vec::new();
        let value = walk::value::<T>(&plan, opaque, &mut choices);
        let value = value.unwrap_or_else(|error| panic!("no sample of {}: {error}", std::any::type_name::<T>()));
        let label: Option<String> = label;
        let first = choices.first().filter(|choice| choice.path.is_empty());
        let label =
            label.or_else(|| first.map(|choice| choice.variants[0].clone())).unwrap_or_else(|| "all".to_owned());
        samples.insert(label, value);
        for Choice { path, what, variants } in choices {
            covered.insert((what.clone(), 0));
            for (at, variant) in variants.iter().enumerate().skip(1) {
                if covered.insert((what.clone(), at)) {
                    let label = if path.is_empty() { variant.clone() } else { format!("{path}={variant}") };
                    let mut plan = plan.clone();
                    plan.insert(path.clone(), at);
                    waiting.push_back((Some(label), plan));
                }
            }
        }
    }
    samples
}
