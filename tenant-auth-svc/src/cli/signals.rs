//! The signals that stop the service or reload its files.

#[cfg(unix)]
use tokio::signal::unix::Signal;
#[cfg(unix)]
use tokio::signal::unix::SignalKind;
#[cfg(unix)]
use tokio::signal::unix::signal;

/// SIGTERM and SIGINT, received from creation on: no signal is lost between two waits.
pub(super) struct StopSignals {
    #[cfg(unix)]
    terminate: Option<Signal>,
    #[cfg(unix)]
    interrupt: Option<Signal>,
}

#[cfg(unix)]
impl StopSignals {
    /// Starts to listen.
    pub(super) fn listen() -> Self {
        let listen = |kind: SignalKind| {
            let log_failure = |error: &_| tracing::warn!(?kind, %error, "cannot listen for a stop signal");
            signal(kind).inspect_err(log_failure).ok()
        };
        Self { terminate: listen(SignalKind::terminate()), interrupt: listen(SignalKind::interrupt()) }
    }

    /// Waits for the next signal and returns its name.
    pub(super) async fn next(&mut self) -> &'static str {
        tokio::select! {
            () = wait_for_signal(&mut self.terminate) => "SIGTERM",
            () = wait_for_signal(&mut self.interrupt) => "SIGINT",
        }
    }
}

/// SIGHUP, which reloads files.
pub(super) struct HangupSignal(#[cfg(unix)] Option<Signal>);

impl HangupSignal {
    /// Starts to listen. Without a listener the signal ends the process.
    #[cfg(unix)]
    pub(super) fn listen() -> Self {
        let log_failure = |error: &_| tracing::warn!(%error, "cannot listen for SIGHUP");
        Self(signal(SignalKind::hangup()).inspect_err(log_failure).ok())
    }

    /// SIGHUP does not exist on this platform.
    #[cfg(not(unix))]
    pub(super) fn listen() -> Self {
        Self()
    }

    /// Waits for the next signal.
    pub(super) async fn next(&mut self) {
        #[cfg(unix)]
        wait_for_signal(&mut self.0).await;
        #[cfg(not(unix))]
        std::future::pending::<()>().await;
    }
}

#[cfg(unix)]
async fn wait_for_signal(signal: &mut Option<Signal>) {
    match signal {
        // `recv` returns `None` only when the process ends.
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

#[cfg(not(unix))]
impl StopSignals {
    /// Starts to listen.
    pub(super) fn listen() -> Self {
        Self {}
    }

    /// Waits for the next signal and returns its name.
    pub(super) async fn next(&mut self) -> &'static str {
        if let Err(error) = tokio::signal::ctrl_c().await {
            tracing::warn!(%error, "cannot listen for a stop signal");
            std::future::pending::<()>().await;
        }
        "interrupt"
    }
}
