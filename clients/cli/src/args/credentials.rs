//! Credentials of the caller, and the trusted root certificates.

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
    /// File with the token that authenticates the caller to the service
    #[arg(long, global = true, env = "TENANTCTL_TOKEN_FILE", value_name = "PATH")]
    token_file: Option<PathBuf>,

    /// File with the root certificates (PEM) that verify an https:// service, instead of the system's
    #[arg(long, global = true, env = "TENANTCTL_CA_FILE", value_name = "PATH")]
    ca: Option<PathBuf>,

    /// File with the client certificate (PEM, with its chain) for an https:// service
    #[arg(long, global = true, env = "TENANTCTL_CERT_FILE", value_name = "PATH")]
    cert: Option<PathBuf>,

    // Not --key-file: `validate` reads the customer's key from that.
    /// File with the private key (PEM) of --cert
    #[arg(long, global = true, env = "TENANTCTL_CERT_KEY_FILE", value_name = "PATH")]
    cert_key: Option<PathBuf>,
}

impl Credentials {
    /// Returns whether they identify the caller to the service.
    pub(crate) fn has_caller_identity(&self) -> bool {
        self.token_file.is_some() || self.cert.is_some()
    }

    /// Returns a client with these credentials. `server_name` is the name in the certificate of the service,
    /// if it is not the host of the endpoint.
    pub(crate) fn connect(
        &self,
        builder: ClientBuilder,
        endpoint: &str,
        server_name: Option<&str>,
        sources: OptionSources,
    ) -> Result<Client, Failure> {
        let tls = self.tls(sources)?;
        let tls = match server_name {
            Some(name) => Some(tls.unwrap_or_default().server_name(name)),
            None => tls,
        };
        if tls.is_some() && !is_secure(endpoint) {
            let names: Vec<_> = self.tls_files(sources).into_iter().map(|file| file.field).collect();
            return Err(Failure::usage(format!(
                "{} requires an https:// endpoint, not {endpoint}",
                names.join(" and ")
            )));
        }
        let builder = match &self.token_file {
            Some(path) => builder.caller_token(read_token(sources.name("--token-file"), path)?),
            None => builder,
        };
        let Some(tls) = tls else { return builder.connect_lazy().map_err(Failure::from_service(&[])) };
        // Each file is valid by itself, so the remaining error is that they do not match.
        builder.tls(tls).connect_lazy().map_err(|error| Failure::Usage {
            sentence: error.to_string(),
            violations: self.tls_files(sources),
            hint: self.cert.is_some().then(|| {
                format!("{} must be the key of {}", sources.name("--cert-key"), sources.name("--cert"))
            }),
        })
    }

    fn tls(&self, sources: OptionSources) -> Result<Option<Tls>, Failure> {
        let (cert, cert_key) = (sources.name("--cert"), sources.name("--cert-key"));
        let identity = match (&self.cert, &self.cert_key) {
            (Some(path), Some(key)) => {
                Some((read_certificates(cert, path)?, read_private_key(cert_key, key)?))
            }
            (None, None) => None,
            (Some(_), None) => {
                return Err(Failure::usage(format!("{cert} requires --cert-key, its private key")));
            }
            (None, Some(_)) => {
                return Err(Failure::usage(format!("{cert_key} requires --cert, its certificate")));
            }
        };
        let ca = self.ca.as_deref().map(|path| read_certificates(sources.name("--ca"), path)).transpose()?;
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

    fn tls_files(&self, sources: OptionSources) -> Vec<FieldProblem> {
        let options = [("--ca", &self.ca), ("--cert", &self.cert), ("--cert-key", &self.cert_key)];
        let named =
            options.into_iter().filter_map(|(option, path)| Some((sources.name(option), path.as_ref()?)));
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
        return Err(invalid(option, path, "contains no token"));
    }
    match str::from_utf8(token) {
        Ok(token) if token.bytes().all(|byte| byte.is_ascii_graphic()) => Ok(CallerToken::fixed(token)),
        _ => Err(invalid(option, path, "contains more than a token")),
    }
}

fn read_certificates(option: &str, path: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let pem = read_file(option, path)?;
    let mut count = 0;
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        certificate.map_err(|_| invalid(option, path, "contains an invalid certificate"))?;
        count += 1;
    }
    if count == 0 {
        return Err(invalid(option, path, "contains no certificate in PEM format"));
    }
    Ok(pem)
}

fn read_private_key(option: &str, path: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let pem = read_file(option, path)?;
    PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|_| invalid(option, path, "contains no private key in PEM format"))?;
    Ok(pem)
}

fn read_file(option: &str, path: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let bytes = fs::read(path).map(Zeroizing::new);
    bytes.map_err(|error| Failure::usage(format!("{option}: cannot read {}: {error}", path.display())))
}

fn invalid(option: &str, path: &Path, reason: &str) -> Failure {
    Failure::usage(format!("{option}: {} {reason}", path.display()))
}
