//! A definition in the making.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use terraphim_vm::{Mount, VmSpec, host_memory_mib};

use super::tree::{self, Node, Value};
use crate::{cli::vm::manage, config::VmType, input, output};

/// Everything that files and flags have said so far.
#[derive(Debug, Default)]
pub(in crate::cli::vm) struct Draft {
    name: Option<String>,
    vm_type: Option<String>,
    shape: VmType,
    labels: BTreeMap<String, String>,
    mounts: Vec<Mount>,
    /// Where each key was said last.
    places: BTreeMap<String, String>,
    mistakes: Vec<String>,
}

const KEYS: &str = "name, vm-type, image, cpus, memory, disk, network, labels, limits, mounts";
const LIMITS: &str = "cpu-percent, cpu-weight, memory, processes, disk-read, disk-write, disk-iops";
const SIZE: &str = "give a number of MiB, or a number with M, MiB, G or GiB";

impl Draft {
    /// Takes everything that a file says.
    pub(in crate::cli::vm) fn file(&mut self, path: &Path) {
        let shown = path.display();
        let text = match input::read_text(path, input::MOST) {
            Ok(text) => text,
            Err(error) => return self.mistakes.push(format!("{shown}: cannot read it: {error}")),
        };
        let base = path.parent().unwrap_or(Path::new(""));
        match tree::read(path, &text) {
            Ok(Node { value: Value::Table(table), .. }) => {
                for (key, node) in &table {
                    self.set(key, node, base, &|line| format!("{shown}:{line}"));
                }
            }
            Ok(node) => self.mistakes.push(format!("{shown}:{}: keys with values are expected", node.line)),
            Err(errors) => {
                let say = |error: tree::SyntaxError| format!("{shown}:{}: {}", error.line, error.message);
                self.mistakes.extend(errors.into_iter().map(say));
            }
        }
    }

    /// Takes what a flag says about a key.
    pub(in crate::cli::vm) fn flag(&mut self, flag: &str, key: &str, text: &str) {
        let node = Node { line: 0, value: Value::Scalar(text.to_owned()) };
        self.set(key, &node, Path::new(""), &|_| flag.to_owned());
    }

    /// Takes `--limit KEY=VALUE`.
    pub(in crate::cli::vm) fn limit_flag(&mut self, text: &str) {
        match text.split_once('=') {
            Some((key, value)) => {
                let node = Node { line: 0, value: Value::Scalar(value.to_owned()) };
                self.set_limit(key, &node, &|_| "--limit".to_owned());
            }
            None => self.mistakes.push(format!("--limit: {text:?} is not KEY=VALUE; keys are {LIMITS}")),
        }
    }

    fn set(&mut self, key: &str, node: &Node, base: &Path, place: &dyn Fn(usize) -> String) {
        self.places.insert(key.to_owned(), place(node.line));
        let done = match key {
            "name" => text(node).map(|text| self.name = Some(text)),
            "vm-type" => text(node).map(|text| self.vm_type = Some(text)),
            "image" => text(node).map(|text| self.shape.image = Some(text)),
            "cpus" => number(node).map(|cpus| self.shape.cpus = Some(cpus)),
            "memory" => mebibytes(node).map(|mib| self.shape.memory_mib = Some(mib)),
            "disk" => mebibytes(node).map(|mib| self.shape.disk_mib = Some(mib)),
            "network" => text(node).and_then(|text| {
                self.shape.network = Some(manage::network(&text)?);
                Ok(())
            }),
            "labels" => return self.set_labels(node, place),
            "mounts" => return self.set_mounts(node, base, place),
            "limits" => return self.set_limits(node, place),
            _ => Err(format!("there is no such key; known are {KEYS}")),
        };
        if let Err(message) = done {
            self.wrong(&place(node.line), key, &message);
        }
    }

    fn wrong(&mut self, place: &str, key: &str, message: &str) {
        self.mistakes.push(format!("{place}: {key}: {message}"));
    }

