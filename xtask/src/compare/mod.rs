//! `cargo xtask compare`: every behaviour of `testdata/workflows` with `tci run` in a VM and, where it is installed, with
//! nektos/act on the host, where the two differ, and which is right by the rule that the behaviour cites.

mod behaviour;
mod judge;
mod programs;
mod table;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use behaviour::Behaviour;
use judge::Verdict;
use programs::Tci;
use table::Row;

/// Runs all behaviours whose name holds `filter` and prints a table. Fails when `tci` breaks a rule.
pub(crate) fn compare(filter: &str) -> Result<ExitCode> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask is in the repository")?;
    // The images of the tests, wherever those are.
    let images =
        std::env::var_os("TCI_TEST_IMAGES").map_or_else(|| root.join("target/tci-test"), PathBuf::from);
    let tci = Tci { program: root.join("target/debug/tci"), images };
    ensure!(tci.program.is_file(), "{} is not built: run `cargo build` first", tci.program.display());
    let has_act = Command::new("act").arg("--version").stdout(Stdio::null()).status().is_ok();
    let scratch = root.join("target/compare");
    let mut rows = Vec::new();
    for behaviour in behaviour::all(&root.join("testdata/workflows"))? {
        if !behaviour.name.contains(filter) {
            continue;
        }
        let row = one(behaviour, &tci, has_act, &scratch)?;
        // A line for whoever waits; the table comes at the end.
        eprint_row(&row)?;
        rows.push(row);
    }
    let _ = fs::remove_dir_all(&scratch);
    ensure!(!rows.is_empty(), "no behaviour has {filter:?} in its name");
    std::io::Write::write_all(&mut std::io::stdout(), table::text(&rows, has_act).as_bytes())?;
    let is_kept = rows.iter().all(|row| matches!(row.tci, Verdict::Kept));
    Ok(if is_kept { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs a behaviour with both programs.
fn one(behaviour: Behaviour, tci: &Tci, has_act: bool, scratch: &Path) -> Result<Row> {
    let repository = behaviour.place(scratch)?;
    let ran = tci.run(&behaviour, &repository)?;
    let ours = judge::tci(&behaviour.expected, &ran);
    let theirs = match programs::why_not_act(&behaviour, has_act) {
        Some(why) => Verdict::NotRun(why),
        None => {
            // What the first program left in the working tree is not for the second.
            let repository = behaviour.place(scratch)?;
            judge::act(&behaviour.expected, &ran, &programs::act(&behaviour, &repository)?)
        }
    };
    Ok(Row { name: behaviour.name, rule: behaviour.rule, tci: ours, act: theirs })
}

fn eprint_row(row: &Row) -> Result<()> {
    let line = format!("{}: tci {}, act {}\n", row.name, row.tci.word(), row.act.word());
    Ok(std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes())?)
}
