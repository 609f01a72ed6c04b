//! `caller-token`: generates a token for a calling service.

use std::process::ExitCode;

use base64::Engine as _;
use zeroize::Zeroizing;

use super::{fail, print_line};
use crate::domain::access::TokenHash;

/// Prefix of caller tokens, so that secret scanners find them.
const TOKEN_PREFIX: &str = "tac_";

pub(super) fn run() -> ExitCode {
    let mut secret = Zeroizing::new([0_u8; 32]);
    if let Err(error) = getrandom::fill(&mut *secret) {
        return fail(1, &format!("cannot read random numbers from the operating system: {error}"));
    }
    let encoded = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(*secret);
    let token = Zeroizing::new(format!("{TOKEN_PREFIX}{encoded}"));
    let hash = TokenHash::of(&token);
    print_line(&format!(
        "token, for the caller (shown only once):\n  {}\n\nhash, for token_sha256 in the callers file:\n  {hash}",
        *token
    ));
    ExitCode::SUCCESS
}
