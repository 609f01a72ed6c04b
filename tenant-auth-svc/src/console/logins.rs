//! Who is logged in, in the memory of this replica.
//!
//! A login keeps the hash of the caller's token, never the token: each request looks the caller up again, so a caller that is
//! removed from the callers file is logged out with its next request.

use std::{
    collections::HashMap,
    fmt,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::domain::{access::TokenHash, clock::SharedClock};

/// A login without a request ends after this time.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(30 * 60);
/// A login ends after this time, however much it is used: a working day.
pub(super) const MAX_AGE: Duration = Duration::from_secs(12 * 60 * 60);
/// The maximum number of logins. The one that was idle for longest makes room.
const MAX_LOGINS: usize = 1_000;
/// The size of the random ids, in bytes.
const ID_BYTES: usize = 32;

/// An id of a login, as the cookie has it. Whoever has it is logged in.
pub(super) type LoginId = Zeroizing<String>;

/// A login.
#[derive(Clone)]
pub(super) struct Login {
    /// The hash of the caller's token.
    pub(super) token: TokenHash,
    /// What each form of the login contains, so that no other site can send one.
    pub(super) form_token: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").finish_non_exhaustive()
    }
}

struct KnownLogin {
    login: Login,
    began_at: Duration,
    used_at: Duration,
}

/// The logins, by the hash of their ids: what a memory dump shows logs nobody in.
pub(super) struct Logins {
    clock: SharedClock,
    known: Mutex<HashMap<[u8; 32], KnownLogin>>,
}

impl Logins {
    pub(super) fn new(clock: SharedClock) -> Self {
        Self { clock, known: Mutex::default() }
    }

    /// Logs a caller in. `None` if the operating system has no randomness.
    pub(super) fn begin(&self, token: TokenHash) -> Option<LoginId> {
        let (id, form_token) = (random_id()?, random_id()?);
        let now = self.clock.monotonic();
        let login = Login { token, form_token: form_token.to_string() };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, login| login.is_current(now));
        while known.len() >= MAX_LOGINS {
            let Some(idle) = known.iter().min_by_key(|(_, login)| login.used_at).map(|(id, _)| *id) else {
                break;
            };
            known.remove(&idle);
        }
        known.insert(hash(&id), KnownLogin { login, began_at: now, used_at: now });
        Some(id)
    }

    /// Returns the login with this id, if it has not ended, and counts as its use.
    pub(super) fn find(&self, id: &str) -> Option<Login> {
        let now = self.clock.monotonic();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let login = known.get_mut(&hash(id)).filter(|login| login.is_current(now))?;
        login.used_at = now;
        Some(login.login.clone())
    }

    /// Returns whose login this is, if it has not ended. It does not count as a use: a page that is left open on a screen must
    /// not keep the login of a person that has left.
    pub(super) fn peek(&self, id: &str) -> Option<TokenHash> {
        let now = self.clock.monotonic();
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&hash(id)).filter(|login| login.is_current(now)).map(|login| login.login.token)
    }

    /// Ends a login.
    pub(super) fn end(&self, id: &str) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(&hash(id));
    }
}

impl KnownLogin {
    fn is_current(&self, now: Duration) -> bool {
        now.saturating_sub(self.used_at) < IDLE_TIMEOUT && now.saturating_sub(self.began_at) < MAX_AGE
    }
}

fn hash(id: &str) -> [u8; 32] {
    Sha256::digest(id.as_bytes()).into()
}

/// Returns 256 random bits in hexadecimal.
pub(super) fn random_id() -> Option<LoginId> {
    let mut bytes = Zeroizing::new([0; ID_BYTES]);
    getrandom::fill(bytes.as_mut()).ok()?;
    Some(Zeroizing::new(hex::encode(*bytes)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::domain::clock::{ManualClock, UnixMillis};

    fn logins() -> (Arc<ManualClock>, Logins) {
        let clock = ManualClock::at(UnixMillis(0));
        (Arc::clone(&clock), Logins::new(clock))
    }

    #[test]
    fn idle_login_ends_and_a_used_one_ends_after_a_day() {
        let (clock, logins) = logins();
        let id = logins.begin(TokenHash::of("token")).unwrap();
        clock.advance(IDLE_TIMEOUT - Duration::from_secs(1));
        assert_eq!(logins.find(&id).unwrap().token, TokenHash::of("token"));
        clock.advance(IDLE_TIMEOUT);
        assert!(logins.find(&id).is_none());

        let id = logins.begin(TokenHash::of("token")).unwrap();
        for _ in 0..MAX_AGE.as_secs() / 600 - 1 {
            clock.advance(Duration::from_secs(600));
            assert!(logins.find(&id).is_some());
        }
        clock.advance(Duration::from_secs(600));
        assert!(logins.find(&id).is_none());
    }

    #[test]
    fn looking_at_a_login_is_no_use_of_it() {
        let (clock, logins) = logins();
        let id = logins.begin(TokenHash::of("token")).unwrap();
        clock.advance(IDLE_TIMEOUT - Duration::from_secs(1));
        assert_eq!(logins.peek(&id), Some(TokenHash::of("token")));
        clock.advance(Duration::from_secs(1));
        assert_eq!(logins.peek(&id), None);
    }

    #[test]
    fn ended_login_is_unknown() {
        let (_, logins) = logins();
        let id = logins.begin(TokenHash::of("token")).unwrap();
        logins.end(&id);
        assert!(logins.find(&id).is_none());
    }

    #[test]
    fn logins_are_bounded() {
        let (clock, logins) = logins();
        let first = logins.begin(TokenHash::of("token")).unwrap();
        clock.advance(Duration::from_secs(1));
        let second = logins.begin(TokenHash::of("token")).unwrap();
        for _ in 0..MAX_LOGINS - 1 {
            logins.begin(TokenHash::of("token")).unwrap();
        }
        assert!(logins.find(&first).is_none());
        assert!(logins.find(&second).is_some());
    }
}
