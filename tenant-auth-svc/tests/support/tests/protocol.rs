//! Tests of the test server: the protocol, the real server's rejections, the faults and the counters.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use serde_json::{Value as Json, json};
use tenant_auth_testkit::{Fault, HranaServer};

async fn server() -> HranaServer {
    HranaServer::builder().token("secret").read_only_token("reader").start().await.unwrap()
}

struct Client(reqwest::Client);

impl Client {
    fn new() -> Self {
        // reqwest requires a TLS provider even without TLS.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self(reqwest::Client::new())
    }

    async fn send(
        &self,
        server: &HranaServer,
        token: &str,
        body: String,
    ) -> Result<(u16, String), reqwest::Error> {
        let url = format!("{}/v2/pipeline", server.url());
        let answer = self.0.post(url).bearer_auth(token).body(body).send().await?;
        let status = answer.status().as_u16();
        Ok((status, answer.text().await?))
    }

    /// Runs requests on one stream and returns their results.
    async fn pipeline(&self, server: &HranaServer, baton: Json, requests: Json) -> Json {
        let body = json!({ "baton": baton, "requests": requests }).to_string();
        let (status, text) = self.send(server, "secret", body).await.unwrap();
        assert_eq!(status, 200, "{text}");
        serde_json::from_str(&text).unwrap()
    }
}

fn execute(sql: &str) -> Json {
    json!({ "type": "execute", "stmt": { "sql": sql } })
}

fn close() -> Json {
    json!({ "type": "close" })
}

#[tokio::test]
async fn values_round_trip_on_one_connection() {
    let (server, client) = (server().await, Client::new());
    let select = json!({ "type": "execute", "stmt": {
        "sql": "SELECT ?1 + 1 AS n, ?2, ?3, NULL, 1.5",
        "args": [
            { "type": "integer", "value": "9007199254740992" },
            { "type": "text", "value": "é" },
            { "type": "blob", "base64": "AQI" },
        ],
    } });
    for _ in 0..2 {
        let answer = client.pipeline(&server, Json::Null, json!([select, close()])).await;
        assert!(answer["baton"].is_null());
        let result = &answer["results"][0]["response"]["result"];
        assert_eq!(result["cols"][0]["name"], "n");
        assert_eq!(
            result["rows"][0],
            json!([
                { "type": "integer", "value": "9007199254740993" },
                { "type": "text", "value": "é" },
                { "type": "blob", "base64": "AQI" },
                { "type": "null" },
                { "type": "float", "value": 1.5 },
            ])
        );
    }
    let counters = server.counters();
    assert_eq!((counters.requests, counters.connections, counters.statements), (2, 1, 2));
    assert_eq!(counters.open_streams, 0);
}

#[tokio::test]
async fn refusals_match_the_real_server() {
    let (server, client) = (server().await, Client::new());
    for (token, expected) in [("wrong", 401), ("", 401)] {
        let (status, body) = client.send(&server, token, "{}".to_owned()).await.unwrap();
        assert_eq!(status, expected);
        assert!(body.contains("Unauthorized"), "{body}");
    }
    let (status, body) = client.send(&server, "secret", "{nonsense".to_owned()).await.unwrap();
    assert_eq!(status, 400);
    assert!(body.starts_with("Could not deserialize JSON request body"), "{body}");

    for (sql, code) in [
        ("SELEC 1", "SQL_PARSE_ERROR"),
        ("", "SQL_NO_STATEMENT"),
        ("SELECT 1; SELECT 2", "SQL_MANY_STATEMENTS"),
        ("ATTACH 'x' AS y", "SQL_PARSE_ERROR"),
        ("PRAGMA journal_mode = DELETE", "SQL_PARSE_ERROR"),
        // With a place in the text, and without one.
        ("SELECT no_such_column FROM sqlite_schema", "SQL_INPUT_ERROR"),
        ("SELECT * FROM nowhere", "SQLITE_UNKNOWN"),
    ] {
        let answer =
            client.pipeline(&server, Json::Null, json!([execute(sql), execute("SELECT 1"), close()])).await;
        assert_eq!(answer["results"][0]["type"], "error", "{sql}");
        assert_eq!(answer["results"][0]["error"]["code"], code, "{sql}: {answer}");
        assert_eq!(answer["results"][1]["type"], "ok", "after an error the rest of a pipeline runs");
    }
    server.execute("CREATE TABLE t (a INTEGER PRIMARY KEY)").unwrap();
    let body = json!({ "requests": [execute("INSERT INTO t VALUES (1)"), close()] }).to_string();
    let (_, refused) = client.send(&server, "reader", body.clone()).await.unwrap();
    assert!(refused.contains("SQLITE_READONLY"), "{refused}");
    for expected in ["\"affected_row_count\":1", "SQLITE_CONSTRAINT"] {
        let (_, answer) = client.send(&server, "secret", body.clone()).await.unwrap();
        assert!(answer.contains(expected), "{answer}");
    }
}

#[tokio::test]
async fn batch_stops_at_a_failed_condition() {
    let (server, client) = (server().await, Client::new());
    server.execute("CREATE TABLE t (a INTEGER PRIMARY KEY)").unwrap();
    let ok = |step: usize| json!({ "type": "ok", "step": step });
    let step = |condition: Json, sql: &str| json!({ "condition": condition, "stmt": { "sql": sql } });
    let batch = |second: &str| {
        let steps = [
            step(Json::Null, "BEGIN IMMEDIATE"),
            step(ok(0), "INSERT INTO t VALUES (1)"),
            step(ok(1), second),
            step(ok(2), "COMMIT"),
            step(json!({ "type": "not", "cond": ok(3) }), "ROLLBACK"),
        ];
        json!([{ "type": "batch", "batch": { "steps": steps } }, close()])
    };
    let failed = client.pipeline(&server, Json::Null, batch("INSERT INTO t VALUES (1)")).await;
    let result = &failed["results"][0]["response"]["result"];
    assert_eq!(result["step_errors"][2]["code"], "SQLITE_CONSTRAINT");
    assert!(result["step_results"][3].is_null() && !result["step_results"][4].is_null());
    assert_eq!(server.query("SELECT count(*) FROM t").unwrap()[0][0]["value"], "0");

    client.pipeline(&server, Json::Null, batch("INSERT INTO t VALUES (2)")).await;
    assert_eq!(server.query("SELECT count(*) FROM t").unwrap()[0][0]["value"], "2");
}

