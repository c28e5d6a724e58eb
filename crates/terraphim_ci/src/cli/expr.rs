//! `tci expr`: an expression of the workflow language.

use std::{
    fs::File,
    io::{self, BufReader, BufWriter, Write as _},
    path::PathBuf,
};

use clap::Args;
use terraphim_actions::expr::{Value, answer, batch_line, evaluate};

use crate::{exit::Exit, failure::Failure, input, output};

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  tci expr \"contains(github.ref, 'main')\" --contexts contexts.json")]
pub(crate) struct ExprArgs {
    /// The expression, without `${{ }}`.
    #[arg(required_unless_present = "batch")]
    expression: Option<String>,
    /// A JSON object: the contexts by name.
    #[arg(long, value_name = "FILE")]
    contexts: Option<PathBuf>,
    /// A file with one JSON object `{"expr", "contexts"}` a line (`-` is standard input); one answer a line.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["expression", "contexts"])]
    batch: Option<PathBuf>,
}

pub(crate) fn main(args: &ExprArgs) -> Result<Exit, Failure> {
    if let Some(path) = &args.batch {
        return batch(path);
    }
    let contexts = match &args.contexts {
        Some(path) => {
            let text = input::read_text(path, input::MOST_DATA).map_err(|error| unreadable(path, error))?;
            let value: serde_json::Value = serde_json::from_str(&text)
                .map_err(|error| Failure::usage(format!("{} is no JSON: {error}", path.display())))?;
            Value::from(&value)
        }
        None => Value::from(&serde_json::json!({})),
    };
    let expression = args.expression.as_deref().unwrap_or_default();
    match evaluate(expression, &contexts) {
        Ok(value) => {
            output::data(&format!("{}\n", answer(Ok(value))))?;
            Ok(Exit::Success)
        }
        Err(error) => Err(Failure::usage(error.message)),
    }
}

fn batch(path: &PathBuf) -> Result<Exit, Failure> {
    let reader: Box<dyn io::BufRead> = if path.as_os_str() == "-" {
        Box::new(io::stdin().lock())
    } else {
        Box::new(BufReader::new(File::open(path).map_err(|error| unreadable(path, error))?))
    };
    let mut out = BufWriter::new(io::stdout().lock());
    for line in input::lines(reader, input::MOST_DATA) {
        let line = line.map_err(|error| unreadable(path, error))?;
        if !line.trim().is_empty() {
            writeln!(out, "{}", batch_line(&line)).map_err(output::stdout_failure)?;
        }
    }
    out.flush().map_err(output::stdout_failure)?;
    Ok(Exit::Success)
}

fn unreadable(path: &std::path::Path, error: io::Error) -> Failure {
    Failure::io("read", path, error).ending(Exit::Usage)
}
