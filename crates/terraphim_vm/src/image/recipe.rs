//! What an image is made from: a recipe, from this file or from a TOML file.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The image of `tci run`.
const DEBIAN: &str = include_str!("recipes/debian.toml");
/// The same with a container engine.
const DEBIAN_DOCKER: &str = include_str!("recipes/debian-docker.toml");
/// A small image for tests.
const BUSYBOX: &str = include_str!("recipes/busybox.toml");

/// The same of the next Debian, which has newer programs (node 24), at the price of changing from day to day.
const TESTING: &str = "debian-testing";
/// Debian 14.
const TESTING_SUITE: &str = "forky";

/// What an image is made from. Two equal recipes make images of the same use, though not always of the same packages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Recipe {
    /// The image's name: lower-case letters, digits, `.`, `_` and `-`.
    pub name: String,
    /// What the root file system is grown from.
    pub base: Base,
    /// The Debian suite of its packages, such as `trixie`.
    pub suite: String,
    /// The Debian mirror.
    #[serde(default = "super::mirror::debian")]
    pub mirror: String,
    /// The mirror of Debian's security updates.
    #[serde(default = "super::mirror::security")]
    pub security_mirror: String,
    /// Packages to install, besides those without which Debian does not work.
    #[serde(default)]
    pub packages: Vec<String>,
    /// The user in whose name commands run unless told otherwise. It is made when the packages make no such user.
    #[serde(default = "root")]
    pub user: String,
    /// Shell commands run as root in the finished root file system.
    #[serde(default)]
    pub run: Vec<String>,
    /// The container engine that its packages install.
    // Left out of manifests that have none: they were written, and their digests made, before there was this key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_engine: Option<ContainerEngine>,
    /// The kernel.
    pub kernel: KernelRecipe,
}

/// What a root file system is grown from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Base {
    /// A small Debian system with its package manager.
    Debian,
    /// One program and its links; takes no packages and no commands.
    Busybox,
}

/// A program that runs containers in a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ContainerEngine {
    /// `dockerd` and the command `docker`.
    Docker,
}

/// Where the kernel comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct KernelRecipe {
    /// The Debian suite of the kernel package.
    pub suite: String,
    /// The package; one that only depends on the newest kernel is followed.
    pub package: String,
    /// All its modules are in the root file system too, where `modprobe` finds them. Without this a guest has those that
    /// it starts with and no others.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub all_modules: bool,
}

/// A recipe is wrong.
#[derive(Debug, Error)]
pub enum RecipeError {
    /// No recipe has this name.
    #[error(
        "there is no recipe `{0}`; known are `debian`, `debian-docker`, `debian-testing` and `busybox`, or give a TOML \
         file"
    )]
    Unknown(String),
    /// The file cannot be read.
    #[error("cannot read recipe {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is not a recipe.
    #[error("recipe {} is wrong", origin.display())]
    Syntax {
        /// The file.
        origin: PathBuf,
        /// Where and why, with the line.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// A value cannot be.
    #[error("recipe `{recipe}`: `{key}` is {value:?}, but {rule}")]
    Value {
        /// The recipe's name.
        recipe: String,
        /// The key.
        key: &'static str,
        /// Its value.
        value: String,
        /// What it must be.
        rule: &'static str,
    },
}

impl Recipe {
    /// A recipe that comes with this program: `debian`, `debian-docker`, `debian-testing` or `busybox`.
    ///
    /// # Errors
    /// There is no recipe of this name.
    pub fn named(name: &str) -> Result<Recipe, RecipeError> {
        match name {
            "debian" => Recipe::parse(DEBIAN, Path::new("debian.toml")),
            "debian-docker" => Recipe::parse(DEBIAN_DOCKER, Path::new("debian-docker.toml")),
            TESTING => {
                let recipe = Recipe::parse(DEBIAN, Path::new("debian.toml"))?;
                Ok(Recipe { name: TESTING.to_owned(), suite: TESTING_SUITE.to_owned(), ..recipe })
            }
            "busybox" => Recipe::parse(BUSYBOX, Path::new("busybox.toml")),
            _ => Err(RecipeError::Unknown(name.to_owned())),
        }
    }

