//! Expiry of certificates.

use std::path::{Path, PathBuf};

use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use x509_parser::{certificate::X509Certificate, prelude::FromDer as _};

use crate::instruments::validity::Validity;

/// A file with more certificates is a public trust store. Its certificates change often, so the first one to
/// expire is not relevant for the service.
const MAX_PRIVATE_ROOTS: usize = 16;

/// The one of several certificates that expires first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirstToExpire {
    /// The subject in the format of RFC 4514. Its text is chosen by the issuer of the certificate.
    pub subject: String,
    /// The period of validity.
    pub validity: Validity,
    /// The time since which all of the certificates are valid, in seconds since 1970.
    pub all_valid_from: i64,
}

impl FirstToExpire {
    /// Returns whether all of the certificates are valid at a time, in seconds since 1970.
    #[must_use]
    pub fn all_valid_at(&self, now: i64) -> bool {
        (self.all_valid_from..=self.validity.not_after).contains(&now)
    }
}

/// Finds the certificate that expires first. `None` without certificates.
///
/// # Errors
/// If one is not X.509: its number, counted from 1, and the error.
pub(super) fn first_to_expire(
    certificates: &[CertificateDer<'_>],
) -> Result<Option<FirstToExpire>, (usize, String)> {
    let mut first: Option<FirstToExpire> = None;
    let mut all_valid_from = i64::MIN;
    for (index, der) in certificates.iter().enumerate() {
        let (_, certificate) =
            X509Certificate::from_der(der).map_err(|error| (index + 1, error.to_string()))?;
        let dates = certificate.validity();
        let (start, end) = (dates.not_before.timestamp(), dates.not_after.timestamp());
        all_valid_from = all_valid_from.max(start);
        if first.as_ref().is_none_or(|first| end < first.validity.not_after) {
            let validity = Validity { not_before: Some(start), not_after: end };
            first =
                Some(FirstToExpire { subject: certificate.subject().to_string(), validity, all_valid_from });
        }
    }
    Ok(first.map(|first| FirstToExpire { all_valid_from, ..first }))
}

/// Finds the private root in `SSL_CERT_FILE` and `SSL_CERT_DIR` that expires first. `None` if they name no
/// readable file, or only public trust stores.
///
/// It reads the same files as the HTTP client of the database (rustls-native-certs). It reports no errors:
/// the client does.
#[must_use]
pub fn first_private_root_to_expire(file: Option<&Path>, folders: &[PathBuf]) -> Option<FirstToExpire> {
    let of_folder = |folder: &PathBuf| {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let files: Vec<_> = entries.map(|entry| entry.path()).filter(|path| path.is_file()).collect();
        // A directory with many files is a public trust store, too, and is not read.
        if files.len() > MAX_PRIVATE_ROOTS { Vec::new() } else { files }
    };
    let files = file.map(Path::to_owned).into_iter().chain(folders.iter().flat_map(of_folder));
    let roots = files.flat_map(|path| {
        let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        read.ok().filter(|roots| roots.len() <= MAX_PRIVATE_ROOTS).unwrap_or_default()
    });
    first_to_expire(&roots.collect::<Vec<_>>()).ok().flatten()
}
