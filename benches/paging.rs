//! How fast absent pages come in: on the vCPU's own thread, by a userfaultfd handler thread with the
//! same store, and beforehand in recorded order.
//!
//! `cargo bench --bench paging -- [--quick] [--rounds N] [--pages N] [--only WORD] [--vcpus N]`
//!
//! The last two are for profiling: only variants whose name has the word in it, only so many vCPUs,
//! and neither goals nor a file.

mod support {
    pub mod guest;
    pub mod handler;
    pub mod image;
    pub mod place;
    pub mod product;
    pub mod report;
    pub mod split;

    /// Errors here are for whoever runs the benchmark.
    pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;
}

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dejavm_sandbox::host::HostProfile;
use dejavm_sandbox::ram::Marking;
use serde_json::{Value, json};
use support::Result;
use support::guest::{Done, Touch};
use support::handler::{self, Placement};
use support::image::{Image, Order, order_of};
use support::product::{self, Way};
use support::report::{Goal, median, print_goals, print_table, save};
use support::split::split;

/// Numbers of vCPUs.
const VCPUS: [usize; 4] = [1, 2, 4, 8];

/// A way for pages to come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Variant {
    Thread(Way),
    Handler(Placement),
}

const RESIDENT: &str = "resident";
const POISON: &str = "vCPU thread, poison";
const SINGLE: &str = "vCPU thread, poison, single pages";
const POISON_PINNED: &str = "vCPU thread, poison, pinned";
const DECODE: &str = "vCPU thread, decode";
const HANDLER: &str = "handler, by the scheduler";
const HANDLER_PINNED: &str = "handler, pinned to vCPU 0's CPU";
const READERS: &str = "handlers, one a vCPU";
const READERS_PINNED: &str = "handlers, own descriptor and CPU";

const VARIANTS: [(&str, Variant); 9] = [
    (RESIDENT, Variant::Thread(Way::Resident)),
    (POISON, Variant::Thread(Way::Poison)),
    (SINGLE, Variant::Thread(Way::Single)),
    (POISON_PINNED, Variant::Thread(Way::PinnedPoison)),
    (DECODE, Variant::Thread(Way::Decode)),
    (HANDLER, Variant::Handler(Placement::Scheduler)),
    (HANDLER_PINNED, Variant::Handler(Placement::Pinned)),
    (READERS, Variant::Handler(Placement::Readers)),
    (READERS_PINNED, Variant::Handler(Placement::PinnedReaders)),
];

/// What is measured together.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Case {
    order: Order,
    touch: Touch,
    vcpus: usize,
}

struct Arguments {
    rounds: usize,
    pages: u64,
    only: Option<String>,
    vcpus: Option<usize>,
}

fn arguments() -> Result<Arguments> {
    let mut out = Arguments { rounds: 5, pages: 4096, only: None, vcpus: None };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} wants a value"));
        match word.as_str() {
            // Cargo's own.
            "--bench" => {}
            "--quick" => (out.rounds, out.pages) = (3, 2048),
            "--rounds" => out.rounds = value()?.parse()?,
            "--pages" => out.pages = value()?.parse()?,
            "--only" => out.only = Some(value()?),
            "--vcpus" => out.vcpus = Some(value()?.parse()?),
            other => return Err(format!("what is {other}?").into()),
        }
    }
    let shares = *VCPUS.iter().max().unwrap_or(&1) as u64;
    if out.rounds == 0 || out.pages < shares {
        return Err("at least one round, and a page for each vCPU".into());
    }
    out.pages -= out.pages % shares;
    Ok(out)
}

/// Each vCPU's pages: its own part of the memory.
fn lists(case: Case, pages: u64) -> Vec<Vec<u64>> {
    let part = pages / case.vcpus as u64;
    (0..case.vcpus as u64).map(|i| order_of(case.order, i * part..(i + 1) * part)).collect()
}

/// Every vCPU must have read what the image holds.
fn verify(image: &Image, lists: &[Vec<u64>], done: &[Done]) -> Result<()> {
    for (list, done) in lists.iter().zip(done) {
        let sum = list.iter().fold(0u64, |sum, page| sum.wrapping_add(image.first_word(*page)));
        if sum != done.sum {
            return Err("a guest read other bytes than the image's".into());
        }
    }
    Ok(())
}

struct Bench {
    profile: Arc<HostProfile>,
    image: Image,
    pages: u64,
}

impl Bench {
    /// Thousands of pages a second.
    fn rate(&self, time: Duration) -> f64 {
        self.pages as f64 / time.as_secs_f64() / 1e3
    }

