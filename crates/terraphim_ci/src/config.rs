//! The configuration: `~/.config/tci/config.toml`, then `tci.toml` in the repository; environment variables and flags
//! come on top of both (see the command line).

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use terraphim_github_runner::{engine::VmTypes, learning::LessonThreshold};
use terraphim_vm::{Limits, Network, VmSpec};

use crate::{api::Settings, config_error::ConfigError, input, llm_settings, services};

/// One file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct File {
    vm_types: BTreeMap<String, VmType>,
    runs_on: BTreeMap<String, String>,
    serve: Option<Settings>,
    services: Option<services::Settings>,
    learning: Option<LearningFile>,
    actions: ActionKeys,
    llm: Option<llm_settings::Settings>,
}

/// Whether tci learns from runs, and what it tells. What is absent is as it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct LearningFile {
    enabled: Option<bool>,
    lesson_threshold: Option<u64>,
}

/// Whether tci learns from runs, and what it tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LearningSettings {
    /// Learn from runs and tell what was learned.
    pub(crate) enabled: bool,
    /// From how many failures on there is a lesson.
    pub(crate) lesson_threshold: LessonThreshold,
}

impl Default for LearningSettings {
    fn default() -> LearningSettings {
        LearningSettings { enabled: true, lesson_threshold: LessonThreshold::default() }
    }
}

/// Where actions come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ActionSettings {
    /// Directories and addresses that are asked instead of GitHub, in this order.
    pub(crate) mirror: Vec<String>,
    /// Run `actions/checkout` itself.
    pub(crate) real_checkout: bool,
}

/// `[actions]` of one file: what it does not say is as the file before it says.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct ActionKeys {
    /// A directory is relative to the file.
    mirror: Option<Vec<String>>,
    real_checkout: Option<bool>,
}

/// A kind of VM. What is absent is as in `default`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct VmType {
    /// An image's name or digest.
    pub(crate) image: Option<String>,
    /// Virtual processors.
    pub(crate) cpus: Option<u8>,
    /// Memory in MiB.
    pub(crate) memory_mib: Option<u32>,
    /// Writable disk in MiB.
    pub(crate) disk_mib: Option<u32>,
    /// What the guest can reach.
    pub(crate) network: Option<Network>,
    /// What it may take of the host.
    pub(crate) limits: Limits,
}

impl VmType {
    /// This type with everything that `over` says instead.
    pub(crate) fn overridden_by(&self, over: &VmType) -> VmType {
        VmType {
            image: over.image.clone().or_else(|| self.image.clone()),
            cpus: over.cpus.or(self.cpus),
            memory_mib: over.memory_mib.or(self.memory_mib),
            disk_mib: over.disk_mib.or(self.disk_mib),
            network: over.network.or(self.network),
            limits: self.limits.overridden_by(&over.limits),
        }
    }

    /// The definition of a VM of this type.
    pub(crate) fn spec(&self) -> VmSpec {
        let default = VmSpec::default();
        VmSpec {
            image: self.image.clone().unwrap_or(default.image),
            vcpus: self.cpus.unwrap_or(default.vcpus),
            memory_mib: self.memory_mib.unwrap_or(default.memory_mib),
            disk_mib: self.disk_mib.unwrap_or(default.disk_mib),
            network: self.network.unwrap_or(default.network),
            limits: self.limits,
            ..VmSpec::default()
        }
    }
}

/// Everything that is configured.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Config {
    /// VM types by name; `default`, `bionic-test` and `focal` always exist.
    pub(crate) vm_types: BTreeMap<String, VmType>,
    /// VM types by label of `runs-on`, in lower case.
    runs_on: BTreeMap<String, String>,
    /// What `tci serve` allows.
    pub(crate) serve: Settings,
    /// What the services for jobs allow.
    pub(crate) services: services::Settings,
    /// Whether tci learns from runs, and what it tells.
    pub(crate) learning: LearningSettings,
    /// Where actions come from.
    pub(crate) actions: ActionSettings,
    /// Which language model is asked, if any.
    pub(crate) llm: Option<llm_settings::Settings>,
}

