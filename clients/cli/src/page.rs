//! Reads all pages of a list.

use tenant_auth_client::Error;

/// Maximum items of one page that the service returns.
const ITEMS_PER_PAGE: i32 = 500;

/// Reads all items. `page` takes a page size and a token, and returns a page and the token of the next one.
pub(crate) async fn read_all_pages<T>(
    mut page: impl AsyncFnMut(i32, String) -> Result<(Vec<T>, String), Error>,
) -> Result<Vec<T>, Error> {
    let mut items = Vec::new();
    let mut token = String::new();
    loop {
        let (next, next_token) = page(ITEMS_PER_PAGE, token).await?;
        items.extend(next);
        token = next_token;
        if token.is_empty() {
            return Ok(items);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_pages_are_read() {
        let mut pages = 0;
        let items = read_all_pages(async |size, token: String| {
            pages += 1;
            let from: i32 = token.parse().unwrap_or(0);
            let to = (from + size).min(1_201);
            let next = if to < 1_201 { to.to_string() } else { String::new() };
            Ok(((from..to).collect(), next))
        });
        assert_eq!(items.await.unwrap(), (0..1_201).collect::<Vec<i32>>());
        assert_eq!(pages, 3);
    }
}