    /// A table, or one `KEY=VALUE`. Labels add to those of earlier files.
    fn set_labels(&mut self, node: &Node, place: &dyn Fn(usize) -> String) {
        match &node.value {
            Value::Table(table) => {
                for (key, value) in table {
                    match text(value) {
                        Ok(text) => drop(self.labels.insert(key.clone(), text)),
                        Err(why) => self.wrong(&place(value.line), "labels", &format!("{key}: {why}")),
                    }
                }
            }
            Value::Scalar(label) => match label.split_once('=') {
                Some((key, value)) => drop(self.labels.insert(key.to_owned(), value.to_owned())),
                None => self.wrong(&place(node.line), "labels", &format!("{label:?} is not KEY=VALUE")),
            },
            Value::List(_) => self.wrong(&place(node.line), "labels", "keys with values are expected"),
        }
    }

    /// A list of mounts, or one `SOURCE:TARGET`. A later mount with the same target replaces an earlier one.
    fn set_mounts(&mut self, node: &Node, base: &Path, place: &dyn Fn(usize) -> String) {
        let all = match &node.value {
            Value::List(all) => all.as_slice(),
            Value::Scalar(_) => std::slice::from_ref(node),
            Value::Table(_) => {
                return self.wrong(&place(node.line), "mounts", "a list of mounts is expected");
            }
        };
        for one in all {
            match mount(one, base) {
                Ok(mount) => {
                    self.mounts.retain(|earlier| earlier.target != mount.target);
                    self.mounts.push(mount);
                }
                Err(all) => all.iter().for_each(|why| self.wrong(&place(one.line), "mounts", why)),
            }
        }
    }

    fn set_limits(&mut self, node: &Node, place: &dyn Fn(usize) -> String) {
        let Value::Table(table) = &node.value else {
            return self.wrong(&place(node.line), "limits", "keys with values are expected");
        };
        for (key, value) in table {
            self.set_limit(key, value, place);
        }
    }

    fn set_limit(&mut self, key: &str, node: &Node, place: &dyn Fn(usize) -> String) {
        self.places.insert(format!("limits.{key}"), place(node.line));
        let limits = &mut self.shape.limits;
        let done = match key {
            "cpu-percent" => number(node).map(|n| limits.cpu_percent = Some(n)),
            "cpu-weight" => number(node).map(|n| limits.cpu_weight = Some(n)),
            "memory" => mebibytes(node).map(|n| limits.memory_mib = Some(n)),
            "processes" => number(node).map(|n| limits.processes = Some(n)),
            "disk-read" => mebibytes(node).map(|n| limits.disk_read_mib = Some(n)),
            "disk-write" => mebibytes(node).map(|n| limits.disk_write_mib = Some(n)),
            "disk-iops" => number(node).map(|n| limits.disk_iops = Some(n)),
            _ => Err(format!("there is no such limit; known are {LIMITS}")),
        };
        if let Err(message) = done {
            self.wrong(&place(node.line), &format!("limits.{key}"), &message);
        }
    }

    /// The VM type that it builds on, if one was named.
    pub(in crate::cli::vm) fn vm_type(&self) -> Option<&str> {
        self.vm_type.as_deref()
    }

    /// The image, if one was named.
    pub(in crate::cli::vm) fn image(&self) -> Option<&str> {
        self.shape.image.as_deref()
    }

    /// The name, if one was given.
    pub(in crate::cli::vm) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Tells of a mistake that only the host can see.
    pub(in crate::cli::vm) fn mistake(&mut self, key: &str, message: &str) {
        let place = self.places.get(key).cloned().unwrap_or_else(|| "configuration".to_owned());
        self.wrong(&place, key, message);
    }

