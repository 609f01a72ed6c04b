//! Which caller may call which RPC.

mod exposure;
mod reload;
mod streams;

use std::collections::{BTreeMap, BTreeSet};

use tenant_auth_proto::v1::{self, info_service_client::InfoServiceClient};
use tenant_auth_svc::domain::access::{Access, Role, TokenHash, access_rules};
use tonic::{Code, Status};

use crate::harness::{
    TestDatabase, TestService,
    callers::{CallersFile, INFO, assert_unauthenticated},
    captured::TestLog,
    error_reason,
    wire::{call_path, rpc_paths, with_token},
};

/// Starts a service with one caller per role. Each caller is named after its role, and its token is that name
/// with a prefix.
async fn service_with_every_role() -> (CallersFile, TestService) {
    let tokens = Role::ALL.map(token_of);
    let tokens: Vec<_> = tokens.iter().map(|token| [&**token]).collect();
    let named = Role::ALL.into_iter().zip(&tokens).map(|(role, token)| (role.as_str(), role, &token[..]));
    let callers: Vec<_> = named.collect();
    let file = CallersFile::new(&callers);
    let service = file.service(&TestDatabase::embedded()).await;
    (file, service)
}

fn token_of(role: Role) -> String {
    format!("tac_of-the-{}", role.as_str())
}

#[test]
fn every_rpc_has_exactly_one_access_rule() {
    let ruled: Vec<_> = access_rules().map(|(path, _)| path.to_owned()).collect();
    let each_once: BTreeSet<_> = ruled.iter().cloned().collect();
    assert_eq!(each_once.len(), ruled.len(), "one rule per RPC");
    assert_eq!(each_once, rpc_paths(), "the rules in domain/access/policy.rs must match the served RPCs");
    assert!(
        access_rules().all(|(_, access)| access != Access::Denied),
        "an RPC that no caller may call needs no rule"
    );
}

/// The access policy as decided. It is repeated here so that changing a rule requires two edits. One column
/// per role: V(alidator), S(essions), M(eter), R(eporter), A(dmin), aU(ditor), vieWer, Operator; `*` for every known
/// caller, `+` for anyone.
const DECIDED_POLICY: &str = "
ValidationService/ValidateKey            V
ValidationService/BatchValidateKeys      V
ValidationService/StreamValidateKeys     V
ValidationService/ValidateSession        V
LimitService/Consume                     V
LimitService/BatchConsume                V
LimitService/StreamConsume               V
LimitService/Reserve                     V
LimitService/Settle                      V
LimitService/Cancel                      V
LimitService/GetLimitState               VRAUWO
WatchService/Watch                       V
SessionService/BindSession               S
SessionService/UnbindSession             SAO
SessionService/ListSessions              SAUWO
UsageService/RecordUsage                 M
UsageService/QueryUsage                  RAUWO
AdminService/CreateTenant                AO
AdminService/GetTenant                   AUWO
AdminService/ListTenants                 AUWO
AdminService/UpdateTenant                AO
AdminService/DeleteTenant                AO
AdminService/SuspendTenant               AO
AdminService/ResumeTenant                AO
AdminService/IssueKey                    AO
AdminService/ImportKeys                  AO
AdminService/UpdateKey                   AO
AdminService/RotateKey                   AO
AdminService/RevokeKey                   AO
AdminService/GetKey                      AUWO
AdminService/InspectKey                  AUWO
AdminService/ExplainKey                  AUWO
AdminService/ReportLeak                  AO
AdminService/ListKeys                    AUWO
AdminService/SetLimit                    AO
AdminService/GetLimit                    AUWO
AdminService/ListLimits                  AUWO
AdminService/DeleteLimit                 AO
AdminService/AddCredits                  AO
AdminService/ListAuditEvents             AUWO
AdminService/GetDatabaseState            AUWO
AdminService/AcceptDatabase              AO
AdminService/GetOutageGrace              AUWO
AdminService/SetOutageGrace              AO
AdminService/ResetOutageGrace            AO
InfoService/GetServerInfo                *
InfoService/WaitForRevision              *
InfoService/GetPrincipalKeys             *
envoy.service.auth.v3.Authorization/Check  P
grpc.health.v1.Health/Check              +
grpc.health.v1.Health/Watch              +
grpc.reflection.v1.ServerReflection/ServerReflectionInfo       +
grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo  +
";

