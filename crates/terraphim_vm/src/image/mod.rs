//! Images: what a VM starts from.
//!
//! A [`Recipe`] says what an image is made from; an [`ImageStore`] builds it and keeps it by the digest of its content; an
//! [`Image`] tells the hypervisor's driver which kernel, initial RAM disk and root file system to use. [`scratch_base`] and
//! [`create_overlay`] make the writable disk of each VM. Everything here works for an ordinary user and blocks: call it from
//! a thread that may wait.
//!
//! A new kind of root file system is a new [`Base`] with a file in `rootfs/`.

mod agent;
mod apt;
mod builder;
mod cpio;
mod deb;
mod digest;
mod error;
mod files;
mod initrd;
mod item;
mod kernel;
mod manifest;
mod mirror;
mod progress;
mod recipe;
mod rootfs;
mod scratch;
mod scratch_space;
mod store;
mod tool;

pub use agent::AGENT;
pub use digest::{Digest, DigestError};
pub use error::{Damage, Hint, ImageError, Tail};
pub use item::Image;
pub use kernel::{ModuleError, VmlinuxError};
pub use manifest::{Content, FileContent, Kernel, Manifest, PackageVersion, RootfsFormat};
pub use progress::{Progress, Silent};
pub use recipe::{Base, ContainerEngine, KernelRecipe, Recipe, RecipeError};
pub use scratch::{create_overlay, scratch_base};
pub use store::{ImageStore, ImageUse, Listed};
