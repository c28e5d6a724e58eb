//! The read-only root file system of an image.

mod busybox;
mod debian;
mod squash;
mod users;

use std::fs::File;
use std::path::Path;

use super::error::{ImageError, IoContext};
use super::files::Lock;
use super::manifest::PackageVersion;
use super::progress::Progress;
use super::recipe::Base;
use super::tool;
use super::{Recipe, files};

/// One root file system to build.
pub(super) struct Job<'a> {
    pub(super) recipe: &'a Recipe,
    /// Where downloads are kept.
    pub(super) cache: &'a Path,
    /// An empty directory for what is needed only while building, on the same file system as `cache`.
    pub(super) work: &'a Path,
    /// The file to make.
    pub(super) target: &'a Path,
    /// Kernel modules for `/lib/modules`, in `work`.
    pub(super) modules: Option<&'a Path>,
    /// Ask the package servers even if our lists are fresh.
    pub(super) refresh: bool,
    /// The lock of the store.
    pub(super) lock: &'a Lock,
    pub(super) progress: &'a dyn Progress,
}

/// Builds a root file system and returns its packages.
pub(super) fn build(job: &Job<'_>) -> Result<Vec<PackageVersion>, ImageError> {
    match job.recipe.base {
        Base::Debian => debian::build(job),
        Base::Busybox => busybox::build(job),
    }
}

/// Fails early unless the programs and the space for a build are there.
pub(super) fn require(recipe: &Recipe, directory: &Path) -> Result<(), ImageError> {
    tool::require("sqfstar", "squashfs-tools")?;
    let need_mib = match recipe.base {
        Base::Debian => {
            tool::require("mmdebstrap", "mmdebstrap")?;
            // The unpacked system, its tar file and the packages, each below 700 MiB; with an engine below 1 GiB.
            if recipe.container_engine.is_some() { 3072 } else { 2048 }
        }
        Base::Busybox => 64,
    };
    files::require_space(directory, need_mib)
}

/// Opens a file that the calling process has just written.
fn open(path: &Path) -> Result<File, ImageError> {
    File::open(path).io("open", path)
}
