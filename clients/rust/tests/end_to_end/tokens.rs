//! Callers that authenticate with tokens.

use std::{
    fs,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use sha2::{Digest as _, Sha256};
use tenant_auth_client::{CallerToken, Client, Error};

use crate::harness::{Stopped, WAIT_TIMEOUT};

#[tokio::test]
async fn tokens_are_read_from_text_file_and_function() {
    let folder = tempfile::tempdir().unwrap();
    let (callers, file) = (folder.path().join("callers.toml"), folder.path().join("token"));
    let token = "tac_0123456789abcdefghijklmnop";
    let hash = hex::encode(Sha256::digest(token));
    let list = format!("[[caller]]\nname = 'api'\nroles = ['validator']\ntoken_sha256 = ['{hash}']\n");
    fs::write(&callers, list).unwrap();
    fs::write(&file, format!("\u{feff}{token}\r\n")).unwrap();
    let callers = callers.display().to_string();
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    let (running, _folder) =
        Stopped::new(address).start_with(&[("TENANT_AUTH_CALLERS_FILE", &callers)]).await;
    let client = |token: Option<CallerToken>| {
        let builder =
            Client::builder(running.address().to_string()).timeout(WAIT_TIMEOUT).without_near_cache();
        token.into_iter().fold(builder, |builder, token| builder.caller_token(token)).connect_lazy().unwrap()
    };
    let is_ready = Arc::new(AtomicBool::new(false));
    let token_function = {
        let is_ready = Arc::clone(&is_ready);
        move || {
            if is_ready.load(Ordering::Relaxed) { Ok(format!("{token}\n")) } else { Err("not yet".into()) }
        }
    };
    for known in
        [CallerToken::fixed(token), CallerToken::fixed(format!(" {token}\n")), CallerToken::file(&file)]
    {
        client(Some(known)).server_info().await.unwrap();
    }
    let client_without_token = client(Some(CallerToken::function(token_function)));
    assert!(matches!(client_without_token.server_info().await, Err(Error::NoCallerToken { .. })));
    is_ready.store(true, Ordering::Relaxed);
    client_without_token.server_info().await.unwrap();
    for unknown in [None, Some(CallerToken::fixed("tac_another"))] {
        let error = client(unknown).server_info().await.unwrap_err();
        assert!(matches!(error, Error::Unauthenticated { .. }), "{error:?}");
    }
}
