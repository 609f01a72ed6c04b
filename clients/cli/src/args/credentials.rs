//! Who asks, and whom to trust.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::Args;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tenant_auth_client::{CallerToken, Client, ClientBuilder, Tls};
use zeroize::Zeroizing;

use crate::failure::Failure;

#[derive(Debug, Args)]
pub(crate) struct Credentials {
    /// File with the token that tells the service who calls
    #[arg(long, global = true, env = "TENANTCTL_TOKEN_FILE", value_name = "PATH")]
    token_file: Option<PathBuf>,

    /// File with the roots (PEM) that an https:// service is verified with, instead of this machine's own
    #[arg(long, global = true, env = "TENANTCTL_CA_FILE", value_name = "PATH")]
    ca: Option<PathBuf>,

    /// File with the client certificate (PEM, with its chain) to show to an https:// service
    #[arg(long, global = true, env = "TENANTCTL_CERT_FILE", value_name = "PATH")]
    cert: Option<PathBuf>,

    // Not --key-file: that is where `validate` reads the customer's key.
    /// File with the private key (PEM) of --cert
    #[arg(long, global = true, env = "TENANTCTL_CERT_KEY_FILE", value_name = "PATH")]
    cert_key: Option<PathBuf>,
}

/// Whether connections to an endpoint are encrypted.
pub(crate) fn is_secure(endpoint: &str) -> bool {
    endpoint.starts_with("https://")
}

impl Credentials {
    /// Whether the service can tell from them who calls.
    pub(crate) fn are_given(&self) -> bool {
        self.token_file.is_some() || self.cert.is_some()
    }

    /// A client that uses them.
    pub(crate) fn connect(&self, builder: ClientBuilder, endpoint: &str) -> Result<Client, Failure> {
        let tls = self.tls()?;
        if tls.is_some() && !is_secure(endpoint) {
            return Err(Failure::usage(format!(
                "--ca, --cert and --cert-key are for https:// endpoints, and {endpoint} is none"
            )));
        }
        let builder = match &self.token_file {
            Some(path) => builder.caller_token(token(path)?),
            None => builder,
        };
        let Some(tls) = tls else { return builder.connect_lazy().map_err(Failure::naming(&[])) };
        // What each file holds is fine by itself: what is left is that they do not fit together.
        builder.tls(tls).connect_lazy().map_err(|error| Failure::Usage {
            sentence: error.to_string(),
            details: self.files(),
            hint: self.cert.is_some().then(|| "--cert-key must be the key of --cert".to_owned()),
        })
    }

    fn tls(&self) -> Result<Option<Tls>, Failure> {
        let identity = match (&self.cert, &self.cert_key) {
            (Some(cert), Some(key)) => Some((certificates("--cert", cert)?, private_key(key)?)),
            (None, None) => None,
            (Some(_), None) => return Err(Failure::usage("--cert needs --cert-key, its private key")),
            (None, Some(_)) => return Err(Failure::usage("--cert-key needs --cert, its certificate")),
        };
        let ca = self.ca.as_deref().map(|path| certificates("--ca", path)).transpose()?;
        if identity.is_none() && ca.is_none() {
            return Ok(None);
        }
        let tls = match ca {
            Some(ca) => Tls::new().root(&*ca),
            None => Tls::new(),
        };
        Ok(Some(match identity {
            Some((certificate, key)) => tls.identity(&*certificate, &*key),
            None => tls,
        }))
    }

    fn files(&self) -> Vec<String> {
        let options = [("--ca", &self.ca), ("--cert", &self.cert), ("--cert-key", &self.cert_key)];
        let given = options.into_iter().filter_map(|(option, path)| Some((option, path.as_ref()?)));
        given.map(|(option, path)| format!("{option}: {}", path.display())).collect()
    }
}

fn token(path: &Path) -> Result<CallerToken, Failure> {
    let bytes = read("--token-file", path)?;
    let token = bytes.trim_ascii();
    if token.is_empty() {
        return Err(unusable("--token-file", path, "holds no token"));
    }
    match str::from_utf8(token) {
        Ok(token) if token.bytes().all(|byte| byte.is_ascii_graphic()) => Ok(CallerToken::fixed(token)),
        _ => Err(unusable("--token-file", path, "holds more than a token")),
    }
}

fn certificates(option: &str, path: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let pem = read(option, path)?;
    let mut count = 0;
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        certificate.map_err(|_| unusable(option, path, "holds a broken certificate"))?;
        count += 1;
    }
    if count == 0 {
        return Err(unusable(option, path, "holds no certificate (PEM)"));
    }
    Ok(pem)
}

fn private_key(path: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let pem = read("--cert-key", path)?;
    PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|_| unusable("--cert-key", path, "holds no private key (PEM)"))?;
    Ok(pem)
}

fn read(option: &str, path: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let bytes = fs::read(path).map(Zeroizing::new);
    bytes.map_err(|error| Failure::usage(format!("{option}: cannot read {}: {error}", path.display())))
}

fn unusable(option: &str, path: &Path, why: &str) -> Failure {
    Failure::usage(format!("{option}: {} {why}", path.display()))
}