#[tokio::test]
async fn open_stream_expires_after_ten_seconds() {
    let (server, client) = (server().await, Client::new());
    server.execute("CREATE TABLE t (a INTEGER)").unwrap();
    let open = json!([execute("BEGIN IMMEDIATE"), execute("INSERT INTO t VALUES (1)")]);
    let answer = client.pipeline(&server, Json::Null, open.clone()).await;
    assert_eq!(server.counters().open_streams, 1);
    let committed =
        client.pipeline(&server, answer["baton"].clone(), json!([execute("COMMIT"), close()])).await;
    assert_eq!(committed["results"][0]["type"], "ok");
    assert_eq!(server.counters().open_streams, 0);

    let abandoned = client.pipeline(&server, Json::Null, open).await;
    server.advance(Duration::from_secs(9));
    assert_eq!(server.counters().open_streams, 1);
    server.advance(Duration::from_secs(1));
    let body = json!({ "baton": abandoned["baton"], "requests": [execute("COMMIT")] }).to_string();
    let (status, body) = client.send(&server, "secret", body).await.unwrap();
    assert_eq!((status, body.contains("STREAM_EXPIRED")), (400, true), "{body}");
    assert_eq!(server.query("SELECT count(*) FROM t").unwrap()[0][0]["value"], "1", "rolled back");
    let body = json!({ "baton": "made up", "requests": [] }).to_string();
    assert_eq!(client.send(&server, "secret", body).await.unwrap().0, 400);
}

#[tokio::test]
async fn faults_apply_until_cleared() {
    let (mut server, client) = (server().await, Client::new());
    server.execute("CREATE TABLE t (a INTEGER)").unwrap();
    let body = json!({ "requests": [execute("INSERT INTO t VALUES (1)"), close()] }).to_string();
    let rows = |server: &HranaServer| server.query("SELECT count(*) FROM t").unwrap()[0][0]["value"].clone();

    for fault in [Fault::ResetBeforeExecute, Fault::ResetMidBody, Fault::ResetAfterCommit] {
        server.faults().set_for(1, fault.clone());
        assert!(client.send(&server, "secret", body.clone()).await.is_err(), "{fault:?}");
    }
    assert_eq!(rows(&server), "2", "two of the three statements ran");
    for (fault, status) in
        [(Fault::too_many_requests(7), 429), (Fault::binary_error(), 500), (Fault::html_ok(), 200)]
    {
        server.faults().set_where("INSERT", 1, fault);
        let other = json!({ "requests": [close()] }).to_string();
        assert!(client.send(&server, "secret", other).await.unwrap().1.contains("results"));
        assert_eq!(client.send(&server, "secret", body.clone()).await.unwrap().0, status);
    }
    assert_eq!(rows(&server), "2", "none of these ran");

    server.faults().set(Fault::Hang);
    let release = async {
        server.wait_for(|counters| counters.open_requests == 1).await;
        server.faults().clear();
    };
    let (answer, ()) = tokio::join!(client.send(&server, "secret", body.clone()), release);
    assert_eq!(answer.unwrap().0, 200, "after release the request is answered normally");

    server.stop().await;
    assert!(client.send(&server, "secret", body.clone()).await.is_err());
    server.start_again().unwrap();
    assert_eq!(client.send(&server, "secret", body).await.unwrap().0, 200);
    assert_eq!(rows(&server), "4", "the data outlives a restart");
}

/// Reproduces sqld 0.24 when several writers wait and some of them disconnect.
#[tokio::test]
async fn departed_writer_wedges_the_server_until_restart() {
    let (mut server, client) = (server().await, Client::new());
    server.execute("CREATE TABLE t (a INTEGER)").unwrap();
    let write =
        json!([execute("BEGIN IMMEDIATE"), execute("INSERT INTO t VALUES (1)"), execute("COMMIT"), close()]);
    let body = json!({ "requests": write }).to_string();
    server.hold_writes(true);
    let (waits, leaves) = tokio::join!(
        tokio::time::timeout(Duration::from_millis(100), client.send(&server, "secret", body.clone())),
        tokio::time::timeout(Duration::from_millis(100), client.send(&server, "secret", body.clone())),
    );
    assert!(
        waits.is_err() && leaves.is_err(),
        "one client holds the lock, one waits for it, and both disconnect"
    );
    server.wait_for(|counters| counters.open_requests == 0).await;
    server.hold_writes(false);
    let next = client.send(&server, "secret", body.clone());
    assert!(
        tokio::time::timeout(Duration::from_millis(300), next).await.is_err(),
        "the lock was granted to a disconnected client"
    );
    assert!(server.is_wedged());
    let read = json!({ "requests": [execute("SELECT count(*) FROM t"), close()] }).to_string();
    assert_eq!(client.send(&server, "secret", read).await.unwrap().0, 200, "reads continue to work");

    server.stop().await;
    server.start_again().unwrap();
    assert_eq!(client.send(&server, "secret", body).await.unwrap().0, 200);
}
