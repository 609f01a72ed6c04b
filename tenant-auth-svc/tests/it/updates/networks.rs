//! Keys that may be used from certain networks only.

use serde_json::json;
use sha2::{Digest as _, Sha256};
use tenant_auth_proto::v1::{
    self, BatchValidateKeysRequest, SessionExpiry, Source, StreamValidateKeysRequest, Verdict,
    batch_validate_keys_result::Result as BatchOutcome,
    stream_validate_keys_response::Result as StreamOutcome,
};
use tenant_auth_testkit::Fault;

use crate::harness::{
    TestDatabase, TestService, owned,
    replicas::Replicas,
    scrape::{Scrape, verdicts_series},
    sessions::session_client,
    updates::{audit_details, key_update, update},
    violated_fields,
};

const OFFICE: &[&str] = &["192.0.2.0/24", "2001:db8:1::/48"];

async fn issue(service: &TestService, tenant: &str, networks: &[&str]) -> (String, v1::ApiKey) {
    let request = v1::IssueKeyRequest {
        tenant_id: tenant.to_owned(),
        scopes: owned(&["a"]),
        allowed_networks: owned(networks),
        ..Default::default()
    };
    let issued = service.admin().issue_key(request).await.unwrap().into_inner();
    (issued.plaintext, issued.key.unwrap())
}

fn request(key: &str, address: &str, scopes: &[&str]) -> v1::ValidateKeyRequest {
    v1::ValidateKeyRequest {
        key: key.to_owned(),
        required_scopes: owned(scopes),
        client_address: address.to_owned(),
    }
}

fn networks_update(key_id: &str, networks: &[&str]) -> v1::UpdateKeyRequest {
    v1::UpdateKeyRequest { allowed_networks: owned(networks), ..key_update(key_id, &["allowed_networks"]) }
}

/// Returns the responses of every RPC that validates a key: unary, batch and stream.
async fn responses(service: &TestService, request: v1::ValidateKeyRequest) -> [v1::ValidateKeyResponse; 3] {
    let mut client = service.validation();
    let alone = client.validate_key(request.clone()).await.unwrap().into_inner();
    let batch = BatchValidateKeysRequest { requests: vec![request.clone()] };
    let results = client.batch_validate_keys(batch).await.unwrap().into_inner().results;
    let Some(BatchOutcome::Response(of_batch)) = results[0].result.clone() else { panic!("{results:?}") };
    let queries = tokio_stream::once(StreamValidateKeysRequest { correlation_id: 1, request: Some(request) });
    let mut stream = client.stream_validate_keys(queries).await.unwrap().into_inner();
    let result = stream.message().await.unwrap().unwrap().result;
    let Some(StreamOutcome::Response(of_stream)) = result else { panic!("{result:?}") };
    [alone, of_batch, of_stream]
}

#[tokio::test]
async fn key_is_valid_from_its_networks_only() {
    for database in TestDatabase::all().await {
        let service = TestService::start(&database).await;
        let tenant = service.create_tenant("Acme").await;
        let (key, issued) =
            issue(&service, &tenant, &["2001:DB8:1::/48", "192.0.2.0/24", "192.0.2.0/24"]).await;
        assert_eq!(issued.allowed_networks, OFFICE, "canonical, sorted and unique");
        for (address, scopes, expected) in [
            ("192.0.2.7", &["a"][..], Verdict::Valid),
            ("::ffff:192.0.2.7", &[], Verdict::Valid),
            ("[2001:db8:1::7]:443", &[], Verdict::Valid),
            ("192.0.3.7", &[], Verdict::AddressNotAllowed),
            ("192.0.3.7", &["b"], Verdict::AddressNotAllowed),
            ("192.0.2.7", &["b"], Verdict::InsufficientScope),
            ("", &["b"], Verdict::AddressRequired),
        ] {
            // The first read is from the database; the others are from the cache.
            for response in responses(&service, request(&key, address, scopes)).await {
                assert_eq!(response.verdict(), expected, "{address} {}", database.name());
                assert_eq!(response.key_id, issued.key_id);
                assert_eq!(response.allowed_networks, OFFICE);
                assert_eq!(response.missing_scopes.is_empty(), expected != Verdict::InsufficientScope);
            }
        }
        let state = service.admin().get_key(v1::GetKeyRequest { key_id: issued.key_id }).await.unwrap();
        assert_eq!(state.into_inner().verdict(), Verdict::Valid, "whatever the address");
    }
}

