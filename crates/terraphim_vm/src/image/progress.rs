//! How a build tells what it does.

/// Told of a build's progress, in the order in which things happen, from the thread that builds.
pub trait Progress: Sync {
    /// The next stage starts: a few words, such as `downloading packages`.
    fn stage(&self, name: &str);

    /// How much of the current stage is done, from 0 to 1.
    fn advance(&self, fraction: f64) {
        let _ = fraction;
    }

    /// Something worth a line of its own, such as waiting for another build.
    fn note(&self, text: &str) {
        let _ = text;
    }
}

/// Tells nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn stage(&self, _: &str) {}
}
