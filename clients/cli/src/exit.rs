//! What the exit code says.

use tenant_auth_client::Error;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// What was asked for is done; of `validate` and of `session bind` and `validate`: the verdict is VALID.
    Done,
    /// The key or session was denied, rows of an import were refused, or a replica contradicts the database or another one.
    Denied,
    /// The command line, the input, or a field of the request is wrong.
    Usage,
    /// There is no such thing, something is there already, or its state does not allow the change.
    Precondition,
    /// The service gave no answer now; later it may.
    Unavailable,
    /// The caller may not do this.
    NotAllowed,
    /// Anything else.
    Unexpected,
}

/// The table for `--help`.
pub(crate) const EXIT_CODES_HELP: &str = "\
Exit codes:
  0   done; validate, session validate, session bind: VALID; key check: nobody contradicts
  1   the key or session was denied; key import: rows were refused; key check: a replica contradicts
  2   wrong usage, wrong input, or the service found a field invalid
  3   not found, already exists, or not possible in the present state
  4   the service cannot be reached, is overloaded, or gave no answer in time; key check: a replica, or the database, gave none
  5   not allowed
  70  anything unexpected";

impl Exit {
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Denied => 1,
            Self::Usage => 2,
            Self::Precondition => 3,
            Self::Unavailable => 4,
            Self::NotAllowed => 5,
            Self::Unexpected => 70,
        }
    }
}

impl From<&Error> for Exit {
    fn from(error: &Error) -> Self {
        match error {
            Error::Setup { .. } | Error::Invalid { .. } => Self::Usage,
            Error::NotFound { .. } | Error::AlreadyExists { .. } | Error::FailedPrecondition { .. } => {
                Self::Precondition
            }
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
            Exit::Unexpected,
        ];
        for exit in every {
            assert!(EXIT_CODES_HELP.contains(&format!("\n  {:<4}", exit.code())), "{exit:?}");
        }
    }
}
