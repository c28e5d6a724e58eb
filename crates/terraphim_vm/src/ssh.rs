//! The keys by which SSH enters a VM: a pair for the user and a pair for the guest, made with the VM and removed with it.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use ssh_key::{LineEnding, PrivateKey, private::Ed25519Keypair};

use crate::{
    Paths, VmId,
    error::{IoContext as _, VmError},
};

/// The keys of one VM, below its directory. No other VM ever has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SshKeys {
    directory: PathBuf,
    alias: String,
}

impl SshKeys {
    /// The keys of a VM, whether they are there or not.
    #[must_use]
    pub fn of(paths: &Paths, id: &VmId) -> SshKeys {
        SshKeys { directory: paths.vm(id).join("ssh"), alias: format!("tci-{id}") }
    }

    /// Under which name the guest's key is known (`HostKeyAlias`, ssh_config(5)).
    #[must_use]
    pub fn alias(&self) -> &str {
        &self.alias
    }

    /// The user's private key.
    #[must_use]
    pub fn identity(&self) -> PathBuf {
        self.directory.join("id_ed25519")
    }

    /// The file that knows the guest's key, and no other.
    #[must_use]
    pub fn known_hosts(&self) -> PathBuf {
        self.directory.join("known_hosts")
    }

    /// The guest's private key, as a file of OpenSSH has it.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn host_key(&self) -> Result<String, VmError> {
        let path = self.directory.join("host_ed25519");
        fs::read_to_string(&path).io("read", &path)
    }

    /// The line for `authorized_keys`.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn authorized_key(&self) -> Result<String, VmError> {
        let path = self.directory.join("id_ed25519.pub");
        fs::read_to_string(&path).io("read", &path)
    }

    /// Makes the keys unless they are there (a VM of an earlier version has none). `known_hosts` comes last: where it
    /// is, everything is.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn ensure(&self) -> Result<(), VmError> {
        if self.known_hosts().exists() {
            return Ok(());
        }
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.directory)
            .io("create", &self.directory)?;
        let (user, guest) = (Pair::new(&self.alias)?, Pair::new(&self.alias)?);
        write(&self.identity(), &user.private)?;
        write(&self.directory.join("id_ed25519.pub"), &user.public)?;
        write(&self.directory.join("host_ed25519"), &guest.private)?;
        write(&self.known_hosts(), &format!("{} {}", self.alias, guest.public))
    }
}

struct Pair {
    private: String,
    public: String,
}

impl Pair {
    fn new(comment: &str) -> Result<Pair, VmError> {
        let source = Path::new("/dev/urandom");
        let mut seed = [0; 32];
        File::open(source).and_then(|mut file| file.read_exact(&mut seed)).io("read", source)?;
        let mut key = PrivateKey::from(Ed25519Keypair::from_seed(&seed));
        key.set_comment(comment);
        let failed = |error: ssh_key::Error| io::Error::other(error.to_string());
        let object = Path::new("an SSH key");
        let private = key.to_openssh(LineEnding::LF).map_err(failed).io("encode", object)?.to_string();
        let public = key.public_key().to_openssh().map_err(failed).io("encode", object)? + "\n";
        Ok(Pair { private, public })
    }
}

fn write(path: &Path, text: &str) -> Result<(), VmError> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).io("write", path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn every_vm_has_keys_of_its_own_that_nobody_else_can_read() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::new(dir.path()).unwrap();
        let keys = [SshKeys::of(&paths, &VmId::random()), SshKeys::of(&paths, &VmId::random())];
        keys.iter().for_each(|keys| keys.ensure().unwrap());
        assert_ne!(keys[0].authorized_key().unwrap(), keys[1].authorized_key().unwrap());
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&keys[0].identity()), mode(&keys[0].directory)), (0o600, 0o700));
        let before = keys[0].host_key().unwrap();
        keys[0].ensure().unwrap();
        assert_eq!(keys[0].host_key().unwrap(), before, "made once");
        let known = fs::read_to_string(keys[0].known_hosts()).unwrap();
        let public = PrivateKey::from_openssh(&before).unwrap().public_key().to_openssh().unwrap();
        assert_eq!(known, format!("{} {public}\n", keys[0].alias()));
    }
}
