//! Lists that are written page by page, so that their length costs no memory.

use tenant_auth_client::Error;

use crate::{
    args::Limit,
    exit::Exit,
    failure::{Failure, FieldNames},
    output::{Item, Output},
    retry::with_retries,
};

/// What the service gives at most.
const MAX_ITEMS_PER_PAGE: usize = 500;

/// Lists what a function gives, which takes a page size and token and gives a page and the token of the next. A page is written before
/// the next one is asked for; a reader that goes away ends the list.
///
/// The first page is asked for once. For a later one the service is asked again if it gives no answer: what was written is worth more.
pub(crate) async fn print_list<V: Item>(
    output: Output,
    limit: Limit,
    names: FieldNames,
    mut page: impl AsyncFnMut(i32, String) -> Result<(Vec<V>, String), Error>,
) -> Result<Exit, Failure> {
    let broken = |error: serde_json::Error| Failure::Unexpected(format!("the result is no JSON: {error}"));
    let mut text = output.list::<V>();
    let (mut listed, mut token) = (0, String::new());
    loop {
        let size = limit
            .max_items()
            .map_or(MAX_ITEMS_PER_PAGE, |cap| cap.saturating_sub(listed).min(MAX_ITEMS_PER_PAGE));
        let size = i32::try_from(size).unwrap_or(i32::MAX);
        let answer = match listed {
            0 => page(size, token).await,
            _ => with_retries(async || page(size, token.clone()).await).await,
        };
        let (items, next) = answer.map_err(Failure::from_service(names))?;
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
    if output.write_chunk(text.end(more)).await? && more {
        output.advise("there is more: --all lists everything");
    }
    Ok(Exit::Done)
}
