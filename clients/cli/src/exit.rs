//! The exit codes.

use tenant_auth_client::Error;

/// The outcome of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// The command succeeded; for `validate`, `session bind` and `session validate`: the verdict is VALID.
    Done,
    /// The key or session was denied, rows of an import were rejected or exist with other values, a replica contradicts
    /// the database or another replica, or a scan found a key.
    Denied,
    /// The command line, the input, or a field of the request is invalid.
    Usage,
    /// The object does not exist, it already exists, or its state does not allow the change.
    Precondition,
    /// The service did not respond or cannot decide now; a retry may succeed.
    Unavailable,
    /// The caller is not authenticated, or lacks the required role.
    NotAllowed,
    /// A scan found no key, but could not read everything.
    Incomplete,
    /// Any other error.
    Unexpected,
    /// An import was interrupted with Ctrl-C. The code is that of a shell for the signal.
    Interrupted,
}

/// The table of exit codes in `--help`.
pub(crate) const EXIT_CODES_HELP: &str = "\
Exit codes:
  0   success; validate, session validate, session bind: the verdict is VALID; key check: no contradiction; scan: no key
  1   the key or session was denied; key import: rows were rejected or differ; key check: a replica contradicts; scan: a key was found
  2   invalid usage or input, or the service rejected a field
  3   not found, already exists, or not possible in the current state
  4   the service is unreachable, overloaded, or did not respond in time; key check: a replica or the database did not respond
  5   not authenticated, or permission denied
  6   scan: no key was found, but something could not be read
  70  any other error
  130 key import was interrupted";

impl Exit {
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Denied => 1,
            Self::Usage => 2,
            Self::Precondition => 3,
            Self::Unavailable => 4,
            Self::NotAllowed => 5,
            Self::Incomplete => 6,
            Self::Unexpected => 70,
            Self::Interrupted => 130,
        }
    }
}

impl From<&Error> for Exit {
    fn from(error: &Error) -> Self {
        match error {
            Error::Setup { .. } | Error::Invalid { .. } => Self::Usage,
            Error::NotFound { .. }
            | Error::AlreadyExists { .. }
            | Error::FailedPrecondition { .. }
            | Error::Conflict { .. } => Self::Precondition,
            Error::Unreachable { .. }
            | Error::Unavailable { .. }
            | Error::Overloaded { .. }
            | Error::DeadlineExceeded => Self::Unavailable,
            Error::Unauthenticated { .. } | Error::PermissionDenied { .. } => Self::NotAllowed,
            _ => Self::Unexpected,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_lists_every_exit_code() {
        let every = [
            Exit::Done,
            Exit::Denied,
            Exit::Usage,
            Exit::Precondition,
            Exit::Unavailable,
            Exit::NotAllowed,
            Exit::Incomplete,
            Exit::Unexpected,
            Exit::Interrupted,
        ];
        for exit in every {
            assert!(EXIT_CODES_HELP.contains(&format!("\n  {:<4}", exit.code())), "{exit:?}");
        }
    }
}
