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
const READ_LIMITS: Access =
    any_of(&[Role::Validator, Role::Reporter, Role::Admin, Role::Auditor, Role::Viewer, Role::Operator]);
const READ_ADMIN: Access = any_of(&[Role::Admin, Role::Auditor, Role::Viewer, Role::Operator]);
const WRITE_ADMIN: Access = any_of(&[Role::Admin, Role::Operator]);
const END_SESSIONS: Access = any_of(&[Role::Sessions, Role::Admin, Role::Operator]);
const READ_SESSIONS: Access =
    any_of(&[Role::Sessions, Role::Admin, Role::Auditor, Role::Viewer, Role::Operator]);
const READ_USAGE: Access =
    any_of(&[Role::Reporter, Role::Admin, Role::Auditor, Role::Viewer, Role::Operator]);

/// Who may call `/forward-auth`, in all its forms.
pub const FORWARD_AUTH_ACCESS: Access = any_of(&[Role::Proxy]);
/// Who may call `/oauth2/introspect`.
pub const INTROSPECTION_ACCESS: Access = VALIDATE;
/// Who may log in to the console.
pub const CONSOLE_ROLES: Roles = Roles::of(&[Role::Viewer, Role::Operator]);

/// The access rules, the most frequently called RPCs first: the list is searched in this order.
const ACCESS_RULES: &[(&str, Access)] = &[
    ("/tenantauth.v1.ValidationService/ValidateKey", VALIDATE),
    ("/tenantauth.v1.ValidationService/BatchValidateKeys", VALIDATE),
    ("/envoy.service.auth.v3.Authorization/Check", any_of(&[Role::Proxy])),
    ("/tenantauth.v1.ValidationService/StreamValidateKeys", VALIDATE),
    ("/tenantauth.v1.ValidationService/ValidateSession", VALIDATE),
    ("/tenantauth.v1.LimitService/Consume", VALIDATE),
    ("/tenantauth.v1.LimitService/BatchConsume", VALIDATE),
    ("/tenantauth.v1.LimitService/StreamConsume", VALIDATE),
    ("/tenantauth.v1.LimitService/Reserve", VALIDATE),
    ("/tenantauth.v1.LimitService/Settle", VALIDATE),
    ("/tenantauth.v1.LimitService/Cancel", VALIDATE),
    ("/tenantauth.v1.LimitService/GetLimitState", READ_LIMITS),
    ("/tenantauth.v1.UsageService/RecordUsage", any_of(&[Role::Meter])),
    ("/tenantauth.v1.SessionService/BindSession", BIND_SESSION),
    // An admin may end sessions that another caller opened.
    ("/tenantauth.v1.SessionService/UnbindSession", END_SESSIONS),
    ("/tenantauth.v1.SessionService/ListSessions", READ_SESSIONS),
    ("/tenantauth.v1.WatchService/Watch", VALIDATE),
    ("/tenantauth.v1.UsageService/QueryUsage", READ_USAGE),
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
    ("/tenantauth.v1.AdminService/SetLimit", WRITE_ADMIN),
    ("/tenantauth.v1.AdminService/GetLimit", READ_ADMIN),
    ("/tenantauth.v1.AdminService/ListLimits", READ_ADMIN),
    ("/tenantauth.v1.AdminService/DeleteLimit", WRITE_ADMIN),
    ("/tenantauth.v1.AdminService/AddCredits", WRITE_ADMIN),
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
