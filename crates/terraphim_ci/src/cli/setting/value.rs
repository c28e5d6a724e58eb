//! Values from a file, from standard input or from a person: never from the command line, which other users of the
//! machine can read.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use rustix::termios;
use zeroize::Zeroizing;

use crate::{
    cli::run::ask,
    exit::Exit,
    failure::{Context as _, Failure},
};

/// More than any value may have, so that a wrong file is refused without being read as a whole.
const MOST: u64 = 1 << 20;

/// The value of `name`.
pub(super) fn read(name: &str, file: Option<&PathBuf>) -> Result<Zeroizing<String>, Failure> {
    let text = match file {
        Some(path) if path.as_os_str() != "-" => {
            let file =
                File::open(path).map_err(|error| Failure::io("open", path, error).ending(Exit::Usage))?;
            all(file, path)?
        }
        Some(_) => all(io::stdin().lock(), Path::new("standard input"))?,
        None if termios::isatty(io::stdin()) => return ask(name).map(Zeroizing::new),
        None => all(io::stdin().lock(), Path::new("standard input"))?,
    };
    // As `gh secret set` does: `echo value | tci secret set NAME` means `value`.
    Ok(Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned()))
}

fn all(from: impl Read, path: &Path) -> Result<Zeroizing<String>, Failure> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(64 * 1024));
    from.take(MOST).read_to_end(&mut bytes).context(format!("cannot read {}", path.display()))?;
    let text = std::str::from_utf8(&bytes)
        .map_err(|_| Failure::usage(format!("{} is no UTF-8 text", path.display())))?;
    Ok(Zeroizing::new(text.to_owned()))
}