    /// The definition on top of a VM type, or everything that is wrong, one line each.
    pub(in crate::cli::vm) fn finish(mut self, vm_type: &VmType) -> Result<VmSpec, Vec<String>> {
        let shape = vm_type.overridden_by(&self.shape);
        let spec = VmSpec {
            name: self.name.clone(),
            labels: std::mem::take(&mut self.labels),
            mounts: std::mem::take(&mut self.mounts),
            ..shape.spec()
        };
        for problem in spec.problems(host_memory_mib()) {
            self.mistake(problem.key, &problem.message);
        }
        if self.mistakes.is_empty() {
            return Ok(spec);
        }
        Err(self.mistakes.iter().map(|mistake| output::excerpt(mistake)).collect())
    }
}

fn text(node: &Node) -> Result<String, String> {
    match &node.value {
        Value::Scalar(text) => Ok(text.clone()),
        Value::List(_) | Value::Table(_) => Err("one value is expected".to_owned()),
    }
}

fn number<N: std::str::FromStr>(node: &Node) -> Result<N, String> {
    let text = text(node)?;
    text.parse().map_err(|_| format!("{text:?} is no number that fits: give a whole number"))
}

fn mebibytes(node: &Node) -> Result<u32, String> {
    let text = text(node)?;
    manage::mebibytes(&text).map_err(|_| format!("{text:?} is no size: {SIZE}"))
}

