//! What can go wrong with images.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use thiserror::Error;

use super::kernel::{ModuleError, VmlinuxError};
use super::recipe::RecipeError;

/// An image operation failed.
#[derive(Debug, Error)]
pub enum ImageError {
    /// No image has this name or digest.
    #[error("there is no image `{0}` (`tci image ls` shows them, `tci image build` makes the usual one)")]
    NotFound(String),
    /// Several digests start so.
    #[error("`{prefix}` is the start of {count} image digests: give more digits")]
    Ambiguous {
        /// What was asked for.
        prefix: String,
        /// How many images match.
        count: usize,
    },
    /// VMs start from the image that was to be removed.
    #[error("image `{image}` is in use: {} would not start again; remove them first (`tci vm rm`)", vms.join(", "))]
    InUse {
        /// What was to be removed, as it was named.
        image: String,
        /// The VMs, for people.
        vms: Vec<String>,
    },
    /// An image's files are not what its manifest says.
    #[error("image {digest} is damaged: {damage}; remove it with `tci image rm` and build it again")]
    Damaged {
        /// Which image.
        digest: super::Digest,
        /// In what way.
        damage: Damage,
    },
    /// An image's manifest cannot be read.
    #[error("cannot read the manifest {}; remove the image with `tci image rm` and build it again", path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// Where it is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// A recipe is wrong.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// A program that builds images is not installed.
    #[error("program `{program}` is missing; install it with: sudo apt-get install {package}")]
    ToolMissing {
        /// The program.
        program: &'static str,
        /// The Debian package that has it.
        package: &'static str,
    },
    /// A program that builds images failed.
    #[error("`{program}` failed while {stage} ({status}){hint}{tail}")]
    ToolFailed {
        /// The program.
        program: &'static str,
        /// What the build was doing.
        stage: &'static str,
        /// How it ended.
        status: ExitStatus,
        /// What to do about it, when its output tells.
        hint: Hint,
        /// The end of what it wrote to its standard error.
        tail: Tail,
    },
    /// The file system has no room for the build.
    #[error("not enough space in {}: the build needs {need_mib} MiB and {free_mib} MiB are free", directory.display())]
    NoSpace {
        /// Where.
        directory: PathBuf,
        /// How much the build needs.
        need_mib: u64,
        /// How much there is.
        free_mib: u64,
    },
    /// An ordinary user may not use a range of user ids, without which no Debian system can be unpacked.
    #[error(
        "user {uid} has no range of subordinate ids in /etc/subuid and /etc/subgid; add one with: \
         sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 \"$USER\""
    )]
    NoSubordinateIds {
        /// Who builds.
        uid: u32,
    },
    /// The directory to build in is somebody else's.
    #[error("{} belongs to somebody else; remove it, or keep images in a directory that other users may enter", path.display())]
    ForeignDirectory {
        /// The directory.
        path: PathBuf,
    },
    /// Debian's public keys are not installed.
    #[error(
        "Debian's public keys ({}) are missing; install them with: sudo apt-get install debian-archive-keyring",
        super::apt::KEYRING
    )]
    KeyringMissing,
    /// A package archive offers no such package.
    #[error("suite `{suite}` has no package `{package}`")]
    NoPackage {
        /// The suite asked.
        suite: String,
        /// The package.
        package: String,
    },
    /// A package lacks a file that it should have.
    #[error("package {} holds no {what}", package.display())]
    PackageLacks {
        /// The package file.
        package: PathBuf,
        /// What was looked for.
        what: &'static str,
    },
    /// A kernel cannot be taken out of its compressed image.
    #[error("cannot unpack the kernel {}", path.display())]
    Vmlinux {
        /// The compressed image.
        path: PathBuf,
        /// Why.
        #[source]
        source: VmlinuxError,
    },
    /// The modules that a guest needs cannot be put in order.
    #[error("cannot choose the modules of kernel {version}")]
    Modules {
        /// The kernel's version.
        version: String,
        /// Why.
        #[source]
        source: ModuleError,
    },
    /// A file operation failed.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// A verb.
        operation: &'static str,
        /// Its object.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// In what way an image is damaged.
#[derive(Debug)]
pub enum Damage {
    /// A file is missing.
    Missing(PathBuf),
    /// A file has another length than when it was built.
    Size {
        /// Which file, relative to the image.
        file: PathBuf,
        /// Its length when built, in bytes.
        built: u64,
        /// Its length now.
        found: u64,
    },
    /// A file has another content than when it was built.
    Content(PathBuf),
    /// The manifest is not the one that the digest names.
    Manifest,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Damage::Missing(file) => write!(f, "{} is missing", file.display()),
            Damage::Size { file, built, found } => {
                write!(f, "{} has {found} bytes instead of {built}", file.display())
            }
            Damage::Content(file) => write!(f, "the content of {} has changed", file.display()),
            Damage::Manifest => write!(f, "manifest.json has changed"),
        }
    }
}

/// The last lines that a failed program wrote.
#[derive(Debug, Default)]
pub struct Tail(pub(super) Vec<String>);

impl fmt::Display for Tail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|line| write!(f, "\n  {line}"))
    }
}

/// What the output of a failed program tells about the remedy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hint {
    /// Nothing.
    None,
    /// The disk is full.
    NoSpace,
    /// Package servers cannot be reached.
    Network,
    /// The kernel lets ordinary users make no user namespaces.
    UserNamespaces,
}

impl Hint {
    pub(super) fn from_output(tail: &Tail) -> Hint {
        const SIGNS: [(&str, Hint); 8] = [
            ("No space left on device", Hint::NoSpace),
            ("Temporary failure resolving", Hint::Network),
            ("Could not connect to", Hint::Network),
            ("Could not resolve", Hint::Network),
            ("Unable to connect to", Hint::Network),
            ("Connection timed out", Hint::Network),
            ("unshare(", Hint::UserNamespaces),
            ("unprivileged_userns", Hint::UserNamespaces),
        ];
        let seen = |sign: &str| tail.0.iter().any(|line| line.contains(sign));
        SIGNS.iter().find(|(sign, _)| seen(sign)).map_or(Hint::None, |(_, hint)| *hint)
    }
}

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Hint::None => "",
            Hint::NoSpace => ": the disk is full; free some space and build again",
            Hint::Network => ": a package server cannot be reached; check the network (and `http_proxy`) and build again",
            Hint::UserNamespaces => {
                ": ordinary users may not make user namespaces on this machine; allow them (sysctl \
                 kernel.unprivileged_userns_clone=1, on Ubuntu kernel.apparmor_restrict_unprivileged_userns=0) \
                 or build as root"
            }
        })
    }
}

/// Names the file operation that failed.
pub(super) trait IoContext<T> {
    fn io(self, operation: &'static str, path: &Path) -> Result<T, ImageError>;
}

impl<T, E: Into<io::Error>> IoContext<T> for Result<T, E> {
    fn io(self, operation: &'static str, path: &Path) -> Result<T, ImageError> {
        self.map_err(|source| ImageError::Io { operation, path: path.to_owned(), source: source.into() })
    }
}