#[test]
fn access_policy_matches_decided_table() {
    let letter = |role| match role {
        Role::Validator => 'V',
        Role::Proxy => 'P',
        Role::Sessions => 'S',
        Role::Meter => 'M',
        Role::Reporter => 'R',
        Role::Admin => 'A',
        Role::Auditor => 'U',
        Role::Viewer => 'W',
        Role::Operator => 'O',
    };
    let who = |access| match access {
        Access::Anyone => "+".to_owned(),
        Access::AnyCaller => "*".to_owned(),
        Access::Roles(roles) => roles.iter().map(letter).collect(),
        Access::Denied => String::new(),
    };
    let ruled: BTreeMap<_, _> = access_rules()
        .map(|(path, access)| (path.trim_start_matches("/tenantauth.v1.").to_owned(), who(access)))
        .collect();
    let decided: BTreeMap<_, _> = DECIDED_POLICY
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(path, who)| {
            let path = if path.starts_with("grpc.") || path.starts_with("envoy.") {
                format!("/{path}")
            } else {
                path.to_owned()
            };
            (path, who.trim().to_owned())
        })
        .collect();
    assert_eq!(ruled, decided);
}

#[tokio::test]
async fn each_role_may_call_only_its_rpcs() {
    let (_file, service) = service_with_every_role().await;
    let (mut refused, mut allowed) = (0, 0);
    // Its callers cannot handle a gRPC error; `front_doors::ext_authz` has its refusals.
    let answers_errors = |path: &str| path.starts_with("/envoy.");
    for (path, access) in access_rules().filter(|(path, _)| !answers_errors(path)) {
        for role in Role::ALL {
            let may = match access {
                Access::Anyone | Access::AnyCaller => true,
                Access::Roles(roles) => roles.iter().any(|one| one == role),
                Access::Denied => false,
            };
            let answer = call_path(&service.channel, path, Some(&format!("Bearer {}", token_of(role)))).await;
            let code = answer.as_ref().err().map_or(Code::Ok, Status::code);
            if may {
                assert!(
                    !matches!(code, Code::PermissionDenied | Code::Unauthenticated | Code::Unimplemented),
                    "{path} as {role:?}: {answer:?}"
                );
                allowed += 1;
            } else {
                let status = answer.unwrap_err();
                assert_eq!(code, Code::PermissionDenied, "{path} as {role:?}: {status:?}");
                assert_eq!(error_reason(&status), "ROLE_MISSING");
                let Access::Roles(roles) = access else { panic!("{path}") };
                assert!(
                    status.message().contains(&roles.to_string()),
                    "the message must name the roles: {}",
                    status.message()
                );
                refused += 1;
            }
        }
        let anonymous = call_path(&service.channel, path, None).await;
        match access {
            Access::Anyone => {
                assert!(anonymous.is_ok() || error_reason(&anonymous.unwrap_err()).is_empty(), "{path}")
            }
            Access::AnyCaller | Access::Roles(_) | Access::Denied => assert_unauthenticated(anonymous),
        }
    }
    assert!(allowed > 50 && refused > 50, "{allowed} and {refused}");
}

