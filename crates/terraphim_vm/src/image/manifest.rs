//! What is in an image, as its `manifest.json` says.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::error::{Damage, ImageError, IoContext};
use super::{Digest, Recipe};

/// Changes when a build makes something else of the same recipe, so that older images are built again.
pub(super) const FORMAT: u32 = 2;

pub(super) const MANIFEST: &str = "manifest.json";
pub(super) const KERNEL: &str = "vmlinux";
pub(super) const MODULES: &str = "modules";
pub(super) const ROOTFS: &str = "rootfs.squashfs";

/// Now, in seconds since 1970. A host whose clock stands before that has other worries than the age of its images.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_secs())
}

/// An image's manifest.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Everything that the image's digest covers.
    pub content: Content,
    /// When it was built, in seconds since 1970.
    pub built_at: u64,
}

/// What an image is and what it was made from.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Content {
    /// The version of the build.
    pub format: u32,
    /// What it was made from.
    pub recipe: Recipe,
    /// The kernel.
    pub kernel: Kernel,
    /// The file system of the root.
    pub rootfs_format: RootfsFormat,
    /// The packages of the root file system.
    pub packages: Vec<PackageVersion>,
    /// The image's files by their path in it.
    pub files: BTreeMap<PathBuf, FileContent>,
}

/// The kernel of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kernel {
    /// Its version as `uname -r` prints it.
    pub version: String,
    /// The package that it comes from.
    pub package: PackageVersion,
    /// The modules that a guest loads, in that order, by the stem of their file.
    pub modules: Vec<String>,
}

/// A package and its version.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackageVersion {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// The content of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileContent {
    /// Its length in bytes.
    pub size: u64,
    /// Its digest.
    pub sha256: Digest,
}

/// The file system of an image's root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RootfsFormat {
    /// squashfs, compressed with lz4: an ordinary user can make it from a tar file, and it is as quick to read as others.
    Squashfs,
}

impl RootfsFormat {
    /// The name by which the kernel mounts it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            RootfsFormat::Squashfs => "squashfs",
        }
    }
}

impl Content {
    /// The image's digest: equal content has equal digests, whenever it was built.
    pub(super) fn digest(&self) -> Digest {
        let json =
            serde_json::to_vec(self).expect("the content has string keys only and no failing serializer");
        Digest::of(&json)
    }
}

impl Manifest {
    /// Reads the manifest of the image in `directory`.
    pub(super) fn read(directory: &Path) -> Result<Manifest, ImageError> {
        let path = directory.join(MANIFEST);
        let text = fs::read(&path).io("read", &path)?;
        serde_json::from_slice(&text).map_err(|source| ImageError::Manifest { path, source })
    }

    pub(super) fn to_json(&self) -> String {
        let json = serde_json::to_string_pretty(self);
        json.expect("the manifest has string keys only and no failing serializer") + "\n"
    }

    /// Finds what a glance can find: missing files and files of another length.
    pub(super) fn glance(&self, directory: &Path) -> Option<Damage> {
        self.content.files.iter().find_map(|(file, content)| match fs::metadata(directory.join(file)) {
            Err(_) => Some(Damage::Missing(file.clone())),
            Ok(metadata) if metadata.len() != content.size => {
                Some(Damage::Size { file: file.clone(), built: content.size, found: metadata.len() })
            }
            Ok(_) => None,
        })
    }

    /// Reads every byte and compares.
    pub(super) fn verify(&self, directory: &Path, digest: Digest) -> Result<Option<Damage>, ImageError> {
        if self.content.digest() != digest {
            return Ok(Some(Damage::Manifest));
        }
        if let Some(damage) = self.glance(directory) {
            return Ok(Some(damage));
        }
        for (file, content) in &self.content.files {
            if Digest::of_file(&directory.join(file))?.0 != content.sha256 {
                return Ok(Some(Damage::Content(file.clone())));
            }
        }
        Ok(None)
    }
}
