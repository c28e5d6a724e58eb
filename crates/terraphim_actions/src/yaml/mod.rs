//! YAML 1.2 as GitHub reads it, event by event. Who wants a tree reads a [`crate::template`].

mod reader;
mod scalar;
mod source;

pub(crate) use reader::{Reader, YamlError};
pub(crate) use scalar::Scalar;