    /// Reads a recipe from a TOML file.
    ///
    /// # Errors
    /// The file cannot be read, has an unknown key, lacks one or has a value that cannot be.
    pub fn from_file(path: &Path) -> Result<Recipe, RecipeError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| RecipeError::Read { path: path.to_owned(), source })?;
        Recipe::parse(&text, path)
    }

    /// Reads a recipe from TOML text; `origin` names it in errors.
    ///
    /// # Errors
    /// As [`Recipe::from_file`].
    pub fn parse(text: &str, origin: &Path) -> Result<Recipe, RecipeError> {
        let recipe: Recipe = toml::from_str(text)
            .map_err(|source| RecipeError::Syntax { origin: origin.to_owned(), source: Box::new(source) })?;
        recipe.check()?;
        Ok(recipe)
    }

    /// Refuses values that would be misread further down, by a shell, by apt or as a path.
    pub(super) fn check(&self) -> Result<(), RecipeError> {
        self.value("name", &self.name, is_image_name(&self.name), NAME_RULE)?;
        for (key, suite) in [("suite", &self.suite), ("kernel.suite", &self.kernel.suite)] {
            self.value(
                key,
                suite,
                is_package_name(suite),
                "a suite has lower-case letters, digits, `+`, `-` and `.`",
            )?;
        }
        for (key, url) in [("mirror", &self.mirror), ("security-mirror", &self.security_mirror)] {
            self.value(
                key,
                url,
                is_mirror(url),
                "a mirror is an http or https address without spaces or brackets; without one, mmdebstrap must be \
                 installed, which knows Debian's",
            )?;
        }
        for (key, package) in self
            .packages
            .iter()
            .map(|name| ("packages", name))
            .chain([("kernel.package", &self.kernel.package)])
        {
            let rule = "a package has lower-case letters, digits, `+`, `-` and `.`";
            self.value(key, package, is_package_name(package), rule)?;
        }
        self.value(
            "user",
            &self.user,
            is_user_name(&self.user),
            "a user has lower-case letters, digits, `_` and `-`",
        )?;
        if self.base == Base::Busybox {
            let rule = "an image with the base `busybox` takes none";
            self.value("packages", &self.packages.join(" "), self.packages.is_empty(), rule)?;
            self.value("run", &self.run.join("; "), self.run.is_empty(), rule)?;
            let engine = self.container_engine.map_or(String::new(), |engine| format!("{engine:?}"));
            self.value("container-engine", &engine, engine.is_empty(), rule)?;
            let all = self.kernel.all_modules;
            self.value("kernel.all-modules", &all.to_string(), !all, rule)?;
        }
        Ok(())
    }

    fn value(
        &self,
        key: &'static str,
        value: &str,
        holds: bool,
        rule: &'static str,
    ) -> Result<(), RecipeError> {
        if holds {
            return Ok(());
        }
        Err(RecipeError::Value { recipe: self.name.clone(), key, value: value.to_owned(), rule })
    }
}

const NAME_RULE: &str =
    "a name has lower-case letters, digits, `.`, `_` and `-`, starts with a letter, and is no longer than 64";

/// Whether a word may name an image.
pub(super) fn is_image_name(name: &str) -> bool {
    name.len() <= 64
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c))
}

