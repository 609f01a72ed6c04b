//! The roles that may call each RPC. An RPC without a rule is denied to everyone.

use super::role::{Role, Roles};

/// Who may call an RPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Any client that can connect. Probes and tools may have no token.
    Anyone,
    /// Any known caller.
    AnyCaller,
    /// Callers with one of these roles.
    Roles(Roles),
    /// No caller: the RPC has no rule.
    Denied,
}

const fn any_of(roles: &[Role]) -> Access {
    Access::Roles(Roles::of(roles))
}

const VALIDATE: Access = any_of(&[Role::Validator]);
const BIND_SESSION: Access = any_of(&[Role::Sessions]);
const READ_ADMIN: Access = any_of(&[Role::Admin, Role::Auditor]);
const WRITE_ADMIN: Access = any_of(&[Role::Admin]);

/// Who may call `/forward-auth`, in all its forms.
pub const FORWARD_AUTH_ACCESS: Access = any_of(&[Role::Proxy]);
/// Who may call `/oauth2/introspect`.
pub const INTROSPECTION_ACCESS: Access = VALIDATE;

/// The access rules, the most frequently called RPCs first: the list is searched in this order.
const ACCESS_RULES: &[(&str, Access)] = &[
    ("/tenantauth.v1.ValidationService/ValidateKey", VALIDATE),
    ("/tenantauth.v1.ValidationService/BatchValidateKeys", VALIDATE),
    ("/envoy.service.auth.v3.Authorization/Check", any_of(&[Role::Proxy])),
    ("/tenantauth.v1.ValidationService/StreamValidateKeys", VALIDATE),
    ("/tenantauth.v1.ValidationService/ValidateSession", VALIDATE),
    ("/tenantauth.v1.UsageService/RecordUsage", any_of(&[Role::Meter])),
    ("/tenantauth.v1.SessionService/BindSession", BIND_SESSION),
    // An admin may end sessions that another caller opened.
    ("/tenantauth.v1.SessionService/UnbindSession", any_of(&[Role::Sessions, Role::Admin])),
    ("/tenantauth.v1.SessionService/ListSessions", any_of(&[Role::Sessions, Role::Admin, Role::Auditor])),
    ("/tenantauth.v1.WatchService/Watch", VALIDATE),
    ("/tenantauth.v1.UsageService/QueryUsage", any_of(&[Role::Reporter, Role::Admin, Role::Auditor])),
    ("/tenantauth.v1.AdminService/CreateTenant", WRITE_ADMIN),
    ("/tenantauth.v1.AdminService/UpdateTenant", WRITE_ADMIN),
    ("/tenantauth.v1.AdminService/GetTenant", READ_ADMIN),
    ("/tenantauth.v1.AdminService/ListTenants", READ_ADMIN),
    ("/tenantauth.v1.AdminService/SuspendTenant", WRITE_ADMIN),
    ("/tenantauth.v1.AdminService/ResumeTenant", WRITE_ADMIN),
    ("/tenantauth.v1.AdminService/DeleteTenant", WRITE_ADMIN),
    ("/tenantauth.v1.AdminService/IssueKey", WRITE_ADMIN),
    ("/tenantauth.v1.AdminService/ImportKeys", WRITE_ADMIN),
    ("/tenantauth.v1.AdminService/UpdateKey", WRITE_ADMIN),
    ("/tenantauth.v1.AdminService/RotateKey", WRITE_ADMIN),
    ("/tenantauth.v1.AdminService/RevokeKey", WRITE_ADMIN),
    ("/tenantauth.v1.AdminService/GetKey", READ_ADMIN),
    ("/tenantauth.v1.AdminService/InspectKey", READ_ADMIN),
    ("/tenantauth.v1.AdminService/ExplainKey", READ_ADMIN),
    ("/tenantauth.v1.AdminService/ReportLeak", WRITE_ADMIN),
    ("/tenantauth.v1.AdminService/ListKeys", READ_ADMIN),
    ("/tenantauth.v1.AdminService/ListAuditEvents", READ_ADMIN),
    ("/tenantauth.v1.AdminService/GetDatabaseState", READ_ADMIN),
    ("/tenantauth.v1.AdminService/AcceptDatabase", WRITE_ADMIN),
    ("/tenantauth.v1.AdminService/GetOutageGrace", READ_ADMIN),
    ("/tenantauth.v1.AdminService/SetOutageGrace", WRITE_ADMIN),
    ("/tenantauth.v1.AdminService/ResetOutageGrace", WRITE_ADMIN),
    ("/tenantauth.v1.InfoService/GetServerInfo", Access::AnyCaller),
    ("/tenantauth.v1.InfoService/WaitForRevision", Access::AnyCaller),
    ("/tenantauth.v1.InfoService/GetPrincipalKeys", Access::AnyCaller),
    ("/grpc.health.v1.Health/Check", Access::Anyone),
    ("/grpc.health.v1.Health/Watch", Access::Anyone),
    ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Access::Anyone),
    ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", Access::Anyone),
];

/// Returns the rule for the RPC with a path such as `/tenantauth.v1.InfoService/GetServerInfo`.
#[must_use]
pub fn access(path: &str) -> Access {
    ACCESS_RULES.iter().find(|(rpc, _)| *rpc == path).map_or(Access::Denied, |(_, access)| *access)
}

/// Returns all rules: the path of the RPC, and who may call it.
pub fn access_rules() -> impl Iterator<Item = (&'static str, Access)> {
    ACCESS_RULES.iter().copied()
}
