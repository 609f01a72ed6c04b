//! The replicas, and how many of them have applied a change.

use std::{net::SocketAddr, path::Path, process::Stdio, time::Duration};

use tenant_auth_proto::v1;
use tenant_auth_svc::domain::{
    access::Role,
    clock::{ManualClock, SharedClock, SystemClock},
};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    net::{TcpListener, TcpStream},
};

use crate::harness::{
    NOW, TestDatabase, TestService,
    callers::CallersFile,
    console::{Browser, token_of, with_console},
    events::{EventStream, page_until},
    http_exchange,
    pki::Authority,
    program::program,
};

/// Starts a replica whose console knows these peers.
async fn start_with_peers(
    database: &TestDatabase,
    peers: &[SocketAddr],
    token: Option<&Path>,
) -> TestService {
    let peers: Vec<_> = peers.iter().map(|peer| format!("http://{peer}")).collect();
    let settings = with_console(database.settings())
        .with_flag("TENANT_AUTH_CONSOLE_PEERS", Some(peers.join(",")))
        .with_flag("TENANT_AUTH_CONSOLE_PEERS_TOKEN_FILE", token.map(|path| path.display().to_string()));
    TestService::start_with(settings, SystemClock::shared()).await
}

/// An address that passes connections on.
async fn forward(listener: TcpListener, target: SocketAddr) {
    while let Ok((mut inside, _)) = listener.accept().await {
        tokio::spawn(async move {
            let mut outside = TcpStream::connect(target).await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut inside, &mut outside).await;
        });
    }
}

/// An address where nobody listens.
async fn closed_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn overview_lists_peers_and_marks_what_differs() {
    let database = TestDatabase::test_server().await;
    let alike = TestService::start(&database).await;
    let late = TestService::start_with(database.settings(), ManualClock::at(NOW) as SharedClock).await;
    let closed = closed_address().await;
    let peers = [alike.running.address(), late.running.address(), closed];
    let service = start_with_peers(&database, &peers, None).await;
    let browser = Browser::new(&service);
    let summary = "4 replicas, 1 without an answer, 1 that should be looked at.";
    let page = page_until(&browser, "/", |page| page.contains(summary)).await;
    let row = |address: SocketAddr| {
        let (_, rest) = page.split_once(&format!(">{address}</code></th>")).unwrap();
        rest.split_once("</tr>").unwrap().0.to_owned()
    };
    assert!(!row(alike.running.address()).contains("tag bad"), "{page}");
    assert!(row(late.running.address()).contains(" behind</span>"), "{page}");
    assert!(row(closed).contains("no answer</span> no connection: "), "{page}");
}

/// By the real program, because the roots are read from the environment. `localhost` is a name, often of two addresses.
#[tokio::test]
async fn encrypted_peer_is_asked_by_its_name_and_certificate() {
    let database = TestDatabase::test_server().await;
    let (trusted, other) = (Authority::new(), Authority::named("other"));
    let files = trusted.server_certificate().write();
    let settings = database
        .settings()
        .with_flag("TENANT_AUTH_TLS_CERT_FILE", Some(files.certificate()))
        .with_flag("TENANT_AUTH_TLS_KEY_FILE", Some(files.key()));
    let peer = TestService::start_with(settings, SystemClock::shared()).await;
    let port = peer.running.address().port();
    for (authority, summary) in [(&trusted, "2 replicas, all alike."), (&other, "1 without an answer")] {
        let roots = authority.write();
        let mut serve = program()
            .args(["serve", "--listen", "127.0.0.1:0", "--log-format", "json"])
            .env("TENANT_AUTH_DATABASE_URL", database.server().url())
            .env("TENANT_AUTH_DATABASE_TOKEN_FILE", database.token_file())
            .env("TENANT_AUTH_OPS_LISTEN", "127.0.0.1:0")
            .env("TENANT_AUTH_CONSOLE_LISTEN", "127.0.0.1:0")
            .env("TENANT_AUTH_CONSOLE_PEERS", format!("https://localhost:{port}"))
            .env("SSL_CERT_FILE", roots.certificate())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(serve.stderr.take().unwrap()).lines();
        let console: SocketAddr = loop {
            let line = log.next_line().await.unwrap().unwrap();
            if let Some((_, rest)) = line.split_once("\"console\":\"") {
                break rest.split('"').next().unwrap().parse().unwrap();
            }
        };
        let host = console.to_string();
        let shown = async {
            while !http_exchange(console, "GET /", &[("host", &host)], "")
                .await
                .unwrap()
                .body
                .contains(summary)
            {}
        };
        tokio::time::timeout(Duration::from_secs(30), shown).await.expect(summary);
        serve.kill().await.unwrap();
    }
}