impl Default for Config {
    fn default() -> Config {
        // The two names that clients of earlier VM hosts ask for; here they are the default by another name.
        let names = ["default", "bionic-test", "focal"];
        let vm_types = names.into_iter().map(|name| (name.to_owned(), VmType::default())).collect();
        Config {
            vm_types,
            runs_on: BTreeMap::new(),
            serve: Settings::default(),
            services: services::Settings::default(),
            learning: LearningSettings::default(),
            actions: ActionSettings::default(),
            llm: None,
        }
    }
}

impl Config {
    /// The user's configuration and that of the repository at `root`.
    pub(crate) fn load(root: Option<&Path>) -> Result<Config, ConfigError> {
        let user = user_directory().map(|dir| (dir.join("tci/config.toml"), true));
        let files = user.into_iter().chain(root.map(|root| (root.join("tci.toml"), false)));
        let mut config = Config::default();
        for (path, is_users) in files {
            match input::read_text(&path, input::MOST) {
                Ok(text) => config.add(&path, &text, is_users)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(ConfigError::Read { path, source }),
            }
        }
        match std::env::var("TCI_LEARNING").as_deref() {
            Ok("off") => config.learning.enabled = false,
            Ok("on") => config.learning.enabled = true,
            Ok("") | Err(_) => {}
            Ok(other) => return Err(ConfigError::Learning { value: other.to_owned() }),
        }
        Ok(config)
    }

    fn add(&mut self, path: &Path, text: &str, is_users: bool) -> Result<(), ConfigError> {
        let file: File = toml::from_str(text).map_err(|error| ConfigError::syntax(path, text, &error))?;
        for (name, vm_type) in file.vm_types {
            let merged =
                self.vm_types.get(&name).map_or_else(|| vm_type.clone(), |old| old.overridden_by(&vm_type));
            self.vm_types.insert(name, merged);
        }
        for (label, vm_type) in file.runs_on {
            if !self.vm_types.contains_key(&vm_type) {
                let why = format!("names the VM type `{vm_type}`, which does not exist");
                return Err(ConfigError::value(path, text, &["runs-on", &label], why));
            }
            self.runs_on.insert(label.to_lowercase(), vm_type);
        }
        if let Some(mut mirrors) = file.actions.mirror {
            // The user's token goes to every mirror: an address that a repository names would collect it.
            if !is_users && mirrors.iter().any(|mirror| mirror.contains("://")) {
                return Err(ConfigError::not_yours(path, text, &["actions", "mirror"]));
            }
            let directory = path.parent().unwrap_or(Path::new(""));
            for mirror in mirrors.iter_mut().filter(|mirror| !mirror.contains("://")) {
                *mirror = directory.join(&*mirror).display().to_string();
            }
            self.actions.mirror = mirrors;
        }
        if let Some(real_checkout) = file.actions.real_checkout {
            self.actions.real_checkout = real_checkout;
        }
        if let Some(serve) = file.serve {
            // The host serves all repositories, and does not read this file for that.
            if !is_users {
                return Err(ConfigError::not_yours(path, text, &["serve"]));
            }
            self.serve = serve;
        }
        if let Some(services) = file.services {
            // Its caches are read by other repositories' owners, and its issuer speaks for the whole host.
            if !is_users {
                return Err(ConfigError::not_yours(path, text, &["services"]));
            }
            if let Some((key, message)) = services.problem() {
                return Err(ConfigError::value(path, text, &["services", key], message));
            }
            self.services = services;
        }
        if let Some(llm) = file.llm {
            // Prompts hold a repository's files and logs: it must not choose where they and the key go.
            if !is_users {
                return Err(ConfigError::not_yours(path, text, &["llm"]));
            }
            if let Some((key, message)) = llm.problem() {
                return Err(ConfigError::value(path, text, &["llm", key], message));
            }
            self.llm = Some(llm);
        }
        if let Some(learning) = file.learning {
            // Who switched it off for all repositories means this one too.
            self.learning.enabled &= learning.enabled.unwrap_or(true);
            if let Some(failures) = learning.lesson_threshold {
                self.learning.lesson_threshold = LessonThreshold::new(failures).ok_or_else(|| {
                    let (least, most) = (LessonThreshold::LEAST, LessonThreshold::MOST);
                    let why = format!("give between {least} and {most} failures, not {failures}");
                    ConfigError::value(path, text, &["learning", "lesson-threshold"], why)
                })?;
            }
        }
        Ok(())
    }

