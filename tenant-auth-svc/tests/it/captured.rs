//! What the service logs, for tests that read it.

use std::{
    io::{self, Write},
    sync::{Arc, LazyLock, Mutex},
};

use tenant_auth_svc::{
    config::{LogConfig, LogFormat},
    telemetry::logging,
};

/// The log of this process. There is one for all tests, because a log for one thread alone misses what another thread
/// happened to run first. So a test looks for what only it can have caused.
static LOG: LazyLock<Captured> = LazyLock::new(|| {
    let captured = Captured::default();
    let config = LogConfig { filter: "trace".to_owned(), format: LogFormat::Json };
    let writer = captured.clone();
    tracing::subscriber::set_global_default(logging::subscriber(&config, move || writer.clone())).unwrap();
    captured
});

/// A log in memory, one line of JSON per event.
#[derive(Clone, Default)]
pub(crate) struct Captured(Arc<Mutex<Vec<u8>>>);

impl Captured {
    /// Listens from now on, if nobody did before.
    pub(crate) fn log() -> &'static Self {
        &LOG
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
