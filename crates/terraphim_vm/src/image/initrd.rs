//! The initial RAM disk of a guest: the agent as `/init`, and the modules that it loads.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::agent::{AGENT, AGENT_KEY};
use super::cpio::Archive;
use super::error::{ImageError, IoContext};
use super::{Digest, Image, files};

/// The modules' order, one file name a line, as the agent reads it.
const ORDER: &str = "modules/order";

/// Makes the RAM disk of `image`, unless it is there. Uncompressed, because unpacking costs a guest more than reading.
pub(super) fn provide(image: &Image) -> Result<PathBuf, ImageError> {
    // The image's digest covers its modules, so nothing has to be read to find out that nothing changed.
    let key = Digest::of(format!("{LAYOUT} {AGENT_KEY} {}", image.digest).as_bytes()).short();
    let path = image.initrd_directory.join(format!("{key}.cpio"));
    if path.exists() {
        return Ok(path);
    }
    fs::create_dir_all(&image.initrd_directory).io("create", &image.initrd_directory)?;
    let archive = compose(AGENT, &image.modules).map_err(|error| match error {
        ComposeError::Module(path, source) => ImageError::Io { operation: "read", path, source },
        ComposeError::Archive(source) => ImageError::Io { operation: "compose", path: path.clone(), source },
    })?;
    files::write_atomically(&path, &archive)?;
    Ok(path)
}

/// Changes when we put something else into the archive. 2: everybody may read the file.
const LAYOUT: u32 = 2;

enum ComposeError {
    Module(PathBuf, io::Error),
    Archive(io::Error),
}

impl From<io::Error> for ComposeError {
    fn from(error: io::Error) -> Self {
        ComposeError::Archive(error)
    }
}

fn compose(agent: &[u8], modules: &[PathBuf]) -> Result<Vec<u8>, ComposeError> {
    let mut archive = Archive::new(Vec::new());
    for directory in ["dev", "proc", "sys", "run", "tmp", "modules"] {
        archive.directory(directory, 0o755)?;
    }
    // The kernel opens the console before it starts the agent, which is before anything is mounted on /dev.
    archive.character_device("dev/console", 0o600, (5, 1))?;
    archive.character_device("dev/null", 0o666, (1, 3))?;
    archive.file("init", 0o755, agent)?;
    let mut order = String::new();
    for module in modules {
        let name = file_name(module);
        let content = fs::read(module).map_err(|source| ComposeError::Module(module.clone(), source))?;
        archive.file(&format!("modules/{name}"), 0o644, &content)?;
        order += name;
        order.push('\n');
    }
    archive.file(ORDER, 0o644, order.as_bytes())?;
    Ok(archive.finish()?)
}

fn file_name(module: &Path) -> &str {
    module
        .file_name()
        .and_then(|name| name.to_str())
        .expect("an image's module paths end in names from its manifest")
}
