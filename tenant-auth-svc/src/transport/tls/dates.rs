//! When certificates expire.

use std::path::{Path, PathBuf};

use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use x509_parser::{certificate::X509Certificate, prelude::FromDer as _};

use crate::instruments::validity::Validity;

/// A file with more certificates than this is a public trust store. Its members come and go, so the first one to expire says
/// nothing about the service.
const MAX_PRIVATE_ROOTS: usize = 16;

/// Of several certificates, the one that expires first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirstToExpire {
    /// Its subject, as RFC 4514 writes it. Whoever made it chose the text.
    pub subject: String,
    /// From when to when it is valid.
    pub validity: Validity,
    /// From when on all of them are valid, in seconds since 1970.
    pub all_valid_from: i64,
}

impl FirstToExpire {
    /// Whether all of the certificates are valid at a moment, in seconds since 1970.
    #[must_use]
    pub fn all_valid_at(&self, now: i64) -> bool {
        (self.all_valid_from..=self.validity.not_after).contains(&now)
    }
}

/// Finds the certificate that expires first. `None` without certificates.
///
/// # Errors
/// When one is not X.509: its number, counted from 1, and what is wrong.
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

/// Of the private roots that `SSL_CERT_FILE` and `SSL_CERT_DIR` name, the one that expires first. `None` where they name none that
/// can be read, or public trust stores only.
///
/// It looks where the HTTP client of the database looks (rustls-native-certs), and refuses nothing: the client does.
#[must_use]
pub fn first_private_root_to_expire(file: Option<&Path>, folders: &[PathBuf]) -> Option<FirstToExpire> {
    let of_folder = |folder: &PathBuf| {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let files: Vec<_> = entries.map(|entry| entry.path()).filter(|path| path.is_file()).collect();
        // Many files are a public store too, and are not worth reading.
        if files.len() > MAX_PRIVATE_ROOTS { Vec::new() } else { files }
    };
    let files = file.map(Path::to_owned).into_iter().chain(folders.iter().flat_map(of_folder));
    let roots = files.flat_map(|path| {
        let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        read.ok().filter(|roots| roots.len() <= MAX_PRIVATE_ROOTS).unwrap_or_default()
    });
    first_to_expire(&roots.collect::<Vec<_>>()).ok().flatten()
}