    /// The type called `name`, on top of `default`.
    pub(crate) fn vm_type(&self, name: &str) -> Option<VmType> {
        let default = self.vm_types.get("default").cloned().unwrap_or_default();
        self.vm_types.get(name).map(|vm_type| default.overridden_by(vm_type))
    }

    /// Which VM type the labels of `runs-on` mean. Every VM type is also a label.
    pub(crate) fn labels(&self, default: &str) -> VmTypes {
        let own = self.vm_types.keys().map(|name| (name.to_lowercase(), name.clone()));
        let labels = own.chain(self.runs_on.clone()).collect();
        VmTypes { default: default.to_owned(), labels, engines: BTreeSet::new() }
    }
}

/// Where users keep configurations.
pub(crate) fn user_directory() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|home| home.join(".config")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_names_no_address_that_would_get_the_user_s_token() {
        let add = |text: &str, is_users| {
            Config::default().add(Path::new("tci.toml"), text, is_users).map_err(|error| error.to_string())
        };
        let address = "[actions]\nmirror = ['https://example.org']\n";
        assert!(add(address, true).is_ok());
        assert!(add(address, false).unwrap_err().contains("is the host's to decide"));
        assert!(add("[actions]\nmirror = ['mirror']\n", false).is_ok());
    }

    #[test]
    fn a_later_file_replaces_the_keys_of_actions_that_it_has() {
        let merged = |files: &[(&str, bool, &str)]| {
            let mut config = Config::default();
            for (path, is_users, text) in files {
                config.add(Path::new(path), text, *is_users).unwrap();
            }
            (config.actions.mirror, config.actions.real_checkout)
        };
        let user = (
            "/u/config.toml",
            true,
            "[actions]\nmirror = ['https://m.example', 'own']\nreal-checkout = true\n",
        );
        let mirrors = || vec!["https://m.example".to_owned(), "/u/own".to_owned()];
        assert_eq!(merged(&[user, ("/r/tci.toml", false, "[actions]\n")]), (mirrors(), true));
        let checkout = ("/r/tci.toml", false, "[actions]\nreal-checkout = false\n");
        assert_eq!(merged(&[user, checkout]), (mirrors(), false));
        let mirror = ("/r/tci.toml", false, "[actions]\nmirror = ['vendor']\n");
        assert_eq!(merged(&[user, mirror]), (vec!["/r/vendor".to_owned()], true));
        assert_eq!(merged(&[mirror, checkout]), (vec!["/r/vendor".to_owned()], false));
        let none = ("/r/tci.toml", false, "[actions]\nmirror = []\n");
        assert_eq!(merged(&[user, none]), (Vec::new(), true), "GitHub again");
    }

    fn with(text: &str) -> Result<Config, ConfigError> {
        let mut config = Config::default();
        config.add(Path::new("tci.toml"), text, true).map(|()| config)
    }

    #[test]
    fn the_usual_types_exist_and_a_type_builds_on_default() {
        let config = with("[vm-types.default]\nmemory-mib = 1024\n[vm-types.big]\ncpus = 8\n").unwrap();
        let big = config.vm_type("big").unwrap().spec();
        assert_eq!((big.vcpus, big.memory_mib), (8, 1024));
        assert_eq!(config.vm_type("bionic-test").unwrap().spec().memory_mib, 1024);
        assert!(config.vm_type("focal").is_some() && config.vm_type("huge").is_none());
    }

    #[test]
    fn a_type_has_limits() {
        let text = "[vm-types.default.limits]\nprocesses = 99\n[vm-types.big.limits]\ncpu-percent = 150\n";
        let limits = with(text).unwrap().vm_type("big").unwrap().spec().limits;
        assert_eq!((limits.processes, limits.cpu_percent), (Some(99), Some(150)));
    }

    #[test]
    fn learning_can_be_switched_off_and_not_on_again_by_a_repository() {
        let mut config = Config::default();
        assert!(config.learning.enabled);
        config.add(Path::new("config.toml"), "[learning]\nenabled = false\n", true).unwrap();
        config.add(Path::new("tci.toml"), "[learning]\nenabled = true\n", false).unwrap();
        assert!(!config.learning.enabled);
    }

    #[test]
    fn the_threshold_of_lessons_is_the_repositorys_or_the_users_or_three() {
        let mut config = Config::default();
        let threshold = |config: &Config| config.learning.lesson_threshold.get();
        assert_eq!(threshold(&config), 3);
        config.add(Path::new("config.toml"), "[learning]\nlesson-threshold = 5\n", true).unwrap();
        config.add(Path::new("tci.toml"), "[learning]\nenabled = true\n", false).unwrap();
        assert_eq!(threshold(&config), 5);
        config.add(Path::new("tci.toml"), "[learning]\nlesson-threshold = 2\n", false).unwrap();
        assert_eq!((threshold(&config), config.learning.enabled), (2, true));
    }

    #[test]
    fn a_label_chooses_a_type() {
        let config = with("[vm-types.big]\n[runs-on]\nGPU = 'big'\n").unwrap();
        let types = config.labels("default");
        assert_eq!(types.labels.get("gpu").map(String::as_str), Some("big"));
        assert_eq!(types.labels.get("big").map(String::as_str), Some("big"));
    }

    #[test]
    fn a_repository_does_not_decide_about_the_host() {
        let mut config = Config::default();
        let error = config.add(Path::new("tci.toml"), "[services]\ncache-quota-mib = 1\n", false);
        assert!(error.unwrap_err().to_string().contains("config.toml"));
        let error = config.add(Path::new("tci.toml"), "[llm]\nmax-tokens = 100\n", false);
        assert!(error.unwrap_err().to_string().contains("[llm] is the host's to decide"));
        let error = config.add(Path::new("tci.toml"), "[serve]\nany-user = true\n", false);
        assert!(error.unwrap_err().to_string().contains("[serve] is the host's to decide"));
    }

    #[test]
    fn mistakes_name_file_line_and_key() {
        for (text, want) in [
            ("[vm-types.big]\nimag = 'x'\n", "tci.toml:2:1: unknown field `imag`"),
            ("\n[vm-types.big]\ncpus = 'two'\n", "tci.toml:3:8: cpus: invalid type"),
            ("[vm-types.a]\nlimits = { processes = 'x' }\n", "tci.toml:2:24: processes: invalid type"),
            ("[vm-type.big]\n", "tci.toml:1:2: unknown field `vm-type`"),
            ("a = \n", "tci.toml:1:"),
            ("[services]\nissuer = 'ci'\n", "tci.toml:2: services.issuer: `ci` is no address"),
            ("[llm]\nmax-tokens = 1\n", "tci.toml:2: llm.max-tokens: give 64 or more"),
            (
                "\n[llm]\n\nprice-out = 1.0\n",
                "tci.toml:2: llm.price-in: `price-in` and `price-out` are given",
            ),
            ("llm.max-tokens = 1\n", "tci.toml:1: llm.max-tokens: give 64 or more"),
            ("[services]\ncache-quota = 1\n", "tci.toml:2:1: unknown field `cache-quota`"),
            ("[runs-on]\n'gpu.2' = 'none'\n", "tci.toml:2: runs-on.gpu.2: names the VM type `none`"),
            (
                "[learning]\nenabled = true\nlesson-threshold = 1 # at once\n",
                "tci.toml:3: learning.lesson-threshold: give between 2 and 20 failures, not 1",
            ),
            ("[learning]\nlesson-threshold = -3\n", "tci.toml:2:20: lesson-threshold: invalid value"),
            ("[learning]\nlesson-threshold = 'often'\n", "tci.toml:2:20: lesson-threshold: invalid type"),
        ] {
            let error = with(text).unwrap_err().to_string();
            assert!(error.starts_with(want), "{error}");
        }
    }
}