/// `SOURCE:TARGET`, or a table with `source`, `target` and `mode`. What is not a copy is refused: nothing else can be had.
///
/// # Errors
/// Everything that is wrong with it.
fn mount(node: &Node, base: &Path) -> Result<Mount, Vec<String>> {
    const ONLY_COPIES: &str = "only `copy` can be had: the microvm machine cannot share a directory of the host \
                               (`tci vm cp` copies back)";
    let mut wrong = Vec::new();
    let (source, target, mode) = match &node.value {
        Value::Scalar(text) => {
            let mut parts = text.splitn(3, ':').map(str::to_owned);
            (parts.next(), parts.next(), parts.next())
        }
        Value::Table(table) => {
            let (mut source, mut target, mut mode) = (None, None, None);
            for (key, value) in table {
                let place = match key.as_str() {
                    "source" => &mut source,
                    "target" => &mut target,
                    "mode" => &mut mode,
                    _ => {
                        wrong.push(format!("there is no key {key:?}; known are source, target and mode"));
                        continue;
                    }
                };
                match text(value) {
                    Ok(text) => *place = Some(text),
                    Err(why) => wrong.push(format!("{key}: {why}")),
                }
            }
            (source, target, mode)
        }
        Value::List(_) => return Err(vec!["one mount is expected".to_owned()]),
    };
    if mode.is_some_and(|mode| mode != "copy") {
        wrong.push(ONLY_COPIES.to_owned());
    }
    let (Some(source), Some(target)) = (source, target) else {
        wrong.push("give a source and a target, as in ./site:/srv".to_owned());
        return Err(wrong);
    };
    if !wrong.is_empty() {
        return Err(wrong);
    }
    let source = base.join(PathBuf::from(source));
    // Resolved now: the VM is started from elsewhere. One that does not exist is told of with the other mistakes.
    let source = source.canonicalize().or_else(|_| std::path::absolute(&source)).unwrap_or(source);
    Ok(Mount { source, target })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use terraphim_vm::Limits;

    use super::*;

    fn write(dir: &Path, name: &str, text: &str) -> PathBuf {
        let path = dir.join(name);
        fs::write(&path, text).unwrap();
        path
    }

    #[test]
    fn later_files_and_flags_win_and_labels_add_up() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("site")).unwrap();
        let mut draft = Draft::default();
        draft.file(&write(
            dir.path(),
            "base.toml",
            "cpus = 1\nmemory = '1G'\nmounts = ['site:/srv']\n[labels]\nteam = 'a'\n[limits]\ncpu-percent = 50\nprocesses = 99\n",
        ));
        draft.file(&write(
            dir.path(),
            "more.yaml",
            "memory: 256\nlabels:\n  job: b\nlimits:\n  cpu-percent: 150\n",
        ));
        draft.flag("--cpus", "cpus", "2");
        draft.flag("--label", "labels", "team=c");
        draft.limit_flag("disk-write=5M");
        let spec = draft.finish(&VmType::default()).unwrap();
        assert_eq!((spec.vcpus, spec.memory_mib), (2, 256));
        let labels: Vec<_> = spec.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(labels, ["job=b", "team=c"]);
        let limits = Limits {
            cpu_percent: Some(150),
            processes: Some(99),
            disk_write_mib: Some(5),
            ..Limits::default()
        };
        assert_eq!(spec.limits, limits);
        let source = dir.path().join("site").canonicalize().unwrap();
        assert_eq!(spec.mounts, [Mount { source, target: "/srv".into() }]);
    }

    #[test]
    fn all_mistakes_are_told_with_their_places() {
        let dir = tempfile::tempdir().unwrap();
        let mut draft = Draft::default();
        let text =
            "name = '../x'\nmemory = 'lots'\ncolour = 'red'\nmounts = ['/:/srv:ro', ]\n[limits]\nspeed = 1\n";
        let path = write(dir.path(), "bad.toml", text);
        draft.file(&path);
        draft.file(&dir.path().join("missing.yaml"));
        draft.flag("--cpus", "cpus", "0");
        draft.limit_flag("memory");
        let mistakes = draft.finish(&VmType::default()).unwrap_err();
        let place = path.display();
        for want in [
            format!("{place}:2: memory: \"lots\" is no size: give"),
            format!("{place}:3: colour: there is no such key; known are name"),
            format!("{place}:4: mounts: only `copy`"),
            format!("{place}:6: limits.speed: there is no such limit; known are cpu-percent"),
            format!("{place}:1: name: \"../x\": use up to 63"),
            "missing.yaml: cannot read it".to_owned(),
            "--cpus: cpus: 0: use 1 to 64".to_owned(),
            "--limit: \"memory\" is not KEY=VALUE".to_owned(),
        ] {
            assert!(mistakes.iter().any(|mistake| mistake.contains(&want)), "{want}: {mistakes:#?}");
        }
        assert_eq!(mistakes.len(), 8, "{mistakes:#?}");
    }

    #[test]
    fn each_of_several_wrong_mounts_and_labels_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let mut draft = Draft::default();
        let text = "mounts:\n- /:/a:ro\n- only-a-source\n- source: /\n  target: [x]\n  mode: ro\n  colour: red\n- /:/good\n\
                    labels:\n  a: [1]\n  b: {c: d}\n";
        draft.file(&write(dir.path(), "bad.yaml", text));
        let mistakes = draft.finish(&VmType::default()).unwrap_err();
        let place = dir.path().join("bad.yaml").display().to_string();
        for (line, want) in [
            (2, "mounts: only `copy`"),
            (3, "mounts: give a source and a target"),
            (4, "mounts: target: one value is expected"),
            (4, "mounts: there is no key \"colour\""),
            (4, "mounts: only `copy`"),
            (4, "mounts: give a source and a target"),
            (10, "labels: a: one value is expected"),
            (11, "labels: b: one value is expected"),
        ] {
            let want = format!("{place}:{line}: {want}");
            assert!(mistakes.iter().any(|mistake| mistake.starts_with(&want)), "{want}: {mistakes:#?}");
        }
        assert_eq!(mistakes.len(), 8, "{mistakes:#?}");
    }

    #[test]
    fn a_definition_without_an_end_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("endless.toml");
        std::os::unix::fs::symlink("/dev/zero", &link).unwrap();
        let mut draft = Draft::default();
        draft.file(&link);
        let mistakes = draft.finish(&VmType::default()).unwrap_err();
        assert_eq!(mistakes, [format!("{}: cannot read it: it has more than 1 MiB", link.display())]);
    }
}
