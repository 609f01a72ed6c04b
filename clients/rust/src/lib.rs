#![doc = include_str!("../README.md")]

mod admin;
mod builder;
mod call;
mod client;
mod error;
mod info;
mod key;
mod question;
mod stream;
mod usage;
mod validation;
mod verdict;

/// The contract's own messages, for what [`AdminClient`] and usage take and give.
pub use tenant_auth_proto::v1 as proto;
/// The code in [`Error::Other`].
pub use tonic::Code;

pub use self::{
    admin::{AdminClient, ImportedKey, IssuedKey, RotatedKey},
    builder::ClientBuilder,
    client::Client,
    error::{Error, Violation},
    info::{DatabaseKind, ServerInfo},
    key::PresentedKey,
    question::Question,
    stream::{Answer, Answers},
    usage::RecordedUsage,
    validation::{Provenance, Source, Validation},
    verdict::Verdict,
};
