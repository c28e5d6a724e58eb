//! The calls that read a little and answer at once, one file each.

pub(crate) mod configure;
pub(crate) mod info;
pub(crate) mod left;
pub(crate) mod shutdown;
pub(crate) mod views;
