//! Compiles `proto/` into Rust bindings and a descriptor set, without `protoc`.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;

const PROTO_FILES: [&str; 10] = [
    "envoy/service/auth/v3/external_auth.proto",
    "tenantauth/v1/admin.proto",
    "tenantauth/v1/info.proto",
    "tenantauth/v1/inspect.proto",
    "tenantauth/v1/limit.proto",
    "tenantauth/v1/session.proto",
    "tenantauth/v1/usage.proto",
    "tenantauth/v1/validation.proto",
    "tenantauth/v1/verdict.proto",
    "tenantauth/v1/watch.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(PROTO_FILES, ["proto"])?;

    // `compile_fds` generates code only; reflection needs the descriptors as well.
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    fs::write(out.join("tenantauth.v1.bin"), descriptors.encode_to_vec())?;

    tonic_prost_build::configure()
        // Clients are generic over the channel, so a server build needs no transport.
        .build_transport(false)
        .client_mod_attribute(".", "#[cfg(feature = \"client\")]")
        .server_mod_attribute(".", "#[cfg(feature = \"server\")]")
        .extern_path(".google.rpc.Status", "::tonic_types::Status")
        // These messages contain keys, which a derived Debug would print.
        .skip_debug([
            ".tenantauth.v1.ValidateKeyRequest",
            ".tenantauth.v1.ValidateSessionRequest",
            ".tenantauth.v1.BindSessionRequest",
            ".tenantauth.v1.IssueKeyResponse",
            ".tenantauth.v1.RotateKeyResponse",
            ".tenantauth.v1.ExplainKeyRequest",
            ".tenantauth.v1.ReportLeakRequest",
            // The header of an HTTP request may be a key, or a signed principal.
            ".envoy.config.core.v3.HeaderValue",
            ".envoy.service.auth.v3.AttributeContext.HttpRequest",
        ])
        .compile_fds(descriptors)?;
    Ok(())
}