#[tokio::test]
async fn unknown_token_is_unauthenticated() {
    let (_file, service) = service_with_every_role().await;
    let good = token_of(Role::Admin);
    for authorization in [
        "Bearer tac_of-nobody".to_owned(),
        format!("Bearer {good}x"),
        format!("Bearer {}", &good[..good.len() - 1]),
        format!("Bearer {}", good.to_uppercase()),
        format!("Bearer {}", TokenHash::of(&good)),
        format!("Basic {good}"),
        format!("Bearer{good}"),
        "Bearer ".to_owned(),
        "Bearer".to_owned(),
        good.clone(),
        String::new(),
    ] {
        assert_unauthenticated(call_path(&service.channel, INFO, Some(&authorization)).await);
    }
    for authorization in [format!("Bearer {good}"), format!("bearer {good}"), format!("BEARER  {good} ")] {
        call_path(&service.channel, INFO, Some(&authorization)).await.unwrap();
    }
}

#[tokio::test]
async fn unimplemented_rpc_is_reported_only_to_known_callers() {
    let (_file, service) = service_with_every_role().await;
    for path in ["/tenantauth.v1.AdminService/CloneTenant", "/tenantauth.v2.InfoService/GetServerInfo", "/"] {
        assert_unauthenticated(call_path(&service.channel, path, None).await);
        let admin = format!("Bearer {}", token_of(Role::Admin));
        let status = call_path(&service.channel, path, Some(&admin)).await.unwrap_err();
        assert_eq!((status.code(), &*error_reason(&status)), (Code::Unimplemented, "UNKNOWN_RPC"));
    }
}

#[tokio::test]
async fn log_names_caller_and_never_its_token() {
    let log = TestLog::shared();
    let tokens = ["tac_canary-of-the-operator", "tac_canary-of-nobody"];
    let file = CallersFile::new(&[("operator", Role::Admin, &tokens[..1])]);
    let service = file.service(&TestDatabase::embedded()).await;
    let create = |token, id: &str| {
        let message = v1::CreateTenantRequest { name: "Acme".to_owned(), ..Default::default() };
        let mut request = with_token(token, message);
        request.metadata_mut().insert("x-request-id", id.parse().unwrap());
        request
    };
    let created = service.admin().create_tenant(create(tokens[0], "by-the-operator")).await.unwrap();
    let refused = service.admin().create_tenant(create(tokens[1], "by-nobody")).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);

    let tenant_id = created.into_inner().tenant.unwrap().tenant_id;
    let list = v1::ListAuditEventsRequest { tenant_id, ..Default::default() };
    let events =
        service.admin().list_audit_events(with_token(tokens[0], list)).await.unwrap().into_inner().events;
    assert_eq!(events.iter().map(|event| &*event.caller).collect::<Vec<_>>(), ["operator"]);

    // A token that was written into the file by mistake.
    std::fs::write(file.path(), format!("[[caller]]\nname = 'a'\nroles = []\ntoken = '{}'\n", tokens[1]))
        .unwrap();
    service.running.reloader()();

    for (id, caller) in [("by-the-operator", "operator"), ("by-nobody", "unauthenticated@127.0.0.1")] {
        let of_it = |line: &str| line.contains(id) && line.contains(r#""target":"tenant_auth::rpc""#);
        let lines = log.lines(1, of_it).await;
        assert!(lines[0].contains(&format!(r#""caller":"{caller}""#)), "{lines:?}");
    }
    let text = log.text();
    assert!(text.contains("reload refused; the previous content stays in effect"));
    for token in tokens {
        let shown = text.lines().find(|line| line.contains(token));
        assert!(shown.is_none(), "a token is in the log: {shown:?}");
    }
    assert!(!format!("{refused:?}").contains("canary"), "{refused:?}");
}

#[tokio::test]
async fn every_caller_is_allowed_without_callers_file() {
    let service = TestService::start(&TestDatabase::embedded()).await;
    for authorization in [None, Some("Bearer whatever")] {
        call_path(&service.channel, INFO, authorization).await.unwrap();
    }
    let request = v1::GetServerInfoRequest::default();
    InfoServiceClient::new(service.channel.clone()).get_server_info(request).await.unwrap();
    service.create_tenant("Acme").await;
}