#[tokio::test]
async fn replica_that_is_its_own_peer_is_listed_once() {
    let database = TestDatabase::test_server().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let other = TestService::start(&database).await;
    let service = start_with_peers(&database, &[address, other.running.address()], None).await;
    tokio::spawn(forward(listener, service.running.address()));
    let page = page_until(&Browser::new(&service), "/", |page| page.contains("2 replicas, all alike.")).await;
    assert!(page.contains(&format!("this replica <code class=\"id\">{address}</code>")), "{page}");
}

#[tokio::test]
async fn stream_shows_the_table_again_when_a_replica_goes() {
    let database = TestDatabase::test_server().await;
    let other = TestService::start(&database).await;
    let service = start_with_peers(&database, &[other.running.address()], None).await;
    let mut events = EventStream::open(&Browser::new(&service), "/events").await;
    events.until("part-fleet", |fleet| fleet.contains("2 replicas, all alike.")).await;
    other.running.stop().await;
    events.until("part-fleet", |fleet| fleet.contains("2 replicas, 1 without an answer.")).await;
}

#[tokio::test]
async fn peers_are_asked_with_the_token_of_the_file() {
    let database = TestDatabase::test_server().await;
    let callers = CallersFile::new(&[("console", Role::Viewer, &[&token_of(Role::Viewer)])]);
    let peer = callers.service(&database).await;
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "wrong").unwrap();
    let service = start_with_peers(&database, &[peer.running.address()], Some(&token)).await;
    let browser = Browser::new(&service);
    page_until(&browser, "/", |page| page.contains("it refuses the token of")).await;
    std::fs::write(&token, format!("{}\n", token_of(Role::Viewer))).unwrap();
    let page = page_until(&browser, "/", |page| page.contains("2 replicas, all alike.")).await;
    assert!(!page.contains(&token_of(Role::Viewer)));
}

#[tokio::test]
async fn change_is_followed_to_every_replica() {
    let database = TestDatabase::test_server().await;
    let [first, second] = [TestService::start(&database).await, TestService::start(&database).await];
    let peers = [first.running.address(), second.running.address()];
    let service = start_with_peers(&database, &peers, None).await;
    let (_, key_id) = service.issue_key(&service.create_tenant("Acme").await, &[]).await;
    let request = v1::RevokeKeyRequest { key_id, reason: "test".to_owned() };
    let revision = service.admin().revoke_key(request).await.unwrap().into_inner().revision;

    let path = format!("/applied?revision={revision}");
    let mut events = EventStream::open(&Browser::new(&service), &path).await;
    events.until("part-applied", |text| text.contains("by 0 of 3 replicas …")).await;
    service.poll_feed().await;
    events.until("part-applied", |text| text.contains("by 1 of 3 replicas …")).await;
    first.poll_feed().await;
    events.until("part-applied", |text| text.contains("by 2 of 3 replicas …")).await;
    second.poll_feed().await;
    events.until("part-applied", |text| text.contains("Applied</span> by 3 of 3 replicas.")).await;
    assert_eq!(events.next().await.unwrap().0, "end", "the browser need not ask again");
    events.until_end().await;
}
