//! How status codes are spelled: in metrics as Go spells them, everywhere else as the specification of gRPC does.

use tonic::Code;

/// How many codes there are.
pub const CODE_COUNT: usize = NAMES.len();

/// By number: Go's spelling, and the canonical one.
const NAMES: [(&str, &str); 17] = [
    ("OK", "OK"),
    ("Canceled", "CANCELLED"),
    ("Unknown", "UNKNOWN"),
    ("InvalidArgument", "INVALID_ARGUMENT"),
    ("DeadlineExceeded", "DEADLINE_EXCEEDED"),
    ("NotFound", "NOT_FOUND"),
    ("AlreadyExists", "ALREADY_EXISTS"),
    ("PermissionDenied", "PERMISSION_DENIED"),
    ("ResourceExhausted", "RESOURCE_EXHAUSTED"),
    ("FailedPrecondition", "FAILED_PRECONDITION"),
    ("Aborted", "ABORTED"),
    ("OutOfRange", "OUT_OF_RANGE"),
    ("Unimplemented", "UNIMPLEMENTED"),
    ("Internal", "INTERNAL"),
    ("Unavailable", "UNAVAILABLE"),
    ("DataLoss", "DATA_LOSS"),
    ("Unauthenticated", "UNAUTHENTICATED"),
];

/// All codes, by number.
pub fn all_codes() -> impl Iterator<Item = Code> {
    (0_i32..).take(CODE_COUNT).map(Code::from_i32)
}

/// Go's spelling, which the metrics of other gRPC servers have: `InvalidArgument`.
#[must_use]
pub fn go_name(code: Code) -> &'static str {
    NAMES.get(code as usize).map_or("Unknown", |names| names.0)
}

/// The canonical spelling, which OpenTelemetry has: `INVALID_ARGUMENT`.
#[must_use]
pub fn canonical_name(code: Code) -> &'static str {
    NAMES.get(code as usize).map_or("UNKNOWN", |names| names.1)
}

/// Whether a code is an error of the server rather than of the caller, by the OpenTelemetry conventions for gRPC servers.
#[must_use]
pub fn is_server_error(code: Code) -> bool {
    match code {
        Code::Unknown
        | Code::DeadlineExceeded
        | Code::Unimplemented
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => true,
        Code::Ok
        | Code::Cancelled
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unauthenticated => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_names_are_ordered_by_number() {
        for code in all_codes() {
            let plain = format!("{code:?}").to_uppercase();
            assert_eq!(plain, canonical_name(code).replace('_', ""));
            assert_eq!(plain.replace("CANCELLED", "CANCELED"), go_name(code).to_uppercase());
        }
    }
}
