//! The address of a customer

use clap::Args;
use tenant_auth_client::{ClientAddress, InvalidAddress};

/// The address from which a customer uses a key.
#[derive(Debug, Args)]
pub(crate) struct CustomerAddress {
    /// Address of the customer, for keys that are limited to networks
    #[arg(long = "client-address", value_parser = parse, value_name = "ADDRESS")]
    address: Option<ClientAddress>,
}

impl CustomerAddress {
    /// Returns the address; `None` if it was not given.
    pub(crate) fn get(&self) -> Option<ClientAddress> {
        self.address
    }
}

fn parse(text: &str) -> Result<ClientAddress, InvalidAddress> {
    ClientAddress::parse(text)
}
