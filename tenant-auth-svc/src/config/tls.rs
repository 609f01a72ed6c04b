//! TLS of gRPC connections.

use std::path::PathBuf;

use super::reader::ConfigReader;
use crate::transport::tls::{LoadedTls, TlsFiles};

/// TLS of gRPC connections.
#[derive(Clone, Debug)]
pub struct TlsConfig {
    /// `TENANT_AUTH_TLS_CERT_FILE` and `TENANT_AUTH_TLS_KEY_FILE`: PEM files with the certificate, its intermediates,
    /// and the private key. Default none: plaintext. `TENANT_AUTH_TLS_CLIENT_CA_FILE`: PEM file with the roots of
    /// client certificates. Default none: client certificates are not requested.
    pub certificates: Option<(TlsFiles, LoadedTls)>,
}

const CERT: &str = "TENANT_AUTH_TLS_CERT_FILE";
const KEY: &str = "TENANT_AUTH_TLS_KEY_FILE";
const CLIENT_CA: &str = "TENANT_AUTH_TLS_CLIENT_CA_FILE";

impl TlsConfig {
    pub(super) fn read(reader: &mut ConfigReader) -> Option<Self> {
        let mut file = |variable| reader.optional(variable, |path| Ok::<_, String>(PathBuf::from(path)));
        let (certificate, key, client_ca) = (file(CERT)?, file(KEY)?, file(CLIENT_CA)?);
        let (certificate, key) = match (certificate, key) {
            (Some(certificate), Some(key)) => (certificate, key),
            (None, None) if client_ca.is_none() => return Some(Self { certificates: None }),
            (None, _) => {
                reader.report_problem(CERT, "must be set: TLS needs a certificate");
                return None;
            }
            (Some(_), None) => {
                reader.report_problem(KEY, "must be set: the certificate needs its private key");
                return None;
            }
        };
        let files = TlsFiles { certificate, key, client_ca };
        match files.load() {
            Ok(loaded) => Some(Self { certificates: Some((files, loaded)) }),
            Err(error) => {
                reader.report_problem(CERT, format!("cannot load certificates: {error}"));
                None
            }
        }
    }

    /// Whether client certificates are accepted.
    pub(super) fn has_client_ca(&self) -> bool {
        self.certificates.as_ref().is_some_and(|(files, _)| files.client_ca.is_some())
    }
}
