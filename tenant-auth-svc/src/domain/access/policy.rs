//! Which role may call which RPC. What is not here may be called by nobody.

use super::role::{Role, Roles};

/// Who may call an RPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Whoever can connect: probes and tools cannot be expected to carry a token.
    Anyone,
    /// Every caller that is known.
    Known,
    /// Callers with one of these roles.
    Roles(Roles),
    /// Nobody: there is no rule for it.
    Nobody,
}

const fn of(roles: &[Role]) -> Access {
    Access::Roles(Roles::of(roles))
}

const VALIDATE: Access = of(&[Role::Validator]);
const BIND: Access = of(&[Role::Sessions]);
const SEE: Access = of(&[Role::Admin, Role::Auditor]);
const CHANGE: Access = of(&[Role::Admin]);

/// The rules, the most frequent first: they are looked through in this order.
const RULES: &[(&str, Access)] = &[
    ("/tenantauth.v1.ValidationService/ValidateKey", VALIDATE),
    ("/tenantauth.v1.ValidationService/BatchValidateKeys", VALIDATE),
    ("/tenantauth.v1.ValidationService/StreamValidateKeys", VALIDATE),
    ("/tenantauth.v1.ValidationService/ValidateSession", VALIDATE),
    ("/tenantauth.v1.UsageService/RecordUsage", of(&[Role::Meter])),
    ("/tenantauth.v1.SessionService/BindSession", BIND),
    // An admin may end what a caller has opened.
    ("/tenantauth.v1.SessionService/UnbindSession", of(&[Role::Sessions, Role::Admin])),
    ("/tenantauth.v1.SessionService/ListSessions", of(&[Role::Sessions, Role::Admin, Role::Auditor])),
    ("/tenantauth.v1.WatchService/Watch", VALIDATE),
    ("/tenantauth.v1.UsageService/QueryUsage", of(&[Role::Reporter, Role::Admin, Role::Auditor])),
    ("/tenantauth.v1.AdminService/CreateTenant", CHANGE),
    ("/tenantauth.v1.AdminService/GetTenant", SEE),
    ("/tenantauth.v1.AdminService/ListTenants", SEE),
    ("/tenantauth.v1.AdminService/SuspendTenant", CHANGE),
    ("/tenantauth.v1.AdminService/ResumeTenant", CHANGE),
    ("/tenantauth.v1.AdminService/IssueKey", CHANGE),
    ("/tenantauth.v1.AdminService/ImportKeys", CHANGE),
    ("/tenantauth.v1.AdminService/RotateKey", CHANGE),
    ("/tenantauth.v1.AdminService/RevokeKey", CHANGE),
    ("/tenantauth.v1.AdminService/GetKey", SEE),
    ("/tenantauth.v1.AdminService/InspectKey", SEE),
    ("/tenantauth.v1.AdminService/ListKeys", SEE),
    ("/tenantauth.v1.AdminService/ListAuditEvents", SEE),
    ("/tenantauth.v1.AdminService/GetDatabaseState", SEE),
    ("/tenantauth.v1.AdminService/AcceptDatabase", CHANGE),
    ("/tenantauth.v1.AdminService/GetOutageGrace", SEE),
    ("/tenantauth.v1.AdminService/SetOutageGrace", CHANGE),
    ("/tenantauth.v1.AdminService/ResetOutageGrace", CHANGE),
    ("/tenantauth.v1.InfoService/GetServerInfo", Access::Known),
    ("/grpc.health.v1.Health/Check", Access::Anyone),
    ("/grpc.health.v1.Health/Watch", Access::Anyone),
    ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Access::Anyone),
    ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", Access::Anyone),
];

/// The rule for the RPC at a path such as `/tenantauth.v1.InfoService/GetServerInfo`.
#[must_use]
pub fn access(path: &str) -> Access {
    RULES.iter().find(|(rpc, _)| *rpc == path).map_or(Access::Nobody, |(_, access)| *access)
}

/// Every rule: the RPC's path, and who may call it.
pub fn rules() -> impl Iterator<Item = (&'static str, Access)> {
    RULES.iter().copied()
}
