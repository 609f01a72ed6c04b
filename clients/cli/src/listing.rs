//! Lists that are written page by page, so that a long list needs no more memory than one page.

use tenant_auth_client::Error;

use crate::{
    args::Limit,
    exit::Exit,
    failure::{Failure, FieldNames},
    output::{Item, Output},
    retry::with_retries,
};

/// Maximum items of one page that the service returns.
const MAX_ITEMS_PER_PAGE: usize = 500;

/// Prints a list. `page` takes a page size and a token, and returns a page and the token of the next one. A
/// page is written before the next one is requested. A reader that closes the pipe ends the list.
///
/// The first page is requested once. Later pages are retried, because part of the list was already written.
pub(crate) async fn print_list<V: Item>(
    output: Output,
    limit: Limit,
    names: FieldNames,
    mut page: impl AsyncFnMut(i32, String) -> Result<(Vec<V>, String), Error>,
) -> Result<Exit, Failure> {
    let broken =
        |error: serde_json::Error| Failure::Unexpected(format!("cannot write the result as JSON: {error}"));
    let mut text = output.list::<V>();
    let (mut listed, mut token) = (0, String::new());
    loop {
        let size = limit
            .max_items()
            .map_or(MAX_ITEMS_PER_PAGE, |cap| cap.saturating_sub(listed).min(MAX_ITEMS_PER_PAGE));
        let size = i32::try_from(size).unwrap_or(i32::MAX);
        let response = match listed {
            0 => page(size, token).await,
            _ => with_retries(async || page(size, token.clone()).await).await,
        };
        let (items, next) = response.map_err(Failure::from_service(names))?;
        listed += items.len();
        token = next;
        if !output.write_chunk(text.page(&items).map_err(broken)?).await? {
            return Ok(Exit::Done);
        }
        if token.is_empty() || limit.max_items().is_some_and(|cap| listed >= cap) {
            break;
        }
    }
    let more = !token.is_empty();
    if output.write_chunk(text.end(more).map_err(broken)?).await? && more {
        output.advise("the list is longer: use --all to list everything");
    }
    Ok(Exit::Done)
}
