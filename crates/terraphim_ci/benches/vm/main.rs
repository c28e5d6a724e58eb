//! `make bench`: what a VM costs, measured on this machine now. Prints a table and, as its last line, JSON.
//!
//! Nothing is asserted about times: a machine's load is not the program's fault. Each figure stands beside what was asked
//! for, what the same takes with maqet 0.0.15 (a like program in Python; measured on a like machine, `make compare-vm`
//! runs both here), and, where it depends on QEMU or on the guest, their own part measured in the same run. The least
//! value and the processor time say more than the median on a machine that does other things besides.
//!
//! `cargo bench --bench vm -- GROUP...` measures some of the groups only: commands, floor, life, control, registry, guest,
//! neighbour, steps, server.
#![expect(clippy::print_stdout, reason = "the table is the result")]

mod commands;
mod control;
mod floor;
mod guest;
mod life;
mod measure;
mod neighbour;
mod registry;
mod server;
mod steps;
mod table;

use std::{
    fs,
    path::{Path, PathBuf},
};

use terraphim_vm::{Host, Network, Paths, VmSpec};

use crate::table::Table;

/// Where everything is measured: a data directory of its own with the shared images.
pub(crate) struct World {
    directory: tempfile::TempDir,
    pub(crate) host: Host,
}

impl World {
    fn new() -> World {
        let images = std::env::var_os("TCI_TEST_IMAGES").map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tci-test"),
            PathBuf::from,
        );
        let directory =
            tempfile::Builder::new().prefix("tci-bench-").tempdir().expect("a temporary directory");
        for name in ["images", "cache"] {
            fs::create_dir_all(images.join(name)).expect("a directory for guest images");
            let shared = fs::canonicalize(images.join(name)).expect("the directory of the guest images");
            std::os::unix::fs::symlink(shared, directory.path().join(name)).expect("a link to the images");
        }
        let host = Host::open(Paths::new(directory.path()).expect("paths")).expect("a host");
        World { directory, host: host.with_supervisor_program(measure::TCI.into()) }
    }

    /// The data directory.
    pub(crate) fn data(&self) -> &Path {
        self.directory.path()
    }
}

/// The smallest VM there is.
pub(crate) fn small(memory_mib: u32) -> VmSpec {
    VmSpec { image: "busybox".to_owned(), vcpus: 1, memory_mib, network: Network::None, ..VmSpec::default() }
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    // `cargo test --benches` asks every benchmark whether it has tests.
    if args.iter().any(|arg| arg == "--test" || arg == "--list") {
        return;
    }
    if let [first, path, count] = &args[..]
        && first == registry::WORKER
    {
        return registry::work(Path::new(path), count.parse().expect("a number"));
    }
    let wanted = |group: &str| args.is_empty() || args.iter().any(|arg| arg == group);
    let world = World::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut table = Table::new();
    if wanted("commands") {
        commands::measure(&mut table, &world, &runtime);
    }
    if wanted("floor") {
        floor::measure(&mut table, &world);
    }
    if wanted("life") {
        runtime.block_on(life::measure(&mut table, &world));
    }
    if wanted("control") {
        runtime.block_on(control::measure(&mut table, &world));
    }
    if wanted("registry") {
        registry::measure(&mut table);
    }
    if wanted("guest") {
        runtime.block_on(guest::measure(&mut table, &world));
    }
    if wanted("neighbour") {
        runtime.block_on(neighbour::measure(&mut table, &world));
    }
    if wanted("steps") {
        steps::measure(&mut table, &world);
    }
    if wanted("server") {
        runtime.block_on(server::measure(&mut table, &world));
    }
    table.finish();
    let _ = fs::remove_dir_all(world.host.paths().runtime());
}
