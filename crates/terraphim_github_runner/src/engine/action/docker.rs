//! Docker actions: an image to pull or a Dockerfile to build, run by the container engine of the guest.
//!
//! No image of this version has an engine, so each use is refused: before the run where the workflow itself says
//! `docker://`, when the action was read elsewhere.

/// Why a docker action cannot run.
pub(in crate::engine) fn no_engine(what: &str) -> String {
    format!("{what} is a docker action, and the image of this VM has no container engine")
}
