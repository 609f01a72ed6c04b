//! Who asks, and whom to trust.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::Args;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tenant_auth_client::{CallerToken, Client, ClientBuilder, Tls};
use zeroize::Zeroizing;

use super::OptionSources;
use crate::failure::{Failure, FieldProblem, is_secure};

#[derive(Clone, Debug, Args)]
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

impl Credentials {
    /// Whether the service can tell from them who calls.
    pub(crate) fn has_caller_identity(&self) -> bool {
        self.token_file.is_some() || self.cert.is_some()
    }

    /// A client that uses them. The service's certificate is for `server_name`, where that is not the host of the endpoint.
    pub(crate) fn connect(
        &self,
        builder: ClientBuilder,
        endpoint: &str,
        server_name: Option<&str>,
        given: OptionSources,
    ) -> Result<Client, Failure> {
        let tls = self.tls(given)?;
        let tls = match server_name {
            Some(name) => Some(tls.unwrap_or_default().server_name(name)),
            None => tls,
        };
        if tls.is_some() && !is_secure(endpoint) {
            let names: Vec<_> = self.tls_files(given).into_iter().map(|file| file.field).collect();
            return Err(Failure::usage(format!(
                "{} is for https:// endpoints, and {endpoint} is none",
                names.join(" and ")
            )));
        }
        let builder = match &self.token_file {
            Some(path) => builder.caller_token(read_token(given.name("--token-file"), path)?),
            None => builder,
        };
        let Some(tls) = tls else { return builder.connect_lazy().map_err(Failure::from_service(&[])) };
        // What each file holds is fine by itself: what is left is that they do not fit together.
        builder.tls(tls).connect_lazy().map_err(|error| Failure::Usage {
            sentence: error.to_string(),
            violations: self.tls_files(given),
            hint: self
                .cert
                .is_some()
                .then(|| format!("{} must be the key of {}", given.name("--cert-key"), given.name("--cert"))),
        })
    }

    fn tls(&self, given: OptionSources) -> Result<Option<Tls>, Failure> {
        let (cert, cert_key) = (given.name("--cert"), given.name("--cert-key"));
        let identity = match (&self.cert, &self.cert_key) {
            (Some(path), Some(key)) => {
                Some((read_certificates(cert, path)?, read_private_key(cert_key, key)?))
            }
            (None, None) => None,
            (Some(_), None) => {
                return Err(Failure::usage(format!("{cert} needs --cert-key, its private key")));
            }
            (None, Some(_)) => {
                return Err(Failure::usage(format!("{cert_key} needs --cert, its certificate")));
            }
        };
        let ca = self.ca.as_deref().map(|path| read_certificates(given.name("--ca"), path)).transpose()?;
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

    fn tls_files(&self, given: OptionSources) -> Vec<FieldProblem> {
        let options = [("--ca", &self.ca), ("--cert", &self.cert), ("--cert-key", &self.cert_key)];
        let named =
            options.into_iter().filter_map(|(option, path)| Some((given.name(option), path.as_ref()?)));
        named
            .map(|(option, path)| FieldProblem {
                field: option.to_owned(),
                description: path.display().to_string(),
            })
            .collect()
    }
}

fn read_token(option: &str, path: &Path) -> Result<CallerToken, Failure> {
    let bytes = read_file(option, path)?;
    let token = bytes.trim_ascii();
    if token.is_empty() {
        return Err(unusable(option, path, "holds no token"));
    }
    match str::from_utf8(token) {
        Ok(token) if token.bytes().all(|byte| byte.is_ascii_graphic()) => Ok(CallerToken::fixed(token)),
        _ => Err(unusable(option, path, "holds more than a token")),
    }
}

fn read_certificates(option: &str, path: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let pem = read_file(option, path)?;
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

fn read_private_key(option: &str, path: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let pem = read_file(option, path)?;
    PrivateKeyDer::from_pem_slice(&pem).map_err(|_| unusable(option, path, "holds no private key (PEM)"))?;
    Ok(pem)
}

fn read_file(option: &str, path: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let bytes = fs::read(path).map(Zeroizing::new);
    bytes.map_err(|error| Failure::usage(format!("{option}: cannot read {}: {error}", path.display())))
}

fn unusable(option: &str, path: &Path, why: &str) -> Failure {
    Failure::usage(format!("{option}: {} {why}", path.display()))
}
