//! What callers do with secrets and variables.

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use serde::Serialize;
use zeroize::Zeroizing;

use super::cipher::Cipher;
use super::error::SettingsError;
use super::file::{Content, Scope, Value};
use super::scope::{Name, SettingsScope};
use crate::engine::{EnvironmentSettings, Secret};

/// GitHub: 48 KB for a secret and for a variable.
const LONGEST: usize = 48 * 1024;

/// Secrets or variables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Encrypted, and hidden wherever they would show.
    Secret,
    /// Readable.
    Variable,
}

/// A secret or variable without its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// When it was set, in milliseconds since 1970.
    pub updated_at_ms: i64,
    /// Its value; absent for a secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// What a run of a repository gets.
#[derive(Clone, Debug, Default)]
pub struct RunSettings {
    /// Secrets of the owner and of the repository, which is the stronger.
    pub secrets: IndexMap<String, Secret>,
    /// Variables of the same.
    pub vars: IndexMap<String, String>,
    /// What jobs get in addition that name an environment, by its name in lower case.
    pub environments: IndexMap<String, EnvironmentSettings>,
}

/// The secrets and variables of one data directory.
#[derive(Clone, Debug)]
pub struct SettingsStore {
    directory: PathBuf,
}

impl SettingsStore {
    /// The settings below a data directory. Nothing is made before something is set.
    #[must_use]
    pub fn new(data: &Path) -> SettingsStore {
        SettingsStore { directory: data.join("settings") }
    }

    /// Sets a secret or variable, or several; all or none of them.
    ///
    /// # Errors
    /// A value cannot be one, or the files cannot be used.
    pub fn set(
        &self,
        kind: Kind,
        scope: &SettingsScope,
        values: &[(Name, Zeroizing<String>)],
        at_ms: i64,
    ) -> Result<(), SettingsError> {
        for (name, value) in values {
            if value.is_empty() {
                return Err(SettingsError::Empty { name: name.to_string() });
            }
            if value.len() > LONGEST {
                let (name, size) = (name.to_string(), value.len());
                return Err(SettingsError::TooLong { name, size, most: LONGEST });
            }
        }
        let _lock = self.lock()?;
        let mut content = Content::read(&self.file())?;
        let cipher = match kind {
            Kind::Secret => Some(self.cipher(&content)?),
            Kind::Variable => None,
        };
        let own = content.scopes.entry(scope.key()).or_default();
        for (name, value) in values {
            let value = match &cipher {
                Some(cipher) => cipher.seal(&place(&scope.key(), name.as_str()), value)?,
                None => value.to_string(),
            };
            of_mut(own, kind).insert(name.to_string(), Value { value, updated_at_ms: at_ms });
        }
        content.write(&self.file())
    }

    /// Removes a secret or variable; false if there is none.
    ///
    /// # Errors
    /// The files cannot be used.
    pub fn remove(&self, kind: Kind, scope: &SettingsScope, name: &Name) -> Result<bool, SettingsError> {
        if !self.file().exists() {
            return Ok(false);
        }
        let _lock = self.lock()?;
        let mut content = Content::read(&self.file())?;
        let Some(own) = content.scopes.get_mut(&scope.key()) else { return Ok(false) };
        if of_mut(own, kind).remove(name.as_str()).is_none() {
            return Ok(false);
        }
        content.scopes.retain(|_, scope| !scope.secrets.is_empty() || !scope.variables.is_empty());
        content.write(&self.file())?;
        Ok(true)
    }

    /// The secrets or variables of a scope, by name.
    ///
    /// # Errors
    /// The file cannot be used, or others may read the key of the secrets.
    pub fn list(&self, kind: Kind, scope: &SettingsScope) -> Result<Vec<Entry>, SettingsError> {
        // As a run does. A key that is gone or damaged hides no names: they are what has to be set again.
        if kind == Kind::Secret
            && let Err(error @ SettingsError::OpenKey { .. }) = Cipher::open(&self.key())
        {
            return Err(error);
        }
        let content = Content::read(&self.file())?;
        let Some(own) = content.scopes.get(&scope.key()) else { return Ok(Vec::new()) };
        let values = match kind {
            Kind::Secret => &own.secrets,
            Kind::Variable => &own.variables,
        };
        let entry = |(name, value): (&String, &Value)| Entry {
            name: name.clone(),
            updated_at_ms: value.updated_at_ms,
            value: (kind == Kind::Variable).then(|| value.value.clone()),
        };
        Ok(values.iter().map(entry).collect())
    }

