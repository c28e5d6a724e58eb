//! Images by their content and their names.
//!
//! ```text
//! DIR/images/<digest>/{manifest.json, vmlinux, modules/, rootfs.squashfs}
//! DIR/refs/<name>         the digest that the name means
//! DIR/initrds/            initial RAM disks, made when needed
//! DIR/lock                held while something is built or removed
//! CACHE/{apt, kernels}    downloads, shared by all stores that use it
//! ```

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::builder::Build;
use super::error::{Damage, ImageError, IoContext};
use super::files::{self, Lock};
use super::manifest::{FORMAT, Manifest};
use super::progress::{Progress, Silent};
use super::recipe::is_image_name;
use super::{Digest, Image, Recipe};

/// A directory of images.
#[derive(Clone, Debug)]
pub struct ImageStore {
    directory: PathBuf,
    cache: PathBuf,
}

/// An image as [`ImageStore::list`] shows it.
#[derive(Debug)]
pub struct Listed {
    /// What names its content.
    pub digest: Digest,
    /// The name that means it; none for one that a newer build has replaced.
    pub name: Option<String>,
    /// The image, or why it cannot be used.
    pub image: Result<Image, ImageError>,
}

/// Who starts from an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageUse {
    /// The VM, for people.
    pub vm: String,
    /// What its definition calls the image: a name, or the start of a digest.
    pub image: String,
}

/// What goes with a name or digest that is removed.
struct Removal {
    digest: Digest,
    names: Vec<String>,
    /// Whether no other name means the image.
    takes_image: bool,
}

impl ImageStore {
    /// Opens the store in `directory`, making it when it is not there. Downloads are kept in its subdirectory `cache`.
    ///
    /// # Errors
    /// The directory cannot be made or entered.
    pub fn open(directory: &Path) -> Result<ImageStore, ImageError> {
        ImageStore::open_with_cache(directory, &directory.join("cache"))
    }

    /// Opens the store in `directory` with its downloads elsewhere, where other stores may share them.
    ///
    /// # Errors
    /// A directory cannot be made or entered.
    pub fn open_with_cache(directory: &Path, cache: &Path) -> Result<ImageStore, ImageError> {
        let prepare = |path: &Path| {
            crate::make_private_directory(path).io("create", path)?;
            path.canonicalize().io("find", path)
        };
        let directory = prepare(directory)?;
        prepare(&directory.join("images"))?;
        prepare(&directory.join("refs"))?;
        Ok(ImageStore { cache: prepare(cache)?, directory })
    }

    /// The image made from `recipe`, built unless it is there.
    ///
    /// One build runs at a time; another waits for it, and says so. A build that is interrupted leaves only what the next
    /// one clears away, and downloads, which the next one uses.
    ///
    /// # Errors
    /// The recipe is wrong, a program is missing or fails, servers cannot be reached, or there is no space.
    pub fn build(&self, recipe: &Recipe, progress: &dyn Progress) -> Result<Image, ImageError> {
        recipe.check()?;
        if let Some(image) = self.built(recipe, progress)? {
            return Ok(image);
        }
        let lock = self.lock(progress)?;
        // Somebody may have built it while we waited.
        match self.built(recipe, progress)? {
            Some(image) => Ok(image),
            None => self.make(recipe, false, &lock, progress),
        }
    }

    /// As [`ImageStore::build`], but with the newest packages even if the image is there. VMs keep what they started from.
    ///
    /// # Errors
    /// As [`ImageStore::build`].
    pub fn rebuild(&self, recipe: &Recipe, progress: &dyn Progress) -> Result<Image, ImageError> {
        recipe.check()?;
        let lock = self.lock(progress)?;
        self.make(recipe, true, &lock, progress)
    }

    /// The image with this name, or whose digest starts so.
    ///
    /// # Errors
    /// There is none, there are several, or it is damaged.
    pub fn resolve(&self, name: &str) -> Result<Image, ImageError> {
        self.load(self.find(name)?)
    }

