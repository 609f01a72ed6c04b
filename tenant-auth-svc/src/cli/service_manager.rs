//! What a service manager such as systemd is told of this process, over the socket that it names in `NOTIFY_SOCKET`. Where it names
//! none, nothing is sent.
//!
//! READY means that requests are taken, not that the database was reached: a database that is away at the start is waited for, and
//! must not have the service restarted. What it waits for is in the status text.

#[cfg(unix)]
use sd_notify::NotifyState;

use crate::ops::status::FileStatus;

const WAITING_STATUS: &str = "serving; the database has not been reached yet";
const READY_STATUS: &str = "serving; ready";

/// Requests are taken.
pub(super) fn notify_serving() {
    #[cfg(unix)]
    notify(&[NotifyState::Ready, NotifyState::Status(WAITING_STATUS)]);
}

/// The database was reached, and its schema found right.
pub(super) fn notify_ready() {
    #[cfg(unix)]
    notify(&[NotifyState::Status(READY_STATUS)]);
}

/// Files are read anew.
pub(super) fn notify_reloading() {
    #[cfg(unix)]
    match NotifyState::monotonic_usec_now() {
        // systemd tells by it which of several reloads this is, and from version 253 on insists on it.
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!(%error, "the service manager was not told of a reload"),
    }
}

/// Files were read anew: what of them could not be put in force, or nothing where the reading itself failed.
pub(super) fn notify_reloaded(files: Option<FileStatus>) {
    let status = reload_status(files);
    #[cfg(unix)]
    notify(&[NotifyState::Ready, NotifyState::Status(&status)]);
}

/// It was told to stop, or has to.
pub(super) fn notify_stopping() {
    #[cfg(unix)]
    notify(&[NotifyState::Stopping, NotifyState::Status("stopping; requests under way are answered")]);
}

fn reload_status(files: Option<FileStatus>) -> String {
    let Some(files) = files else { return "serving; files could not be read anew".to_owned() };
    let FileStatus { callers_refused, certificates_refused, deny_list_refused, database_token_refused } =
        files;
    let refused: Vec<_> = [
        ("callers", callers_refused),
        ("certificates", certificates_refused),
        ("deny list", deny_list_refused),
        ("database token", database_token_refused),
    ]
    .into_iter()
    .filter_map(|(name, refused)| refused.then_some(name))
    .collect();
    if refused.is_empty() {
        "serving; files reloaded".to_owned()
    } else {
        format!("serving; cannot be used, so the old ones are in force: {}", refused.join(", "))
    }
}

#[cfg(unix)]
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager (NOTIFY_SOCKET) cannot be told");
    }
}
