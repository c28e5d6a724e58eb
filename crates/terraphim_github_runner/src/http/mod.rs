//! A small HTTP client for JSON services: VM hosts and language models.

mod client;
mod error;
mod retry;
mod stream;
#[cfg(test)]
pub(crate) mod testing;
mod token;
pub(crate) mod words;

pub(crate) use client::{Call, HttpClient, Method};
pub use error::HttpError;
pub(crate) use retry::Backoff;
pub(crate) use stream::Streamed;
pub use token::Token;
