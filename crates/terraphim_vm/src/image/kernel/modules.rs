//! Chooses the kernel modules of a guest and the order in which they are loaded.
//!
//! The guest has no `modprobe`: the agent loads what the initial RAM disk lists, in that order, so the order has to put
//! every module after those it needs. Each module says in its ELF section `.modinfo` which those are.

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;

/// What a guest needs: its bus, console, disks, network, entropy, and the file systems of its root.
const NEEDED: [&str; 8] = [
    "virtio_mmio",
    "virtio_console",
    "virtio_blk",
    "virtio_net",
    "virtio_rng",
    "overlay",
    "squashfs",
    "ext4",
];

/// The modules cannot be chosen.
#[derive(Debug, Error)]
pub enum ModuleError {
    /// A module is neither there nor part of the kernel.
    #[error("module `{module}` is missing{}", needed_by.as_ref().map_or(String::new(), |by| format!(" (`{by}` needs it)")))]
    Missing {
        /// Which one.
        module: String,
        /// Which module needs it; `None` for one that every guest needs.
        needed_by: Option<String>,
    },
    /// Modules need each other in a circle.
    #[error("module `{0}` needs itself")]
    Circle(String),
    /// A file is no module.
    #[error("module `{0}` is not an ELF file with a section .modinfo")]
    NotModule(String),
}

/// The modules of one kernel: where to find each one's content, and what is built in.
pub(super) struct Available {
    /// By name, with `_` for `-`: the names of the modules it needs.
    pub(super) depends: BTreeMap<String, Vec<String>>,
    pub(super) built_in: BTreeSet<String>,
}

/// The name by which modules refer to each other.
pub(super) fn normal_name(file_stem: &str) -> String {
    file_stem.replace('-', "_")
}

impl Available {
    /// The modules that a guest needs, each after those it needs itself.
    pub(super) fn load_order(&self) -> Result<Vec<String>, ModuleError> {
        let mut order = Vec::new();
        for module in NEEDED {
            self.visit(module, None, &mut Vec::new(), &mut order)?;
        }
        Ok(order)
    }

    fn visit<'a>(
        &'a self,
        module: &'a str,
        needed_by: Option<&str>,
        path: &mut Vec<&'a str>,
        order: &mut Vec<String>,
    ) -> Result<(), ModuleError> {
        if self.built_in.contains(module) || order.iter().any(|loaded| loaded == module) {
            return Ok(());
        }
        if path.contains(&module) {
            return Err(ModuleError::Circle(module.to_owned()));
        }
        let missing =
            || ModuleError::Missing { module: module.to_owned(), needed_by: needed_by.map(str::to_owned) };
        let depends = self.depends.get(module).ok_or_else(missing)?;
        path.push(module);
        for dependency in depends {
            self.visit(dependency, Some(module), path, order)?;
        }
        path.pop();
        order.push(module.to_owned());
        Ok(())
    }
}

/// The modules that the module `name` with this content needs.
pub(super) fn depends(name: &str, module: &[u8]) -> Result<Vec<String>, ModuleError> {
    let info = modinfo(module).ok_or_else(|| ModuleError::NotModule(name.to_owned()))?;
    let list = info.split(|byte| *byte == 0).find_map(|field| field.strip_prefix(b"depends="));
    let list = String::from_utf8_lossy(list.unwrap_or_default()).into_owned();
    Ok(list.split(',').filter(|name| !name.is_empty()).map(normal_name).collect())
}