#[tokio::test]
async fn address_verdicts_are_counted_by_their_names() {
    let database = TestDatabase::embedded();
    let service = TestService::start(&database).await;
    let tenant = service.create_tenant("Acme").await;
    let (key, _) = issue(&service, &tenant, OFFICE).await;
    for address in ["", "192.0.3.7", "192.0.3.8"] {
        service.validation().validate_key(request(&key, address, &[])).await.unwrap();
    }
    let scrape = Scrape::collect(&service).await;
    scrape.assert_value(&verdicts_series("address_required"), 1.0);
    scrape.assert_value(&verdicts_series("address_not_allowed"), 2.0);
}

#[tokio::test]
async fn changed_networks_reach_the_other_replica() {
    let replicas = Replicas::start().await;
    let (key, issued) = issue(&replicas.first, &replicas.tenant, &[]).await;
    let verdict = async |service: &TestService| {
        let response = service.validation().validate_key(request(&key, "192.0.2.7", &[])).await.unwrap();
        (response.get_ref().verdict(), response.into_inner().provenance.unwrap().source())
    };
    replicas.poll_second().await;
    assert_eq!(verdict(&replicas.second).await, (Verdict::Valid, Source::Database));
    for (networks, expected) in [
        (&["203.0.113.0/24"][..], Verdict::AddressNotAllowed),
        (OFFICE, Verdict::Valid),
        (&[], Verdict::Valid),
    ] {
        update(&replicas.first, networks_update(&issued.key_id, networks)).await.unwrap();
        assert_eq!(verdict(&replicas.first).await.0, expected, "{networks:?}");
        replicas.poll_second().await;
        assert_eq!(verdict(&replicas.second).await, (expected, Source::Database), "{networks:?}");
    }
    // A person in the database's shell changes them, too.
    let sql = format!(
        "UPDATE api_keys SET allowed_networks = '[\"203.0.113.7/32\"]' WHERE id = '{}'",
        issued.key_id
    );
    replicas.database.server().execute(&sql).unwrap();
    replicas.poll_second().await;
    assert_eq!(verdict(&replicas.second).await.0, Verdict::AddressNotAllowed);
}

#[tokio::test]
async fn update_of_networks_is_recorded_once() {
    let database = TestDatabase::test_server().await;
    let service = TestService::start(&database).await;
    let tenant = service.create_tenant("Acme").await;
    let (_, issued) = issue(&service, &tenant, &["198.51.100.7"]).await;
    for fault in [Fault::ResetAfterCommit, Fault::ResetBeforeExecute] {
        database.server().faults().set_for(1, fault.clone());
        let key = update(&service, networks_update(&issued.key_id, OFFICE)).await.unwrap();
        assert_eq!(key.allowed_networks, OFFICE, "{fault:?}");
    }
    let expected = json!({
        "before": { "allowed_networks": ["198.51.100.7/32"] },
        "after": { "allowed_networks": OFFICE },
    });
    assert_eq!(audit_details(&service, &issued.key_id, "key.update").await, [expected]);
}

#[tokio::test]
async fn successor_and_imported_key_have_networks() {
    for database in TestDatabase::all().await {
        let service = TestService::start(&database).await;
        let tenant = service.create_tenant("Acme").await;
        let (_, issued) = issue(&service, &tenant, OFFICE).await;
        let rotate = v1::RotateKeyRequest { key_id: issued.key_id, ..Default::default() };
        let rotated = service.admin().rotate_key(rotate).await.unwrap().into_inner();
        assert_eq!(rotated.key.unwrap().allowed_networks, OFFICE);
        let imported = format!("imported-key-of-{tenant}");
        let import = v1::ImportKey {
            tenant_id: tenant,
            sha256: Sha256::digest(&imported).to_vec(),
            allowed_networks: owned(OFFICE),
            ..Default::default()
        };
        service.admin().import_keys(v1::ImportKeysRequest { keys: vec![import] }).await.unwrap();
        for key in [&rotated.plaintext, &imported] {
            for (address, expected) in
                [("192.0.2.7", Verdict::Valid), ("192.0.3.7", Verdict::AddressNotAllowed)]
            {
                let response = service.validation().validate_key(request(key, address, &[])).await.unwrap();
                assert_eq!(response.into_inner().verdict(), expected, "{}", database.name());
            }
        }
    }
}

