//! Handles with the real service.

use std::time::Duration;

use tenant_auth_client::{Error, HandleError, McpHandles, PresentedKey};

use super::{Shop, call, post};

#[tokio::test]
async fn handle_is_known_only_to_keys_of_its_tenant_and_for_its_kind() {
    let shop = Shop::open().await;
    let handles = McpHandles::new(shop.service.client.clone());
    let (reader, writer) = (shop.principal(&shop.reader).await, shop.principal(&shop.writer).await);
    let foreign = shop.principal(&shop.foreign).await;
    let cart = handles.mint(&reader, "cart").await.unwrap();
    assert!(cart.starts_with("cart_") && cart.len() == "cart_".len() + 43, "{cart}");
    assert_ne!(handles.mint(&reader, "cart").await.unwrap(), cart);
    assert_eq!(handles.require(&reader, &cart, "cart").await, Ok(()));
    assert_eq!(handles.require(&writer, &cart, "cart").await, Ok(()));

    // All of these are one and the same answer.
    let never_minted = format!("cart_{}", "A".repeat(43));
    let renamed = cart.replacen("cart", "order", 1);
    for (principal, handle, kind) in [
        (&foreign, cart.as_str(), "cart"),
        (&reader, &renamed, "order"),
        (&reader, &cart, "order"),
        (&reader, &never_minted, "cart"),
        (&reader, "cart_1", "cart"),
        (&reader, "", ""),
    ] {
        let error = handles.require(principal, handle, kind).await.unwrap_err();
        assert_eq!(
            (&error, error.to_string().as_str()),
            (&HandleError::Unknown, "unknown handle"),
            "{handle}"
        );
    }
    assert_eq!(handles.release(&foreign, &cart, "cart").await, Ok(false));
    assert_eq!(handles.release(&writer, &cart, "cart").await, Ok(true));
    assert_eq!(handles.release(&writer, &cart, "cart").await, Ok(false));
    assert_eq!(handles.require(&reader, &cart, "cart").await, Err(HandleError::Unknown));
}

#[tokio::test]
async fn handle_is_never_a_session() {
    let shop = Shop::open().await;
    let handles = McpHandles::new(shop.service.client.clone());
    let cart = handles.mint(&shop.principal(&shop.reader).await, "cart").await.unwrap();
    let session_id = format!("mcp-handle:{cart}");
    // It is bound, but the layer does not look.
    let session = shop.service.client.validate_session(&session_id, Some(&shop.reader), &[]).await.unwrap();
    assert!(session.is_valid());
    let response =
        shop.send(post(&shop.reader, &[("mcp-session-id", &session_id)], &call("list_orders"))).await;
    assert_eq!(response.status(), 404);
}

#[tokio::test]
async fn undecided_handle_is_not_unknown_and_bad_settings_are_errors() {
    let shop = Shop::open().await;
    let client = shop.service.client.with_timeout(Duration::from_secs(1)).unwrap();
    let handles = McpHandles::new(client.clone());
    for seconds in [59, 86_401] {
        let refused = handles.clone().ttl(Duration::from_secs(seconds)).unwrap_err();
        assert!(refused.to_string().contains("McpHandles::ttl"), "{refused}");
    }
    let principal = shop.principal(&shop.reader).await;
    for kind in ["", "Cart", "a b", &"a".repeat(65)] {
        let refused = handles.mint(&principal, kind).await.unwrap_err();
        assert!(refused.to_string().starts_with("kind: "), "{refused}");
    }
    let bare = client.require(&PresentedKey::new(shop.reader.expose()), &[]).await.unwrap();
    let refused = handles.mint(&bare, "cart").await.unwrap_err();
    assert!(matches!(&refused, HandleError::Undecided(Error::Setup { .. })), "{refused:?}");

    let (one, two) =
        (handles.mint(&principal, "a").await.unwrap(), handles.mint(&principal, "b").await.unwrap());
    assert_eq!(handles.require(&principal, &one, "a").await, Ok(()));
    shop.service.running.stop().await;
    let undecided = handles.require(&principal, &two, "b").await.unwrap_err();
    assert!(matches!(undecided, HandleError::Undecided(_)), "{undecided:?}");
}
