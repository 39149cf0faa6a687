//! Runs seeds by hand: `try FIRST LAST [words]`.
#![allow(clippy::print_stdout, clippy::unwrap_used)]
use farshore_simulations::*;
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let (a, b): (u64, u64) = (args[1].parse().unwrap(), args[2].parse().unwrap());
    if args.len() > 3 {
        let mut o = run_seed("demo", a, &Options::default(), true).unwrap();
        for l in &o.words {
            println!("{l}");
        }
        println!("{:?} {:?} {:#?}", o.totals, o.given_up, o.violations);
        o.words.clear();
        return;
    }
    let t = std::time::Instant::now();
    let r = run("demo", a..=b, &Options { twice_every: 0, ..Options::default() }, &|_| {}).unwrap();
    let mut kinds = std::collections::BTreeMap::<String, (u64, u64)>::new();
    for v in &r.first_violations {
        let t: String = format!("{} {}", v.violation.promise, v.violation.text.chars().take(160).collect::<String>());
        let e = kinds.entry(t).or_insert((0, v.seed));
        e.0 += 1;
    }
    for (k, v) in &kinds {
        println!("{v:?} {k}");
    }
    println!(
        "seeds {} broken {} steps {} decisions {} sim/real {:.0} d/s {:.0} ms/seed {:.1} given up {} faults {:?}",
        r.seeds,
        r.seeds_broken,
        r.totals.steps,
        r.totals.decisions,
        r.simulated_over_real,
        r.decisions_per_second,
        t.elapsed().as_millis() as f64 * 2.0 / r.seeds as f64,
        r.totals.goals_given_up,
        r.totals.faults
    );
}