/// Debian Policy 5.6.7; suites look the same.
fn is_package_name(name: &str) -> bool {
    name.len() >= 2
        && name.starts_with(|first: char| first.is_ascii_lowercase() || first.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.".contains(c))
}

fn is_user_name(name: &str) -> bool {
    name.len() <= 32
        && name.starts_with(|first: char| first.is_ascii_lowercase() || first == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(c))
}

fn is_mirror(url: &str) -> bool {
    url.strip_prefix("http://").or_else(|| url.strip_prefix("https://")).is_some_and(|rest| {
        !rest.is_empty() && rest.chars().all(|c| c.is_ascii_graphic() && !"[]\"'\\`$".contains(c))
    })
}

fn root() -> String {
    "root".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error;

    fn wrong(text: &str) -> String {
        let error = Recipe::parse(text, Path::new("my.toml")).unwrap_err();
        error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
    }

    const GOOD: &str = "name = 'mine'\nbase = 'debian'\nsuite = 'trixie'\nkernel = { suite = 'bookworm', package = 'linux-image-cloud-amd64' }\n";

    #[test]
    fn the_recipes_we_carry_are_right() {
        assert_eq!(Recipe::named("debian").unwrap().user, "runner");
        let testing = Recipe::named("debian-testing").unwrap();
        assert_eq!((testing.name.as_str(), testing.suite.as_str()), ("debian-testing", "forky"));
        assert_eq!(Recipe::named("busybox").unwrap().user, "root");
        assert!(Recipe::named("plan9").unwrap_err().to_string().contains("`plan9`"));
    }

    #[test]
    fn the_image_with_an_engine_has_all_that_the_other_has() {
        let (plain, docker) = (Recipe::named("debian").unwrap(), Recipe::named("debian-docker").unwrap());
        let lacks: Vec<_> = plain.packages.iter().filter(|name| !docker.packages.contains(name)).collect();
        assert_eq!(lacks, Vec::<&String>::new());
        assert_eq!((plain.container_engine, docker.container_engine), (None, Some(ContainerEngine::Docker)));
        assert_eq!(plain.kernel, KernelRecipe { all_modules: false, ..docker.kernel });
        assert!(docker.run.starts_with(&plain.run));
    }

    #[test]
    fn keys_that_came_later_do_not_change_older_manifests() {
        let json = serde_json::to_value(Recipe::named("debian").unwrap()).unwrap();
        assert!(json.get("container-engine").is_none() && json["kernel"].get("all-modules").is_none());
    }

    #[test]
    fn a_file_may_leave_out_what_has_a_default() {
        let recipe = Recipe::parse(GOOD, Path::new("my.toml")).unwrap();
        assert_eq!((recipe.user.as_str(), recipe.packages.len()), ("root", 0));
    }

    #[test]
    fn errors_name_file_line_and_key() {
        let text = wrong(&format!("{GOOD}colour = 'red'\n"));
        assert!(text.contains("my.toml") && text.contains("line 5") && text.contains("`colour`"), "{text}");
        let text = wrong("name = 'mine'\n");
        assert!(text.contains("missing field"), "{text}");
        let text = wrong("name = \n");
        assert!(text.contains("line 1"), "{text}");
        let text = wrong(&GOOD.replace("'debian'", "'arch'"));
        assert!(text.contains("line 2") && text.contains("arch"), "{text}");
    }

    #[test]
    fn values_that_could_be_taken_for_something_else_are_refused() {
        for (from, to, key) in [
            ("'mine'", "'../mine'", "`name`"),
            ("'mine'", "'Mine'", "`name`"),
            ("'trixie'", "'trixie main contrib'", "`suite`"),
            ("'linux-image-cloud-amd64'", "'-oDir=/'", "`kernel.package`"),
        ] {
            let text = wrong(&GOOD.replace(from, to));
            assert!(text.contains(key), "{to}: {text}");
        }
        for (line, key) in [
            ("packages = ['a b']\n", "`packages`"),
            ("mirror = 'file:///'\n", "`mirror`"),
            ("mirror = 'http://x/ [trusted=yes]'\n", "`mirror`"),
            ("user = '-x'\n", "`user`"),
        ] {
            let text = wrong(&format!("{line}{GOOD}"));
            assert!(text.contains(key), "{line}: {text}");
        }
        let text = wrong(&format!("run = ['true']\n{}", GOOD.replace("'debian'", "'busybox'")));
        assert!(text.contains("`run`"), "{text}");
    }
}
