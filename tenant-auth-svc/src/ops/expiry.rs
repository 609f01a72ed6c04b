//! When certificates and tokens expire, as text and as JSON.

use std::time::Duration;

pub use super::text::format_rfc3339;
use crate::domain::clock::UnixMillis;

/// A certificate or a token with an expiry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialKind {
    /// The server's certificate, or one of its intermediates: whichever expires first.
    ServerCertificate,
    /// The first root of client certificates to expire.
    ClientCa,
    /// The first private root of the database's certificate to expire.
    DatabaseCa,
    /// The database token for reads.
    ReadToken,
    /// The database token for writes.
    WriteToken,
}

impl CredentialKind {
    /// Name for people.
    #[must_use]
    pub fn description(self) -> &'static str {
        match self {
            Self::ServerCertificate => "server certificate",
            Self::ClientCa => "client CA",
            Self::DatabaseCa => "database CA",
            Self::ReadToken => "database token for reads",
            Self::WriteToken => "database token for writes",
        }
    }

    /// Name for machines; unique among certificates and among tokens.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ServerCertificate => "server",
            Self::ClientCa => "client_ca",
            Self::DatabaseCa => "database_ca",
            Self::ReadToken => "reads",
            Self::WriteToken => "writes",
        }
    }

    /// Whether it is a token; otherwise it is a certificate.
    #[must_use]
    pub fn is_token(self) -> bool {
        match self {
            Self::ServerCertificate | Self::ClientCa | Self::DatabaseCa => false,
            Self::ReadToken | Self::WriteToken => true,
        }
    }
}

/// The expiry of a certificate or a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CredentialExpiry {
    /// Which certificate or token.
    pub kind: CredentialKind,
    /// Its first second, or when it was issued; `None` if unknown.
    pub not_before: Option<UnixMillis>,
    /// Its last second.
    pub not_after: UnixMillis,
}

impl CredentialExpiry {
    /// Describes the expiry in a sentence, relative to `now`.
    #[must_use]
    pub fn describe(&self, now: UnixMillis) -> String {
        let (kind, at) = (self.kind.description(), format_rfc3339(self.not_after));
        if now > self.not_after {
            return format!("{kind} expired at {at}, {} ago", format_rounded(now.since(self.not_after)));
        }
        let starts = self.not_before.filter(|start| now < *start);
        let starts = starts.map(|start| format!("; not valid before {}", format_rfc3339(start)));
        let left = format_rounded(self.not_after.since(now));
        format!("{kind} expires at {at}, in {left}{}", starts.unwrap_or_default())
    }

    /// Time until the expiry in milliseconds; negative after it.
    #[must_use]
    pub fn remaining_millis(&self, now: UnixMillis) -> i64 {
        self.not_after.0.saturating_sub(now.0)
    }
}

/// Rounds down to the largest unit of which there are at least two.
fn format_rounded(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds @ 7_200..172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

/// Describes all expiries in one line.
pub(super) fn describe_all(expiries: &[CredentialExpiry], now: UnixMillis) -> String {
    if expiries.is_empty() {
        return "no known expiry".to_owned();
    }
    expiries.iter().map(|expiry| expiry.describe(now)).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expiry_is_described_with_time_and_distance() {
        // 2026-11-21T07:20:00Z
        let now = UnixMillis(1_795_245_600_000);
        let at = |seconds: i64| UnixMillis(now.0 + seconds * 1_000);
        let of = |kind, not_after| CredentialExpiry { kind, not_before: None, not_after };
        let expiries = [
            of(CredentialKind::ServerCertificate, at(20 * 86_400)),
            of(CredentialKind::ClientCa, at(-3 * 3_600)),
            CredentialExpiry { not_before: Some(at(60)), ..of(CredentialKind::DatabaseCa, at(90)) },
            of(CredentialKind::ReadToken, at(600)),
            of(CredentialKind::WriteToken, UnixMillis(-86_400_000)),
        ];
        assert_eq!(
            describe_all(&expiries, now),
            "server certificate expires at 2026-12-11T07:20:00Z, in 20 d; client CA expired at 2026-11-21T04:20:00Z, 3 h ago; \
             database CA expires at 2026-11-21T07:21:30Z, in 90 s; not valid before 2026-11-21T07:21:00Z; database token for \
             reads expires at 2026-11-21T07:30:00Z, in 10 min; database token for writes expired at 1970-01-01T00:00:00Z, \
             20779 d ago"
        );
        assert_eq!(describe_all(&[], now), "no known expiry");
        assert_eq!(of(CredentialKind::ClientCa, at(-1)).remaining_millis(now), -1_000);
        assert_eq!(of(CredentialKind::ClientCa, at(0)).remaining_millis(now), 0);
    }
}
