//! One image in a store.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Digest;
use super::error::ImageError;
use super::initrd;
use super::manifest::{KERNEL, MODULES, Manifest, PackageVersion, ROOTFS, RootfsFormat};
use super::recipe::ContainerEngine;

/// An image: what a VM starts from. Its files never change.
#[derive(Clone, Debug)]
pub struct Image {
    /// The name of the recipe that it was made from.
    pub name: String,
    /// What names its content.
    pub digest: Digest,
    /// The uncompressed kernel, an ELF program that QEMU starts through its PVH entry.
    pub kernel: PathBuf,
    /// The kernel's version as `uname -r` prints it.
    pub kernel_version: String,
    /// The modules that a guest loads, in that order.
    pub modules: Vec<PathBuf>,
    /// The read-only root file system.
    pub rootfs: PathBuf,
    /// Its kind.
    pub rootfs_format: RootfsFormat,
    /// The user in whose name commands run unless told otherwise.
    pub default_user: String,
    /// The container engine that its guests have.
    pub container_engine: Option<ContainerEngine>,
    /// The packages of the root file system.
    pub packages: Vec<PackageVersion>,
    /// When it was built.
    pub built_at: SystemTime,
    /// How much space its files take, in bytes.
    pub size: u64,
    /// Where the initial RAM disks made for it are kept.
    pub(super) initrd_directory: PathBuf,
}

impl Image {
    /// The image whose files are in `directory`.
    pub(super) fn new(
        manifest: Manifest,
        digest: Digest,
        directory: &Path,
        initrd_directory: PathBuf,
    ) -> Image {
        let Manifest { content, built_at } = manifest;
        let module = |stem: &String| directory.join(MODULES).join(format!("{stem}.ko"));
        Image {
            name: content.recipe.name,
            digest,
            kernel: directory.join(KERNEL),
            modules: content.kernel.modules.iter().map(module).collect(),
            kernel_version: content.kernel.version,
            rootfs: directory.join(ROOTFS),
            rootfs_format: content.rootfs_format,
            default_user: content.recipe.user,
            container_engine: content.recipe.container_engine,
            packages: content.packages,
            built_at: UNIX_EPOCH + Duration::from_secs(built_at),
            size: content.files.values().map(|file| file.size).sum(),
            initrd_directory,
        }
    }

    /// The initial RAM disk with this program's agent and the image's modules, made when it is not there.
    ///
    /// # Errors
    /// A module cannot be read or the file cannot be written.
    pub fn initrd(&self) -> Result<PathBuf, ImageError> {
        initrd::provide(self)
    }
}
