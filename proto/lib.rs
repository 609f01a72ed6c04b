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

/// The messages and the service of Envoy's external authorization filter.
// Generated code, like that of `v1`.
#[allow(clippy::all, missing_docs, rustdoc::invalid_html_tags, unreachable_pub, unused_qualifications)]
pub mod envoy {
    pub mod config {
        pub mod core {
            pub mod v3 {
                include!(concat!(env!("OUT_DIR"), "/envoy.config.core.v3.rs"));

                mod redact;
            }
        }
    }

    pub mod service {
        pub mod auth {
            pub mod v3 {
                include!(concat!(env!("OUT_DIR"), "/envoy.service.auth.v3.rs"));

                mod redact;
            }
        }
    }

    pub mod r#type {
        pub mod v3 {
            include!(concat!(env!("OUT_DIR"), "/envoy.r#type.v3.rs"));
        }
    }
}

/// The encoded `FileDescriptorSet` of the whole contract, for server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/tenantauth.v1.bin"));