#[tokio::test]
async fn session_needs_the_networks_of_both_keys() {
    for database in TestDatabase::all().await {
        let service = TestService::start(&database).await;
        let tenant = service.create_tenant("Acme").await;
        let (opener, opener_key) = issue(&service, &tenant, OFFICE).await;
        let (other, other_key) = issue(&service, &tenant, &["192.0.2.0/28", "203.0.113.0/24"]).await;
        let id = format!("session-of-{tenant}");
        let bind = async |address: &str| {
            let request = v1::BindSessionRequest {
                session_id: id.clone(),
                key: opener.clone(),
                ttl: Some(prost_types::Duration { seconds: 600, nanos: 0 }),
                expiry: SessionExpiry::Fixed.into(),
                client_address: address.to_owned(),
                ..Default::default()
            };
            session_client(&service).bind_session(request).await.unwrap().into_inner().verdict()
        };
        assert_eq!(bind("").await, Verdict::AddressRequired);
        assert_eq!(bind("203.0.113.7").await, Verdict::AddressNotAllowed);
        assert_eq!(bind("192.0.2.7").await, Verdict::Valid);

        let validate = async |key: &str, address: &str| {
            let request = v1::ValidateSessionRequest {
                session_id: id.clone(),
                key: key.to_owned(),
                client_address: address.to_owned(),
                ..Default::default()
            };
            service.validation().validate_session(request).await.unwrap().into_inner()
        };
        for (key, address, expected) in [
            ("", "192.0.2.7", Verdict::Valid),
            ("", "203.0.113.7", Verdict::AddressNotAllowed),
            ("", "", Verdict::AddressRequired),
            (&*opener, "192.0.2.200", Verdict::Valid),
            (&*other, "192.0.2.7", Verdict::Valid),
            (&*other, "192.0.2.200", Verdict::AddressNotAllowed),
            (&*other, "203.0.113.7", Verdict::AddressNotAllowed),
            (&*other, "", Verdict::AddressRequired),
        ] {
            let response = validate(key, address).await;
            assert_eq!(response.verdict(), expected, "{key} {address} {}", database.name());
            // A caller that reuses the response for another address needs the networks and the subjects.
            assert_eq!(response.allowed_networks, OFFICE);
            assert_eq!(response.key_id, opener_key.key_id);
            let of_other = if key == other { &other_key.allowed_networks[..] } else { &[] };
            assert_eq!(response.presented_key_allowed_networks, of_other);
            let presented = [("", ""), (&opener, &opener_key.key_id), (&other, &other_key.key_id)];
            let presented = presented.into_iter().find(|(plaintext, _)| *plaintext == key).unwrap().1;
            assert_eq!(response.presented_key_id, presented);
        }
        service.revoke_key(&opener_key.key_id).await;
        assert_eq!(validate(&other, "").await.verdict(), Verdict::Revoked, "a permanent reason comes first");
    }
}

#[tokio::test]
async fn unreadable_networks_do_not_open_a_key() {
    let database = TestDatabase::test_server().await;
    let service = TestService::start(&database).await;
    let tenant = service.create_tenant("Acme").await;
    let (key, issued) = issue(&service, &tenant, OFFICE).await;
    let sql = format!("UPDATE api_keys SET allowed_networks = '[\"office\"]' WHERE id = '{}'", issued.key_id);
    database.server().execute(&sql).unwrap();
    service.poll_feed().await;
    let undecided = service.validation().validate_key(request(&key, "192.0.2.7", &[])).await.unwrap_err();
    assert_eq!(undecided.code(), tonic::Code::Unavailable);
    // A revoked key is revoked whatever its networks.
    service.revoke_key(&issued.key_id).await;
    let revoked = service.validation().validate_key(request(&key, "192.0.2.7", &[])).await.unwrap();
    assert_eq!(revoked.into_inner().verdict(), Verdict::Revoked);
}

#[tokio::test]
async fn invalid_address_or_network_names_its_field() {
    let service = TestService::start(&TestDatabase::test_server().await).await;
    let refused = service.validation().validate_key(request("k", "192.0.2.1, 192.0.2.2", &[])).await;
    let refused = refused.unwrap_err();
    assert!(refused.message().contains("must be one IPv4 or IPv6 address"), "{refused:?}");
    assert_eq!(violated_fields(refused), ["client_address"]);
    let issue = v1::IssueKeyRequest {
        tenant_id: "ten_1".to_owned(),
        allowed_networks: owned(&["10.0.0.0/8", "10.0.0.1/8"]),
        ..Default::default()
    };
    let refused = service.admin().issue_key(issue).await.unwrap_err();
    assert!(refused.message().contains("write 10.0.0.0/8"), "{refused:?}");
    assert_eq!(violated_fields(refused), ["allowed_networks[1]"]);
    let many: Vec<_> = (0..33).map(|number| format!("10.0.0.{number}")).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    let refused = update(&service, networks_update("key_1", &many)).await.unwrap_err();
    assert_eq!(violated_fields(refused), ["allowed_networks"]);
}
