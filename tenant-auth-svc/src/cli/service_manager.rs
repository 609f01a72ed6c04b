//! Reports the state of this process to a service manager such as systemd, over the socket in `NOTIFY_SOCKET`.
//! Without `NOTIFY_SOCKET` nothing is sent.
//!
//! READY means that the service accepts requests, not that it has reached the database: the service waits for a
//! database that is unavailable at startup, and must not be restarted because of it. The status text says what it
//! waits for.

#[cfg(unix)]
use sd_notify::NotifyState;

use crate::ops::status::FileStatus;

const WAITING_STATUS: &str = "serving; the database has not been reached yet";
const READY_STATUS: &str = "serving; ready";

/// Reports that requests are accepted.
pub(super) fn notify_serving() {
    #[cfg(unix)]
    notify(&[NotifyState::Ready, NotifyState::Status(WAITING_STATUS)]);
}

/// Reports that the database was reached and its schema is valid.
pub(super) fn notify_ready() {
    #[cfg(unix)]
    notify(&[NotifyState::Status(READY_STATUS)]);
}

/// Reports that files are being reloaded.
pub(super) fn notify_reloading() {
    #[cfg(unix)]
    match NotifyState::monotonic_usec_now() {
        // systemd matches reloads by this timestamp, and requires it from version 253 on.
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!(%error, "cannot notify the service manager of a reload"),
    }
}

/// Reports that files were reloaded, and which of them were refused. `None` means that the reload itself failed.
pub(super) fn notify_reloaded(files: Option<FileStatus>) {
    let status = reload_status(files);
    #[cfg(unix)]
    notify(&[NotifyState::Ready, NotifyState::Status(&status)]);
}

/// Reports that the service stops.
pub(super) fn notify_stopping() {
    #[cfg(unix)]
    notify(&[NotifyState::Stopping, NotifyState::Status("stopping; draining in-flight requests")]);
}

fn reload_status(files: Option<FileStatus>) -> String {
    let Some(files) = files else { return "serving; reload failed".to_owned() };
    let FileStatus {
        callers_refused,
        certificates_refused,
        deny_list_refused,
        signing_keys_refused,
        database_token_refused,
    } = files;
    let refused: Vec<_> = [
        ("callers", callers_refused),
        ("certificates", certificates_refused),
        ("deny list", deny_list_refused),
        ("principal keys", signing_keys_refused),
        ("database token", database_token_refused),
    ]
    .into_iter()
    .filter_map(|(name, refused)| refused.then_some(name))
    .collect();
    if refused.is_empty() {
        "serving; files reloaded".to_owned()
    } else {
        format!("serving; reload refused, previous content in effect: {}", refused.join(", "))
    }
}

#[cfg(unix)]
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "cannot notify the service manager (NOTIFY_SOCKET)");
    }
}
