//! Reads Debian packages without installing them.

use std::io::Read;
use std::path::Path;

use super::error::{ImageError, IoContext};
use super::tool::Tool;

/// Reads the content of the file at hand.
pub(super) type Content<'a> = dyn FnMut() -> Result<Vec<u8>, ImageError> + 'a;

/// Calls `file` with the path and the content of every regular file in a package.
pub(super) fn for_each_file(
    package: &Path,
    mut file: impl FnMut(&Path, &mut Content<'_>) -> Result<(), ImageError>,
) -> Result<(), ImageError> {
    let tool = Tool::new("dpkg-deb", "dpkg", "unpacking a package").arg("--fsys-tarfile").arg(package);
    tool.read(|stdout| {
        let mut archive = tar::Archive::new(stdout);
        for entry in archive.entries().io("unpack", package)? {
            let mut entry = entry.io("unpack", package)?;
            if !entry.header().entry_type().is_file() {
                continue;
            }
            let path = entry.path().io("unpack", package)?.into_owned();
            file(&path, &mut || {
                let mut content = Vec::new();
                entry.read_to_end(&mut content).io("unpack", package)?;
                Ok(content)
            })?;
        }
        // What follows the last entry is padding; the program would fail if we closed the pipe before it.
        std::io::copy(&mut archive.into_inner(), &mut std::io::sink()).io("unpack", package)?;
        Ok(())
    })
}

/// The content of one file of a package.
pub(super) fn read_file(package: &Path, wanted: &str, what: &'static str) -> Result<Vec<u8>, ImageError> {
    let mut found = None;
    for_each_file(package, |path, content| {
        if path.strip_prefix(".").unwrap_or(path) == Path::new(wanted) {
            found = Some(content()?);
        }
        Ok(())
    })?;
    found.ok_or_else(|| ImageError::PackageLacks { package: package.to_owned(), what })
}
