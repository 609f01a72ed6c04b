//! Captures the service's log for tests that read it.

use std::{
    collections::BTreeSet,
    fmt,
    io::{self, Write},
    sync::{Arc, LazyLock, Mutex},
    time::Duration,
};

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, SeqAccess, Visitor},
};
use tenant_auth_svc::{
    config::{LogConfig, LogFormat},
    domain::clock::SystemClock,
    telemetry::logging,
};
use tracing_subscriber::{EnvFilter, layer::SubscriberExt as _, reload};

/// The log of this process, shared by all tests: a per-thread log would miss events of code that another
/// thread ran first. Each test therefore searches for lines that only it can have caused.
static LOG: LazyLock<(TestLog, FilterSetter)> = LazyLock::new(|| {
    let captured = TestLog::default();
    let config =
        LogConfig { filter: "trace".to_owned(), format: LogFormat::Json, colours: false, burst: None };
    let writer = captured.clone();
    let (subscriber, _) = logging::subscriber(&config, SystemClock::shared(), move || writer.clone());
    let (filter, handle) = reload::Layer::new(EnvFilter::new(FILTER_WITHOUT_FRAMES));
    tracing::subscriber::set_global_default(subscriber.with(filter)).unwrap();
    (captured, Box::new(move |filter| handle.reload(EnvFilter::new(filter)).unwrap()))
});

type FilterSetter = Box<dyn Fn(&str) + Send + Sync>;

/// Everything except single HTTP/2 frames, which would be almost all lines of a test run (ten million).
const FILTER_WITHOUT_FRAMES: &str = "trace,h2=info";

/// Enables logging of HTTP/2 frames until it is dropped.
pub(crate) struct FrameLogging;

impl Drop for FrameLogging {
    fn drop(&mut self) {
        LOG.1(FILTER_WITHOUT_FRAMES);
    }
}

/// A JSON value in which no object has a duplicate name.
pub(crate) struct StrictJson;

impl<'de> Deserialize<'de> for StrictJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for StrictJson {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<Self, A::Error> {
        while all.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut all: A) -> Result<Self, A::Error> {
        let mut names = BTreeSet::new();
        while let Some((name, Self)) = all.next_entry::<String, Self>()? {
            if names.contains(&name) {
                return Err(A::Error::custom(format!("duplicate field {name}")));
            }
            names.insert(name);
        }
        Ok(self)
    }
}

/// An in-memory log with one line of JSON per event.
#[derive(Clone, Default)]
pub(crate) struct TestLog(Arc<Mutex<Vec<u8>>>);

impl TestLog {
    /// Returns the shared log, and installs it on first use.
    pub(crate) fn shared() -> &'static Self {
        &LOG.0
    }

    /// Enables logging of each HTTP/2 frame as well.
    pub(crate) fn with_frames() -> FrameLogging {
        LOG.1("trace");
        FrameLogging
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }

    /// Waits for at least `count` matching lines. The access log line of a request is written after its
    /// response is sent, so the caller may have read the response before the line exists.
    pub(crate) async fn lines(&self, count: usize, is_wanted: impl Fn(&str) -> bool) -> Vec<String> {
        let lines =
            || -> Vec<_> { self.text().lines().filter(|line| is_wanted(line)).map(str::to_owned).collect() };
        let waiting = async {
            while lines().len() < count {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        // After the timeout, the test fails with the lines that exist.
        let _ = tokio::time::timeout(Duration::from_secs(30), waiting).await;
        lines()
    }
}

impl Write for TestLog {
    /// Aborts the process at a line that a log collector would reject or misread, whichever test caused it.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let full_line = bytes.strip_suffix(b"\n").ok_or("the line has no line break".to_owned());
        let read = full_line.and_then(|line| serde_json::from_slice(line).map_err(|error| error.to_string()));
        if let Err(error) = read.map(|StrictJson| ()) {
            // Written directly to stderr: the test harness captures macro output, which would be lost in an
            // abort.
            let line = String::from_utf8_lossy(bytes);
            let _ = writeln!(io::stderr(), "invalid log line: {error}: {line}");
            std::process::exit(101);
        }
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
