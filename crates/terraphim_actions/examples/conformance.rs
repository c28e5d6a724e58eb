//! The commands that conformance is checked through, as a program of its own:
//! `conformance expr --batch FILE` prints one answer for each line of FILE.

use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["expr", "--batch", file] => batch(file),
        _ => Err("usage: conformance expr --batch FILE".into()),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{error}");
            ExitCode::from(2)
        }
    }
}

fn batch(file: &str) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for line in std::fs::read_to_string(file)?.lines() {
        writeln!(out, "{}", terraphim_actions::expr::batch_line(line))?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}
