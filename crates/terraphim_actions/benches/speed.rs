//! How fast the crate is: evaluations a second, a file of 1 MiB, a matrix of 256 jobs, masking.

use std::fmt::Write as _;
use std::hint::black_box;
use std::io::Write;
use std::time::Instant;
use terraphim_actions::expr::{Allowed, Object, Scope, parse};
use terraphim_actions::mask::{MaskStream, Masker};
use terraphim_actions::plan::Plan;
use terraphim_actions::workflow::Workflow;

/// Runs `work` so many times and prints the time of one, in microseconds.
fn measure(name: &str, times: u32, mut work: impl FnMut()) {
    let start = Instant::now();
    (0..times).for_each(|_| work());
    let each = start.elapsed().as_secs_f64() * 1e6 / f64::from(times);
    let _ = writeln!(std::io::stdout(), "{name}: {each:.1} us");
}

/// A workflow of about 1 MiB.
fn big_file() -> String {
    let mut text = String::from("on: push\njobs:\n  build:\n    runs-on: x\n    steps:\n");
    let mut step = 0;
    while text.len() < 1_030_000 {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "      - name: step {step}\n        run: |");
        for line in 0..12 {
            let _ = writeln!(text, "          echo line {line} ${{{{ github.sha }}}} done here");
        }
        step += 1;
    }
    text
}

/// Fifty secrets like tokens, and a megabyte of a log in which each is once.
fn secrets_and_log() -> (Vec<String>, String) {
    let secrets: Vec<String> = (0..50)
        .map(|n: u64| format!("tok_{:016x}{:016x}", n.wrapping_mul(0x9E37_79B9_7F4A_7C15), !n << 7))
        .collect();
    let mut log = String::new();
    for n in 0_usize.. {
        if log.len() >= 1 << 20 {
            break;
        }
        // Writing to a string cannot fail.
        let _ = match secrets.get(n / 200).filter(|_| n.is_multiple_of(200)) {
            Some(secret) => writeln!(log, "Authorization: bearer {secret} sent"),
            None => {
                writeln!(log, "   Compiling some-crate-{n} v0.{}.3 (/workspace/rocket/crates/{n})", n % 17)
            }
        };
    }
    (secrets, log)
}

fn main() {
    let mut github = Object::new();
    github.insert("ref", "refs/heads/main");
    github.insert("event_name", "push");
    let mut contexts = Object::new();
    contexts.insert("github", github);
    let text = "github.event_name == 'push' && startsWith(github.ref, 'refs/heads/') || format('{0}', 1)";
    measure("parse and evaluate an expression", 200_000, || {
        let expr = parse(text, &Allowed::any()).ok().flatten();
        let _ = black_box(expr.map(|expr| expr.evaluate(&Scope::of(&contexts))));
    });

    let file = big_file();
    measure("read a workflow of 1 MiB", 20, || {
        let _ = black_box(Workflow::parse(&file, "w.yml").map(|workflow| workflow.jobs.len()));
    });

    let sixteen = (0..16).map(|n| n.to_string()).collect::<Vec<_>>().join(", ");
    let matrix = format!("strategy: {{matrix: {{a: [{sixteen}], b: [{sixteen}]}}}}");
    let text =
        format!("on: push\njobs: {{a: {{runs-on: '${{{{ matrix.a }}}}', {matrix}, steps: [{{run: x}}]}}}}");
    let workflow = Workflow::parse(&text, "w.yml").ok();
    measure("plan a matrix of 256 jobs", 50, || {
        let _ = black_box(workflow.as_ref().map(|workflow| Plan::new(workflow, &contexts)));
    });

    let (secrets, log) = secrets_and_log();
    measure("make a masker of 50 secrets", 20, || {
        let mut masker = Masker::new();
        let _ = black_box(masker.add_all(secrets.iter().map(String::as_str)));
    });
    let mut masker = Masker::new();
    let added = masker.add_all(secrets.iter().map(String::as_str));
    measure("mask 1 MiB of log with 50 secrets (5,000 us are 200 MB/s)", 200, || {
        let mut stream = MaskStream::new();
        let _ = black_box((stream.push(&masker, log.as_bytes()), stream.finish(&masker), added));
    });
}
