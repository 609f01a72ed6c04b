//! The signals that ask the service to stop, or to look at its files.

#[cfg(unix)]
use tokio::signal::unix::Signal;
#[cfg(unix)]
use tokio::signal::unix::SignalKind;
#[cfg(unix)]
use tokio::signal::unix::signal;

/// SIGTERM and SIGINT, heard from the moment this is made: none is lost between two waits.
pub(super) struct StopSignals {
    #[cfg(unix)]
    terminate: Option<Signal>,
    #[cfg(unix)]
    interrupt: Option<Signal>,
}

#[cfg(unix)]
impl StopSignals {
    /// Listens from now on.
    pub(super) fn listen() -> Self {
        let listen = |kind: SignalKind| {
            let unheard = |error: &_| tracing::warn!(?kind, %error, "a signal to stop cannot be heard");
            signal(kind).inspect_err(unheard).ok()
        };
        Self { terminate: listen(SignalKind::terminate()), interrupt: listen(SignalKind::interrupt()) }
    }

    /// Waits for the next one, and gives its name.
    pub(super) async fn next(&mut self) -> &'static str {
        tokio::select! {
            () = wait_for_signal(&mut self.terminate) => "SIGTERM",
            () = wait_for_signal(&mut self.interrupt) => "SIGINT",
        }
    }
}

/// SIGHUP, which has files read anew.
pub(super) struct HangupSignal(#[cfg(unix)] Option<Signal>);

impl HangupSignal {
    /// Listens from now on; without this, the signal would end the process.
    #[cfg(unix)]
    pub(super) fn listen() -> Self {
        let unheard = |error: &_| tracing::warn!(%error, "SIGHUP cannot be heard");
        Self(signal(SignalKind::hangup()).inspect_err(unheard).ok())
    }

    /// There is no such signal here.
    #[cfg(not(unix))]
    pub(super) fn listen() -> Self {
        Self()
    }

    /// Waits for the next one.
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
        // It never ends before the process does.
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

#[cfg(not(unix))]
impl StopSignals {
    /// Listens from now on.
    pub(super) fn listen() -> Self {
        Self {}
    }

    /// Waits for the next one, and gives its name.
    pub(super) async fn next(&mut self) -> &'static str {
        if let Err(error) = tokio::signal::ctrl_c().await {
            tracing::warn!(%error, "the signal to stop cannot be heard");
            std::future::pending::<()>().await;
        }
        "interrupt"
    }
}