    fn once(&self, case: Case, variant: Variant) -> Result<f64> {
        let lists = lists(case, self.pages);
        let snapshot = self.image.snapshot(case.order);
        let (time, done) = match variant {
            Variant::Thread(way) => product::run(&self.profile, snapshot, case.touch, &lists, way)?,
            Variant::Handler(placement) => {
                handler::run(&self.profile, snapshot, case.touch, &lists, placement)?
            }
        };
        verify(&self.image, &lists, &done)?;
        Ok(self.rate(time))
    }

    /// Rates of each variant, by its name; the variants take turns, so that what else the machine
    /// does meets them all.
    fn measure(&self, case: Case, rounds: usize, variants: &[(&'static str, Variant)]) -> Result<Rates> {
        let mut rates: BTreeMap<&'static str, Vec<f64>> = BTreeMap::new();
        for round in 0..rounds {
            for i in 0..variants.len() {
                let (name, variant) = variants[(i + round) % variants.len()];
                rates.entry(name).or_default().push(self.once(case, variant)?);
            }
        }
        Ok(Rates(rates))
    }
}

/// Rates of all rounds, by variant.
struct Rates(BTreeMap<&'static str, Vec<f64>>);

impl Rates {
    fn of(&self, name: &str) -> f64 {
        median(self.0.get(name).cloned().unwrap_or_default())
    }

    /// How many times as fast one variant is as another: the median of what each round says, so
    /// that a round in which the machine was slower counts no less.
    fn ratio(&self, name: &str, than: &str) -> f64 {
        match (self.0.get(name), self.0.get(than)) {
            (Some(a), Some(b)) => median(a.iter().zip(b).map(|(a, b)| a / b).collect()),
            _ => f64::NAN,
        }
    }

    fn medians(&self) -> BTreeMap<&'static str, f64> {
        self.0.keys().map(|name| (*name, self.of(name))).collect()
    }
}

fn main() -> Result<()> {
    let Arguments { rounds, pages, only, vcpus } = arguments()?;
    let counts = vcpus.map_or(VCPUS.to_vec(), |vcpus| vec![vcpus]);
    let profiling = only.is_some() || vcpus.is_some();
    let bench = Bench { profile: HostProfile::probe()?, image: Image::new(pages)?, pages };
    let Image { origin, ratio, .. } = &bench.image;
    println!("{pages} pages: {origin}, compressed {ratio:.2}x; medians of {rounds} rounds");
    let load = load_average();
    println!("{} CPUs; {load:.1} other threads were running in the last minute", cpus());
    if load > 0.5 {
        println!("The machine is busy: a variant of many threads gets a larger share of it than one of few.");
    }

    let allowed = handler::is_allowed();
    if !allowed {
        println!("No handler threads: userfaultfd for the kernel's faults needs privilege here.");
    }
    let variants: Vec<_> = VARIANTS
        .into_iter()
        .filter(|(_, variant)| allowed || matches!(variant, Variant::Thread(_)))
        .filter(|(name, _)| only.as_ref().is_none_or(|word| name.contains(word)))
        .collect();

    let mut goals = Vec::new();
    let mut results = Vec::new();
    for (order, touch) in
        [(Order::Sequential, Touch::Load), (Order::Random, Touch::Load), (Order::Random, Touch::Store)]
    {
        let mut columns = Vec::new();
        for &vcpus in &counts {
            let case = Case { order, touch, vcpus };
            let rates = bench.measure(case, rounds, &variants)?;
            if allowed {
                goals.extend(handler_goals(case, &rates));
            }
            results.push(json!({
                "order": order.name(), "touch": touch.name(), "vcpus": vcpus, "thousand_pages_a_second": rates.medians(),
            }));
            columns.push(rates);
        }
        print_rates(order, touch, &variants, &counts, &columns);
    }
    if profiling {
        return Ok(());
    }

    let splits = print_splits(&bench)?;
    let prefetched = measure_prefetch(&bench, rounds, &mut goals)?;
    print_goals(&goals);
    let path = save(
        "paging",
        &json!({
            "cpus": cpus(), "load": load, "pages": pages, "origin": origin, "compressed": ratio, "rounds": rounds,
            "rates": results, "split_us": splits, "prefetch": prefetched,
            "goals": goals.iter().map(Goal::to_json).collect::<Vec<_>>(),
        }),
    )?;
    println!("\nWritten to {}", path.display());
    Ok(())
}

fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// How many threads ran or wanted to, on average over the last minute.
fn load_average() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(f64::NAN)
}

/// What the vCPU's own thread ought to be, against handler threads: like is compared with like, both
/// left to the scheduler or both pinned.
fn handler_goals(case: Case, rates: &Rates) -> Vec<Goal> {
    let Case { order, touch, vcpus } = case;
    let goal = |what, figure, least| Goal {
        what: format!("{} {}, {vcpus} vCPU: vCPU thread / {what}", order.name(), touch.name()),
        figure,
        least,
    };
    let pinned = rates.ratio(POISON_PINNED, HANDLER_PINNED).min(rates.ratio(POISON_PINNED, READERS_PINNED));
    vec![
        goal("handler placed by the scheduler", rates.ratio(POISON, HANDLER), 1.5),
        goal("best pinned handler, both pinned", pinned, 1.0),
    ]
}

fn print_rates(
    order: Order,
    touch: Touch,
    variants: &[(&'static str, Variant)],
    counts: &[usize],
    columns: &[Rates],
) {
    println!("\n{}, {}: thousand pages a second, by vCPUs", order.name(), touch.name());
    let mut rows = vec![
        std::iter::once(String::new()).chain(counts.iter().map(ToString::to_string)).collect::<Vec<_>>(),
    ];
    for (name, _) in variants {
        let mut row = vec![(*name).to_string()];
        row.extend(columns.iter().map(|rates| format!("{:.1}", rates.of(name))));
        rows.push(row);
    }
    print_table(&rows);
}

fn print_splits(bench: &Bench) -> Result<Value> {
    println!("\nOne fault of one vCPU, random load: microseconds");
    let poison = split(&bench.profile, &bench.image, Marking::Poison)?;
    let decode = split(&bench.profile, &bench.image, Marking::Missing)?;
    let mut rows = vec![vec![String::new(), "poison".into(), "decode".into()]];
    for (poison, decode) in poison.iter().zip(&decode) {
        let cell = |step: &support::split::Step| format!("{:.2}", step.microseconds);
        rows.push(vec![poison.name.into(), cell(poison), cell(decode)]);
    }
    print_table(&rows);
    let steps = |steps: &[support::split::Step]| -> Value {
        steps.iter().map(|s| json!({ "step": s.name.trim(), "us": s.microseconds })).collect()
    };
    Ok(json!({ "poison": steps(&poison), "decode": steps(&decode) }))
}

/// Pages that come in beforehand, against single faults of the same run.
fn measure_prefetch(bench: &Bench, rounds: usize, goals: &mut Vec<Goal>) -> Result<Vec<Value>> {
    println!("\nPrefetched in recorded order, one vCPU, load: microseconds a page");
    let head = ["", "single fault", "by 1 thread", "by 2 threads", "then touched", "resident, touched"];
    let mut rows = vec![head.map(String::from).to_vec()];
    let mut out = Vec::new();
    for order in [Order::Sequential, Order::Random] {
        let case = Case { order, touch: Touch::Load, vcpus: 1 };
        let lists = lists(case, bench.pages);
        let microseconds = |time: Duration| time.as_secs_f64() * 1e6 / bench.pages as f64;
        let mut columns: [Vec<f64>; 5] = Default::default();
        for _ in 0..rounds {
            let snapshot = bench.image.snapshot(order);
            columns[0].push(1e3 / bench.once(case, Variant::Thread(Way::Single))?);
            for threads in [1, 2] {
                let (before, after, done) =
                    product::prefetch(&bench.profile, snapshot, case.touch, &lists, threads)?;
                verify(&bench.image, &lists, &done)?;
                columns[threads].push(microseconds(before));
                columns[3].push(microseconds(after));
            }
            columns[4].push(1e3 / bench.once(case, Variant::Thread(Way::Resident))?);
        }
        let [single, one, two, touched, resident] = columns.map(median);
        let name = order.name();
        let cells = [single, one, two, touched, resident].map(|us| format!("{us:.2}"));
        rows.push(std::iter::once(name.to_string()).chain(cells).collect());
        let goal = |threads, least, figure| Goal {
            what: format!("{name}, 1 vCPU: single fault / page prefetched by {threads}"),
            figure,
            least,
        };
        goals.push(goal("1 thread", 4.0, single / one));
        goals.push(goal("1 thread (aim)", 10.0, single / one));
        goals.push(goal("2 threads (aim)", 10.0, single / two));
        out.push(json!({
            "order": name, "single_us": single, "one_thread_us": one, "two_threads_us": two,
            "then_touched_us": touched, "resident_us": resident,
        }));
    }
    print_table(&rows);
    Ok(out)
}
