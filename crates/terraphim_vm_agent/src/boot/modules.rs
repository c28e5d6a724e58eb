//! Kernel modules, in the order that the image gives: there is no `modprobe` and no udev.

use std::{fs, io};

use rustix::io::Errno;

use super::{BootError, Step};

const ORDER: &str = "/modules/order";

/// Loads every module that `/modules/order` names, one file a line, and frees the memory of their files.
///
/// A module that does not load is a warning: what needs it says so itself, and better.
pub(super) fn load_all(warnings: &mut Vec<String>) -> Result<(), BootError> {
    let order = match fs::read_to_string(ORDER) {
        Ok(order) => order,
        // A kernel with everything built in.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).step(|| format!("read {ORDER}")),
    };
    for line in order.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let path = format!("/modules/{}.ko", line.strip_suffix(".ko").unwrap_or(line));
        if let Err(error) = load(&path) {
            warnings.push(format!("cannot load {path}: {error}"));
        }
        // The initial RAM disk stays in memory for ever; a failure costs a few hundred KiB.
        let _ = fs::remove_file(&path);
    }
    Ok(())
}

fn load(path: &str) -> io::Result<()> {
    let file = fs::File::open(path)?;
    match rustix::system::finit_module(&file, c"", 0) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}
