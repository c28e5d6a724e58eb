//! Views: mount namespaces that live as long as a descriptor of them is held.

use std::{
    cell::RefCell,
    collections::HashMap,
    ffi::CString,
    fs, io,
    os::fd::{AsFd, OwnedFd},
    os::unix::fs::{DirBuilderExt, PermissionsExt, chown},
    path::Path,
    rc::Rc,
    sync::Arc,
};

use http::StatusCode;
use rustix::{
    mount::{MountFlags, MountPropagationFlags, mount, mount_bind_recursive, mount_change},
    thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe},
};
use terraphim_vm_protocol::message::{View, ViewMount};

use crate::{body::Refusal, users};

/// A mount namespace, held.
#[derive(Clone, Debug)]
pub(crate) struct Namespace(Arc<OwnedFd>);

/// The views that exist.
#[derive(Debug, Default)]
pub(crate) struct Views {
    by_name: RefCell<HashMap<String, Namespace>>,
}

impl Namespace {
    /// Moves the calling thread into the view. The thread must be one that ends soon, or a
    /// [`worker`](crate::worker) that goes home again.
    pub(crate) fn enter(&self) -> io::Result<()> {
        own_directory()?;
        move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Mount))?;
        Ok(())
    }
}

impl Views {
    /// The view with this name.
    pub(crate) fn get(&self, name: &str) -> Option<Namespace> {
        self.by_name.borrow().get(name).cloned()
    }

    /// Makes a view.
    pub(crate) async fn create(self: &Rc<Self>, view: View) -> Result<(), Refusal> {
        check_name(&view.name)?;
        let name = view.name.clone();
        let exists = Refusal::new(StatusCode::CONFLICT, format!("view `{name}` exists"));
        if self.by_name.borrow().contains_key(&name) {
            return Err(exists);
        }
        let namespace = on_own_thread(move || make_namespace(&view)).await??;
        // Another call may have made it meanwhile; dropping this namespace unmounts it.
        match self.by_name.borrow_mut().entry(name) {
            std::collections::hash_map::Entry::Occupied(_) => Err(exists),
            std::collections::hash_map::Entry::Vacant(slot) => {
                slot.insert(namespace);
                Ok(())
            }
        }
    }

    /// Forgets a view, which unmounts it.
    pub(crate) fn remove(&self, name: &str) -> Result<(), Refusal> {
        let mut views = self.by_name.borrow_mut();
        let Some(namespace) = views.get(name) else {
            return Err(Refusal::new(StatusCode::NOT_FOUND, format!("there is no view `{name}`")));
        };
        if Arc::strong_count(&namespace.0) > 1 {
            return Err(Refusal::new(StatusCode::CONFLICT, format!("view `{name}` is in use")));
        }
        views.remove(name);
        Ok(())
    }
}

/// Runs `work` on a thread of its own, which may change its credentials and namespaces, and ends.
pub(crate) async fn on_own_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refusal> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let thread = std::thread::Builder::new().stack_size(256 * 1024).spawn(move || {
        // The receiver leaves only with its call.
        let _ = sender.send(work());
    });
    thread.map_err(|error| no_thread(&error))?;
    receiver.await.map_err(|_| no_thread(&"it ended early"))
}

/// There is no thread to do the work.
pub(crate) fn no_thread(error: &dyn std::fmt::Display) -> Refusal {
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, format!("cannot start a thread: {error}"))
}

/// Gives the calling thread its own root and working directory, which setns(2) asks for.
fn own_directory() -> io::Result<()> {
    // SAFETY: CLONE_FS concerns the root, the working directory and the umask; descriptors stay shared.
    Ok(unsafe { unshare_unsafe(UnshareFlags::FS) }?)
}

fn check_name(name: &str) -> Result<(), Refusal> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    if (1..=100).contains(&name.len()) && name.bytes().all(good) {
        return Ok(());
    }
    Err(Refusal::bad_request(format!("view name {name:?}: use 1 to 100 letters, digits, `_`, `.` and `-`")))
}

fn make_namespace(view: &View) -> Result<Namespace, Refusal> {
    let failed = |what: &str, error: &dyn std::fmt::Display| {
        Refusal::internal(format!("cannot make view `{}`: {what}: {error}", view.name))
    };
    // SAFETY: CLONE_NEWNS concerns mounts, root and working directory; descriptors stay shared.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }.map_err(|error| failed("unshare", &error))?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).map_err(|error| failed("make mounts private", &error))?;
    for one in &view.mounts {
        let target = match one {
            ViewMount::Bind { target, .. } | ViewMount::Overlay { target, .. } => target,
        };
        apply(one).map_err(|error| failed(&format!("mount {target}"), &error))?;
    }
    let file =
        fs::File::open("/proc/thread-self/ns/mnt").map_err(|error| failed("open namespace", &error))?;
    Ok(Namespace(Arc::new(file.into())))
}

fn apply(one: &ViewMount) -> io::Result<()> {
    match one {
        ViewMount::Bind { source, target, owner, mode } => {
            make_directory(source, owner.as_deref(), mode.unwrap_or(0o755))?;
            if fs::metadata(source)?.is_dir() {
                make_directory(target, None, 0o755)?;
            } else if !Path::new(target).exists() {
                fs::File::create_new(target)?;
            }
            mount_bind_recursive(source, target)?;
        }
        ViewMount::Overlay { lower, upper, target, owner } => {
            for path in [lower, upper] {
                // Options of overlayfs are cut at these, and its escapes differ between kernels.
                if path.contains([',', ':', '\\']) {
                    return Err(io::Error::other(format!("{path:?} contains `,`, `:` or `\\`")));
                }
            }
            let work = format!("{upper}.work");
            make_directory(upper, owner.as_deref(), 0o755)?;
            make_directory(&work, None, 0o700)?;
            make_directory(target, None, 0o755)?;
            let options = CString::new(format!("lowerdir={lower},upperdir={upper},workdir={work}"))?;
            mount("overlay", target, "overlay", MountFlags::empty(), Some(options.as_c_str()))?;
        }
    }
    Ok(())
}

/// Makes `path` with its parents unless something is there already.
fn make_directory(path: &str, owner: Option<&str>, mode: u32) -> io::Result<()> {
    if Path::new(path).exists() {
        return Ok(());
    }
    fs::DirBuilder::new().recursive(true).mode(0o755).create(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    if let Some(owner) = owner {
        let user = users::find(owner).map_err(|error| io::Error::other(error.to_string()))?;
        chown(path, Some(user.uid), Some(user.gid))?;
    }
    Ok(())
}
