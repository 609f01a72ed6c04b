//! `caller-token`: a token for a service that calls.

use std::process::ExitCode;

use base64::Engine as _;
use zeroize::Zeroizing;

use super::{fail, print_line};
use crate::domain::access::TokenHash;

/// What tokens of callers start with, so that scanners for secrets find them.
const TOKEN_PREFIX: &str = "tac_";

pub(super) fn run() -> ExitCode {
    let mut secret = Zeroizing::new([0_u8; 32]);
    if let Err(error) = getrandom::fill(&mut *secret) {
        return fail(1, &format!("the operating system gives no random numbers: {error}"));
    }
    let encoded = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(*secret);
    let token = Zeroizing::new(format!("{TOKEN_PREFIX}{encoded}"));
    let hash = TokenHash::of(&token);
    print_line(&format!(
        "token, for the caller (it is shown only now):\n  {}\n\nhash, for token_sha256 in the callers file:\n  {hash}",
        *token
    ));
    ExitCode::SUCCESS
}
