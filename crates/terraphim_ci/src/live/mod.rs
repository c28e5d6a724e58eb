//! A run on the terminal, or in a pipe, while it happens; and what is shown when it is over.

mod observer;
mod screen;
mod table;
mod text;

pub(crate) use observer::{Both, Live};
pub(crate) use screen::Screen;
pub(crate) use table::closing;
