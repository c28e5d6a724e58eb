//! The table of figures, and the same as JSON.

use std::fs;

use serde_json::{Map, Value, json};

/// One figure and what it is to be compared with.
pub(crate) struct Row {
    pub(crate) what: &'static str,
    pub(crate) unit: &'static str,
    /// maqet 0.0.15, median of two runs on a like machine (two cores, QEMU 7.2, emulation).
    pub(crate) baseline: &'static str,
    pub(crate) wanted: &'static str,
}

/// One measurement: time on the clock and, where the process that needed it was ours alone, on the processor.
#[derive(Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) wall_ms: f64,
    pub(crate) cpu_ms: Option<f64>,
}

impl From<f64> for Sample {
    fn from(wall_ms: f64) -> Sample {
        Sample { wall_ms, cpu_ms: None }
    }
}

/// The rows so far; each is printed as it is added.
#[derive(Default)]
pub(crate) struct Table(Vec<Value>);

pub(crate) const fn ms(what: &'static str, baseline: &'static str, wanted: &'static str) -> Row {
    Row { what, unit: "ms", baseline, wanted }
}

impl Table {
    pub(crate) fn new() -> Table {
        line(["", "median", "min", "p90", "p99", "cpu", "n", "load", "maqet", "wanted"].map(str::to_owned));
        Table::default()
    }

    /// Heads a group of rows.
    pub(crate) fn group(&self, name: &str) {
        println!("\n{name}");
    }

    /// Adds samples of milliseconds (of whatever the row's unit is).
    pub(crate) fn samples<S: Into<Sample>>(&mut self, row: Row, samples: Vec<S>) {
        let samples: Vec<Sample> = samples.into_iter().map(Into::into).collect();
        assert!(!samples.is_empty(), "{}: nothing was measured", row.what);
        let wall = sorted(samples.iter().map(|sample| sample.wall_ms));
        let cpu = sorted(samples.iter().filter_map(|sample| sample.cpu_ms));
        let mut more = Map::new();
        for (name, share) in [("median", 0.5), ("p90", 0.9), ("p99", 0.99)] {
            more.insert(name.to_owned(), json!(at(&wall, share)));
        }
        more.insert("min".to_owned(), json!(wall[0]));
        more.insert("n".to_owned(), json!(wall.len()));
        if !cpu.is_empty() {
            more.insert("cpu_median".to_owned(), json!(at(&cpu, 0.5)));
            more.insert("cpu_min".to_owned(), json!(cpu[0]));
        }
        self.add(&row, more);
    }

    /// Adds one value.
    pub(crate) fn value(&mut self, row: Row, value: f64) {
        self.add(&row, Map::from_iter([("median".to_owned(), json!(value))]));
    }

    /// Adds a row that could not be measured, with the reason.
    pub(crate) fn absent(&mut self, row: Row, why: &str) {
        self.add(&row, Map::from_iter([("absent".to_owned(), json!(why))]));
    }

    fn add(&mut self, row: &Row, mut more: Map<String, Value>) {
        more.insert("what".to_owned(), json!(row.what));
        more.insert("unit".to_owned(), json!(row.unit));
        more.insert("baseline".to_owned(), json!(row.baseline));
        more.insert("wanted".to_owned(), json!(row.wanted));
        more.insert("load".to_owned(), json!(load()));
        let number = |name: &str| more.get(name).and_then(Value::as_f64).map_or(String::new(), short);
        let first = match more.get("absent").and_then(Value::as_str) {
            Some(why) => format!("- ({why})"),
            None => format!("{} {}", number("median"), row.unit),
        };
        let cpu = match (number("cpu_median"), number("cpu_min")) {
            (median, _) if median.is_empty() => median,
            (median, min) => format!("{median} ({min})"),
        };
        let count = more.get("n").map_or(String::new(), Value::to_string);
        let texts = [row.what.to_owned(), first, number("min"), number("p90"), number("p99"), cpu, count];
        let rest = [format!("{:.1}", load()), row.baseline.to_owned(), row.wanted.to_owned()];
        let mut all = texts.into_iter().chain(rest);
        line(std::array::from_fn(|_| all.next().unwrap_or_default()));
        self.0.push(Value::Object(more));
    }

    /// The last line of the bench.
    pub(crate) fn finish(self) {
        println!("\n{}", Value::Array(self.0));
    }
}

fn line(cells: [String; 10]) {
    let [what, median, min, p90, p99, cpu, n, load, baseline, wanted] = cells;
    println!(
        "{what:<52} {median:>14} {min:>8} {p90:>8} {p99:>8} {cpu:>13} {n:>5} {load:>5}  {baseline:<22} {wanted}"
    );
}

fn short(value: f64) -> String {
    if value >= 1000.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

/// The value below which this share of all lies.
fn at(sorted: &[f64], share: f64) -> f64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "an index"
    )]
    let index = (sorted.len() as f64 * share) as usize;
    sorted[index.min(sorted.len() - 1)]
}

/// What the machine was busy with when the row was measured: a figure of a loaded machine says little.
fn load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(f64::NAN)
}
