//! The engine, over an executor that runs real processes of this machine in a temporary directory.
//!
//! Nothing is isolated here, so that executor exists in these tests only.

mod cancel;
mod directories;
mod flow;
mod host;
mod world;
