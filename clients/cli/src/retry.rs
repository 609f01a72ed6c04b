//! Retries of calls that can be repeated without harm.

use std::time::Duration;

use tenant_auth_client::Error;

/// Delays before the second, third, … attempt, unless the service sends a time.
const RETRY_DELAYS: [Duration; 4] =
    [Duration::from_millis(250), Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2)];
/// The maximum delay: if the service asks for a longer one, the user should run the command again later.
const MAX_RETRY_DELAY: Duration = Duration::from_secs(5);

/// Calls until there is a response, a permanent error, or no attempt left.
pub(crate) async fn with_retries<T>(mut call: impl AsyncFnMut() -> Result<T, Error>) -> Result<T, Error> {
    for delay in RETRY_DELAYS {
        match call().await {
            Err(error) if error.is_transient() => {
                let delay = error.retry_after().unwrap_or(delay).min(MAX_RETRY_DELAY);
                tokio::time::sleep(delay).await;
            }
            outcome => return outcome,
        }
    }
    call().await
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn tries(error: impl Fn() -> Error, succeeds_at: u32) -> (u32, bool) {
        let mut count = 0;
        let outcome = with_retries(async || {
            count += 1;
            if count == succeeds_at { Ok(()) } else { Err(error()) }
        })
        .await;
        (count, outcome.is_ok())
    }

    #[tokio::test(start_paused = true)]
    async fn transient_command_error_is_retried_with_limit() {
        assert_eq!(tries(|| Error::DeadlineExceeded, 1).await, (1, true));
        assert_eq!(tries(|| Error::DeadlineExceeded, 3).await, (3, true));
        assert_eq!(tries(|| Error::DeadlineExceeded, 99).await, (5, false));
    }

    #[tokio::test(start_paused = true)]
    async fn permanent_command_error_is_not_retried() {
        let denied = || Error::PermissionDenied { message: String::new() };
        assert_eq!(tries(denied, 99).await, (1, false));
    }

    #[tokio::test(start_paused = true)]
    async fn retry_after_sets_the_delay_up_to_the_maximum() {
        let started = tokio::time::Instant::now();
        let error =
            || Error::Overloaded { message: String::new(), retry_after: Some(Duration::from_secs(60)) };
        tries(error, 2).await;
        assert_eq!(started.elapsed(), MAX_RETRY_DELAY);
    }
}
