//! `tci serve`: the HTTP API of a VM host.

use std::{net::SocketAddr, path::PathBuf};

use clap::Args;

use super::{Global, large_runtime};
use crate::{
    api::{self, Api, Secret, Tokens},
    config::Config,
    exit::Exit,
    failure::Failure,
    output,
};

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  tci serve &\n  export FIRECRACKER_AUTH_TOKEN=$(tci token create alice)\n  \
                        curl -H \"Authorization: Bearer $FIRECRACKER_AUTH_TOKEN\" http://127.0.0.1:8080/api/vms"
)]
pub(crate) struct ServeArgs {
    /// Where to listen; port 0 takes a free one. There is no TLS: put a proxy before it on other addresses.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080", env = "TCI_LISTEN")]
    listen: SocketAddr,
    /// Write the server's address into this file as soon as it listens.
    #[arg(long, value_name = "FILE")]
    address_file: Option<PathBuf>,
    /// Let in every user whose token is signed with our secret, also one that `tci token` does not know.
    #[arg(long)]
    any_user: bool,
}

pub(crate) fn main(args: &ServeArgs, global: &Global) -> Result<Exit, Failure> {
    let host = global.host()?;
    let mut config = Config::load(None).map_err(|error| Failure::caused(Exit::Usage, error))?;
    config.serve.any_user |= args.any_user;
    let data = host.paths().data().to_owned();
    let (secret, tokens) = (Secret::load(&data)?, Tokens::open(&data)?);
    let image = config.vm_type("default").unwrap_or_default().spec().image;
    if let Err(error) = host.images()?.resolve(&image) {
        output::warning(&format!("VMs cannot be started yet: {error}"));
        output::hint(&format!("`tci image build {image}` builds it"));
    }
    let api = Api::new(host, config, secret, tokens);
    large_runtime()?.block_on(api::serve(api, args.listen, args.address_file.as_deref()))
}