/// The section `.modinfo` of a 64-bit little-endian ELF file. Offsets: elf(5).
fn modinfo(elf: &[u8]) -> Option<&[u8]> {
    if !elf.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let half = |at: usize| Some(usize::from(u16::from_le_bytes(bytes(elf, at)?)));
    let word = |at: usize| usize::try_from(u32::from_le_bytes(bytes(elf, at)?)).ok();
    let long = |at: usize| usize::try_from(u64::from_le_bytes(bytes(elf, at)?)).ok();
    let (table, entry_size, count, names) = (long(0x28)?, half(0x3a)?, half(0x3c)?, half(0x3e)?);
    let header = |index: usize| table.checked_add(index.checked_mul(entry_size)?);
    let content = |header: usize| {
        let (offset, size) = (long(header.checked_add(0x18)?)?, long(header.checked_add(0x20)?)?);
        elf.get(offset..offset.checked_add(size)?)
    };
    let names = content(header(names)?)?;
    (0..count).find_map(|index| {
        let header = header(index)?;
        names.get(word(header)?..)?.starts_with(b".modinfo\0").then(|| content(header))?
    })
}

fn bytes<const N: usize>(elf: &[u8], at: usize) -> Option<[u8; N]> {
    elf.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// The module without the signature that Debian appends to it.
///
/// The guest's kernel does not insist on signatures, and checking one costs four times what loading the module costs
/// (248 against 54 million instructions for the 13 modules measured).
pub(super) fn without_signature(module: &[u8]) -> &[u8] {
    const MARK: &[u8] = b"~Module signature appended~\n";
    /// Kernel, `include/linux/module_signature.h`: the signature's length is the last word of this record.
    const RECORD: usize = 12;
    let unsigned = || {
        let rest = module.strip_suffix(MARK)?;
        let (rest, length) = rest.split_last_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        rest.get(..rest.len().checked_sub(RECORD - 4)?.checked_sub(length)?)
    };
    unsigned().unwrap_or(module)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn available(modules: &[(&str, &[&str])], built_in: &[&str]) -> Available {
        let names = |list: &[&str]| list.iter().map(ToString::to_string).collect();
        let mut depends: BTreeMap<String, Vec<String>> =
            NEEDED.iter().map(|name| ((*name).to_owned(), Vec::new())).collect();
        depends.extend(modules.iter().map(|(name, needs)| ((*name).to_owned(), names(needs))));
        Available { depends, built_in: built_in.iter().map(ToString::to_string).collect() }
    }

    #[test]
    fn a_module_comes_after_those_it_needs() {
        let needs: &[(&str, &[&str])] = &[
            ("virtio_mmio", &["virtio", "virtio_ring"]),
            ("virtio", &["virtio_ring"]),
            ("virtio_ring", &[]),
        ];
        let order = available(needs, &["ext4"]).load_order().unwrap();
        assert_eq!(order[..4], ["virtio_ring", "virtio", "virtio_mmio", "virtio_console"]);
        assert!(!order.contains(&"ext4".to_owned()), "it is built in: {order:?}");
    }

    #[test]
    fn what_is_missing_and_what_goes_in_circles_is_named() {
        let error = available(&[("overlay", &["exportfs"])], &[]).load_order().unwrap_err();
        assert_eq!(error.to_string(), "module `exportfs` is missing (`overlay` needs it)");
        let error = available(&[("overlay", &["a"]), ("a", &["overlay"])], &[]).load_order().unwrap_err();
        assert_eq!(error.to_string(), "module `overlay` needs itself");
    }

    #[test]
    fn a_signature_is_taken_off_and_nothing_else() {
        let mut signed = b"module".to_vec();
        signed.extend_from_slice(b"signature!");
        signed.extend_from_slice(&[0, 0, 2, 0, 0, 0, 0, 0]);
        signed.extend_from_slice(&10_u32.to_be_bytes());
        signed.extend_from_slice(b"~Module signature appended~\n");
        assert_eq!(without_signature(&signed), b"module");
        assert_eq!(without_signature(b"module"), b"module");
        let broken = &signed[signed.len() - 32..];
        assert_eq!(without_signature(broken), broken, "a length that cannot be is not believed");
    }

    #[test]
    fn a_file_that_is_no_module_is_refused() {
        assert!(depends("x", b"text").is_err());
        assert!(depends("x", b"\x7fELF\x02\x01 and then nothing").is_err());
        let mut wild = vec![0xff; 64];
        wild[..6].copy_from_slice(b"\x7fELF\x02\x01");
        assert!(depends("x", &wild).is_err());
    }
}