    /// Everything that a run of a repository may use.
    ///
    /// # Errors
    /// The files cannot be used, or a secret cannot be decrypted: a run without it would do something else.
    pub fn for_run(&self, repository: &str) -> Result<RunSettings, SettingsError> {
        let content = Content::read(&self.file())?;
        let mut settings = RunSettings::default();
        if content.scopes.is_empty() {
            return Ok(settings);
        }
        let repository = repository.to_lowercase();
        let owner = repository.split('/').next().unwrap_or_default();
        let cipher = Cipher::open(&self.key())?;
        let open = |key: &str, scope: &Scope| self.open(cipher.as_ref(), key, scope);
        for key in [format!("organisation:{owner}"), format!("repository:{repository}")] {
            let Some(scope) = content.scopes.get(&key) else { continue };
            let own = open(&key, scope)?;
            settings.secrets.extend(own.secrets);
            settings.vars.extend(own.vars);
        }
        let prefix = format!("environment:{repository}:");
        for (key, scope) in &content.scopes {
            if let Some(name) = key.strip_prefix(&prefix) {
                settings.environments.insert(name.to_owned(), open(key, scope)?);
            }
        }
        Ok(settings)
    }

    /// Every secret that concerns a repository, also those of its owner and itself that stronger ones hide from runs:
    /// what must not be shown to anybody.
    ///
    /// # Errors
    /// The files cannot be used, or a secret cannot be decrypted.
    pub fn all_secrets(&self, repository: &str) -> Result<Vec<Secret>, SettingsError> {
        let content = Content::read(&self.file())?;
        if content.scopes.is_empty() {
            return Ok(Vec::new());
        }
        let repository = repository.to_lowercase();
        let owner = repository.split('/').next().unwrap_or_default();
        let (organisation, own) = (format!("organisation:{owner}"), format!("repository:{repository}"));
        let environments = format!("environment:{repository}:");
        let cipher = Cipher::open(&self.key())?;
        let mut found = Vec::new();
        for (key, scope) in &content.scopes {
            if *key == organisation || *key == own || key.starts_with(&environments) {
                found.extend(self.open(cipher.as_ref(), key, scope)?.secrets.into_values());
            }
        }
        Ok(found)
    }

    fn open(
        &self,
        cipher: Option<&Cipher>,
        key: &str,
        scope: &Scope,
    ) -> Result<EnvironmentSettings, SettingsError> {
        let mut own = EnvironmentSettings::default();
        for (name, value) in &scope.variables {
            own.vars.insert(name.clone(), value.value.clone());
        }
        for (name, value) in &scope.secrets {
            let cipher = cipher.ok_or_else(|| SettingsError::NoKey { path: self.key() })?;
            let undecipherable =
                || SettingsError::Undecipherable { name: name.clone(), scope: key.to_owned() };
            let text = cipher.unseal(&place(key, name), &value.value).ok_or_else(undecipherable)?;
            own.secrets.insert(name.clone(), Secret::from(text.as_str()));
        }
        Ok(own)
    }

    /// The key, which is made if nothing was encrypted yet.
    fn cipher(&self, content: &Content) -> Result<Cipher, SettingsError> {
        if let Some(cipher) = Cipher::open(&self.key())? {
            return Ok(cipher);
        }
        if content.scopes.values().any(|scope| !scope.secrets.is_empty()) {
            return Err(SettingsError::NoKey { path: self.key() });
        }
        Cipher::create(&self.key())
    }

    /// Makes the directory and waits for other writers, which take milliseconds.
    fn lock(&self) -> Result<File, SettingsError> {
        let failed = |operation, path: &Path| {
            let path = path.to_owned();
            move |source| SettingsError::Io { operation, path, source }
        };
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&self.directory);
        made.map_err(failed("create directory", &self.directory))?;
        let path = self.directory.join("lock");
        let file = fs::OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(failed("open", &path))?;
        file.lock().map_err(failed("lock", &path))?;
        Ok(file)
    }

    fn file(&self) -> PathBuf {
        self.directory.join("settings.json")
    }

    fn key(&self) -> PathBuf {
        self.directory.join("key")
    }
}

fn of_mut(scope: &mut Scope, kind: Kind) -> &mut std::collections::BTreeMap<String, Value> {
    match kind {
        Kind::Secret => &mut scope.secrets,
        Kind::Variable => &mut scope.variables,
    }
}

/// What the encryption of a secret is bound to. Neither part can hold the separator.
fn place(scope: &str, name: &str) -> String {
    format!("tci secret 1\n{scope}\n{name}")
}
