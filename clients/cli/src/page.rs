//! Reads lists page by page.

use tenant_auth_client::Error;

/// What the service gives at most.
const PAGE: usize = 500;

/// A list, or its beginning.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Listing<T> {
    pub(crate) items: Vec<T>,
    /// Whether there is more than was asked for.
    pub(crate) more: bool,
}

/// Reads up to `cap` items (`None`: all) with a function that takes a page size and token and gives a page and the
/// token of the next.
pub(crate) async fn read<T>(
    cap: Option<usize>,
    mut page: impl AsyncFnMut(i32, String) -> Result<(Vec<T>, String), Error>,
) -> Result<Listing<T>, Error> {
    let mut items = Vec::new();
    let mut token = String::new();
    loop {
        let missing = cap.map_or(PAGE, |cap| cap.saturating_sub(items.len()));
        let size = i32::try_from(missing.min(PAGE)).unwrap_or(i32::MAX);
        let (next, next_token) = page(size, token).await?;
        items.extend(next);
        token = next_token;
        if token.is_empty() || cap.is_some_and(|cap| items.len() >= cap) {
            return Ok(Listing { items, more: !token.is_empty() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A service that has the numbers below `count`.
    async fn list(count: usize, cap: Option<usize>) -> (Listing<usize>, Vec<i32>) {
        let mut sizes = Vec::new();
        let listing = read(cap, async |size, token: String| {
            sizes.push(size);
            let from: usize = token.parse().unwrap_or(0);
            let to = count.min(from + usize::try_from(size).unwrap());
            let next = if to < count { to.to_string() } else { String::new() };
            Ok(((from..to).collect(), next))
        })
        .await;
        (listing.unwrap(), sizes)
    }

    #[tokio::test]
    async fn all_pages_are_read() {
        let (listing, sizes) = list(1_201, None).await;
        assert_eq!(listing, Listing { items: (0..1_201).collect(), more: false });
        assert_eq!(sizes, [500, 500, 500]);
    }

    #[tokio::test]
    async fn no_more_is_asked_for_than_wanted() {
        let (listing, sizes) = list(1_201, Some(600)).await;
        assert_eq!(listing, Listing { items: (0..600).collect(), more: true });
        assert_eq!(sizes, [500, 100]);
        let (listing, _) = list(5, Some(5)).await;
        assert!(!listing.more);
    }
}
