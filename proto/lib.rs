//! The `tenantauth.v1` contract, compiled from the `.proto` files in this directory.
//!
//! Feature `client` adds the generated clients, `server` the generated service traits. The messages that contain a
//! plaintext key have a handwritten [`Debug`](std::fmt::Debug) that omits it.

/// Messages and services of the package `tenantauth.v1`.
pub mod v1 {
    // Generated code: its documentation comes from the .proto comments, its style from the generator.
    #![allow(clippy::all, missing_docs, rustdoc::invalid_html_tags, unreachable_pub, unused_qualifications)]

    include!(concat!(env!("OUT_DIR"), "/tenantauth.v1.rs"));

    mod redact;
}

/// The encoded `FileDescriptorSet` of the whole contract, for server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/tenantauth.v1.bin"));