    /// All images, sorted by name and digest.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn list(&self) -> Result<Vec<Listed>, ImageError> {
        let names = self.names()?;
        let listed = |digest: Digest| {
            let name = names.iter().find(|(_, named)| *named == digest).map(|(name, _)| name.clone());
            Listed { digest, name, image: self.load(digest) }
        };
        let mut list: Vec<Listed> = self.digests()?.into_iter().map(listed).collect();
        list.sort_by(|a, b| {
            (a.name.is_none(), &a.name, a.digest).cmp(&(b.name.is_none(), &b.name, b.digest))
        });
        Ok(list)
    }

    /// Everything that the image's manifest says.
    ///
    /// # Errors
    /// As [`ImageStore::resolve`].
    pub fn inspect(&self, name: &str) -> Result<Manifest, ImageError> {
        Manifest::read(&self.path_of(self.find(name)?))
    }

    /// Reads every byte of an image and compares it with what was built.
    ///
    /// # Errors
    /// It differs, or cannot be read.
    pub fn verify(&self, name: &str) -> Result<Image, ImageError> {
        let digest = self.find(name)?;
        let directory = self.path_of(digest);
        match Manifest::read(&directory)?.verify(&directory, digest)? {
            Some(damage) => Err(ImageError::Damaged { digest, damage }),
            None => self.load(digest),
        }
    }

    /// Removes a name, and the image that it means unless another name means it too; or the image whose digest starts so,
    /// with its names. VMs that run keep the files that they have opened.
    ///
    /// # Errors
    /// There is no such image, or it cannot be removed.
    pub fn remove(&self, name: &str) -> Result<Digest, ImageError> {
        self.remove_unless_used(name, &[])
    }

    /// As [`ImageStore::remove`], unless one of `uses` could not start any more.
    ///
    /// # Errors
    /// As [`ImageStore::remove`], and [`ImageError::InUse`]; nothing is removed then.
    pub fn remove_unless_used(&self, name: &str, uses: &[ImageUse]) -> Result<Digest, ImageError> {
        let _lock = self.lock(&Silent)?;
        let removal = self.removal(name)?;
        let users = uses.iter().filter(|one| self.would_lose(&removal, &one.image));
        let vms: Vec<String> = users.map(|one| one.vm.clone()).collect();
        if !vms.is_empty() {
            return Err(ImageError::InUse { image: name.to_owned(), vms });
        }
        for name in &removal.names {
            files::remove(&self.reference_path(name))?;
        }
        let directory = self.path_of(removal.digest);
        // A name may outlive its image when somebody removed the directory by hand.
        if removal.takes_image && directory.exists() {
            files::remove(&directory)?;
        }
        Ok(removal.digest)
    }

    fn removal(&self, name: &str) -> Result<Removal, ImageError> {
        let digest = self.find(name)?;
        let by_name = self.reference(name)?.is_some();
        let of_image = self.names()?.into_iter().filter(|(_, named)| *named == digest).map(|(name, _)| name);
        let (names, kept): (Vec<String>, Vec<String>) = of_image.partition(|other| !by_name || other == name);
        Ok(Removal { digest, names, takes_image: kept.is_empty() })
    }

    /// Whether what is called `image` cannot be found any more after a removal.
    fn would_lose(&self, removal: &Removal, image: &str) -> bool {
        removal.names.iter().any(|name| name == image)
            || (removal.takes_image && self.find(image).is_ok_and(|digest| digest == removal.digest))
    }

    /// Removes the images that no name means any more, what killed builds left, and RAM disks, which are quickly made again.
    /// Returns the digests of the removed images.
    ///
    /// # Errors
    /// Something cannot be removed.
    pub fn prune(&self) -> Result<Vec<Digest>, ImageError> {
        let _lock = self.lock(&Silent)?;
        let names = self.names()?;
        let mut unnamed = self.digests()?;
        unnamed.retain(|digest| !names.iter().any(|(_, named)| named == digest));
        for digest in &unnamed {
            files::remove(&self.path_of(*digest))?;
        }
        super::builder::clear_unfinished(&self.images())?;
        let initrds = self.initrds();
        if initrds.exists() {
            files::remove(&initrds)?;
        }
        Ok(unnamed)
    }

    fn make(
        &self,
        recipe: &Recipe,
        refresh: bool,
        lock: &Lock,
        progress: &dyn Progress,
    ) -> Result<Image, ImageError> {
        let images = self.images();
        let build = Build { recipe, images: &images, cache: &self.cache, refresh, lock, progress };
        let digest = build.run()?;
        files::write_atomically(&self.reference_path(&recipe.name), format!("{digest}\n").as_bytes())?;
        self.load(digest)
    }

    /// The image that the recipe's name means, if it was made from this very recipe and is whole.
    fn built(&self, recipe: &Recipe, progress: &dyn Progress) -> Result<Option<Image>, ImageError> {
        let Some(digest) = self.reference(&recipe.name)? else { return Ok(None) };
        let directory = self.path_of(digest);
        if !directory.exists() {
            return Ok(None);
        }
        let usable = Manifest::read(&directory).and_then(|manifest| {
            let image = self.load(digest)?;
            Ok((manifest.content.recipe == *recipe && manifest.content.format == FORMAT).then_some(image))
        });
        match usable {
            Err(error @ (ImageError::Damaged { .. } | ImageError::Manifest { .. })) => {
                progress.note(&format!("building again: {error}"));
                Ok(None)
            }
            other => other,
        }
    }

    fn load(&self, digest: Digest) -> Result<Image, ImageError> {
        let directory = self.path_of(digest);
        let manifest = Manifest::read(&directory).map_err(|error| match error {
            ImageError::Io { source, .. } if source.kind() == ErrorKind::NotFound => {
                ImageError::Damaged { digest, damage: Damage::Missing("manifest.json".into()) }
            }
            other => other,
        })?;
        match manifest.glance(&directory) {
            Some(damage) => Err(ImageError::Damaged { digest, damage }),
            None => Ok(Image::new(manifest, digest, &directory, self.initrds())),
        }
    }

    fn find(&self, name: &str) -> Result<Digest, ImageError> {
        if let Some(digest) = self.reference(name)? {
            return Ok(digest);
        }
        // Fewer digits are more likely a slip than a digest.
        const FEWEST_DIGITS: usize = 4;
        let mut matching = self.digests()?;
        matching.retain(|digest| name.len() >= FEWEST_DIGITS && digest.to_string().starts_with(name));
        match matching[..] {
            [] => Err(ImageError::NotFound(name.to_owned())),
            [digest] => Ok(digest),
            _ => Err(ImageError::Ambiguous { prefix: name.to_owned(), count: matching.len() }),
        }
    }

    /// The digest that a name means.
    fn reference(&self, name: &str) -> Result<Option<Digest>, ImageError> {
        if !is_image_name(name) {
            return Ok(None);
        }
        let path = self.reference_path(name);
        match fs::read_to_string(&path) {
            // An unreadable name is as good as none: the image is still known by its digest, and can be built again.
            Ok(text) => Ok(text.trim_end().parse().ok()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).io("read", &path),
        }
    }

    fn names(&self) -> Result<Vec<(String, Digest)>, ImageError> {
        let mut names = Vec::new();
        for path in files::entries(&self.directory.join("refs"))? {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if let Some(digest) = self.reference(name)? {
                names.push((name.to_owned(), digest));
            }
        }
        Ok(names)
    }

    fn digests(&self) -> Result<Vec<Digest>, ImageError> {
        let digest = |path: &PathBuf| path.file_name()?.to_str()?.parse().ok();
        Ok(files::entries(&self.images())?.iter().filter_map(digest).collect())
    }

    fn lock(&self, progress: &dyn Progress) -> Result<Lock, ImageError> {
        Lock::take(&self.directory.join("lock"), progress)
    }

    fn images(&self) -> PathBuf {
        self.directory.join("images")
    }

    fn initrds(&self) -> PathBuf {
        self.directory.join("initrds")
    }

    fn path_of(&self, digest: Digest) -> PathBuf {
        self.images().join(digest.to_string())
    }

    fn reference_path(&self, name: &str) -> PathBuf {
        self.directory.join("refs").join(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A store with images of which only the names matter.
    fn store(names: &[(&str, Digest)]) -> (tempfile::TempDir, ImageStore) {
        let dir = tempfile::tempdir().unwrap();
        let store = ImageStore::open(dir.path()).unwrap();
        for (name, digest) in names {
            fs::create_dir_all(store.path_of(*digest)).unwrap();
            fs::write(store.reference_path(name), format!("{digest}\n")).unwrap();
        }
        (dir, store)
    }

    fn used(vm: &str, image: &str) -> ImageUse {
        ImageUse { vm: vm.to_owned(), image: image.to_owned() }
    }

    #[test]
    fn an_image_that_vms_start_from_stays() {
        let (digest, other) = (Digest::of(b"a"), Digest::of(b"b"));
        let (_dir, store) = store(&[("one", digest), ("other", other)]);
        let uses =
            [used("web (running)", "one"), used("db (stopped)", &digest.short()), used("else", "other")];
        let whole = digest.to_string();
        for name in ["one", whole.as_str()] {
            let refused = store.remove_unless_used(name, &uses).unwrap_err();
            assert_eq!(
                refused.to_string(),
                format!(
                    "image `{name}` is in use: web (running), db (stopped) would not start again; remove them first \
                     (`tci vm rm`)"
                )
            );
            assert!(store.path_of(digest).exists() && store.find("one").is_ok());
        }
        assert_eq!(store.remove_unless_used("one", &uses[2..]).unwrap(), digest);
        assert!(!store.path_of(digest).exists());
        assert_eq!(store.remove("other").unwrap(), other, "whoever does not ask is not refused");
    }

    #[test]
    fn a_name_that_another_stands_in_for_is_in_use_only_by_itself() {
        let digest = Digest::of(b"a");
        let (_dir, store) = store(&[("one", digest), ("two", digest)]);
        let uses = [used("web", "two"), used("db", &digest.to_string())];
        assert!(matches!(
            store.remove_unless_used("two", &uses),
            Err(ImageError::InUse { vms, .. }) if vms == ["web"]
        ));
        store.remove_unless_used("one", &uses).unwrap();
        assert!(store.path_of(digest).exists());
        assert!(matches!(
            store.remove_unless_used("two", &uses),
            Err(ImageError::InUse { vms, .. }) if vms == ["web", "db"]
        ));
    }
}
