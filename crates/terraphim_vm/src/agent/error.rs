//! What can go wrong between the host and an agent.

use std::{io, time::Duration};

use thiserror::Error;

/// A call to the agent failed.
#[derive(Debug, Error)]
pub enum AgentError {
    /// The connection failed before it was open.
    #[error("cannot connect to the agent in the guest")]
    Connect(#[source] io::Error),
    /// The agent did not answer the handshake.
    #[error("the agent in the guest did not answer within {0:?}")]
    Silent(Duration),
    /// The agent is of another program version.
    #[error(
        "the agent speaks generation {theirs} of the protocol, this program {ours}: build the image anew"
    )]
    Generation {
        /// The agent's generation.
        theirs: u32,
        /// This program's.
        ours: u32,
    },
    /// The connection or the call's stream broke.
    #[error("connection to the agent broke during `{call}`")]
    Broken {
        /// Which call.
        call: &'static str,
        /// Why.
        #[source]
        source: h2::Error,
    },
    /// The agent did not answer a call in time.
    #[error("the agent did not answer `{call}` within {limit:?}")]
    Timeout {
        /// Which call.
        call: &'static str,
        /// How long was waited.
        limit: Duration,
    },
    /// The agent refused a call.
    #[error("the guest refuses `{call}`: {message}")]
    Refused {
        /// Which call.
        call: &'static str,
        /// The HTTP status of the answer.
        status: u16,
        /// Its text.
        message: String,
    },
    /// The guest could not complete what it had begun to send.
    #[error("the guest cannot complete `{call}`: {message}")]
    BrokenOff {
        /// Which call.
        call: &'static str,
        /// Its reason.
        message: String,
    },
    /// The agent's answer makes no sense.
    #[error("the agent's answer to `{call}` cannot be understood")]
    Answer {
        /// Which call.
        call: &'static str,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The stream to be sent to the guest could not be read.
    #[error("cannot read what is to be sent to the guest")]
    Source(#[source] io::Error),
    /// The process has ended or takes no input.
    #[error("the process takes no more input")]
    InputClosed,
}
