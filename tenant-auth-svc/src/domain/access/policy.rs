//! Which role may call which RPC. What is not here may be called by nobody.

use super::role::{Role, Roles};

/// Who may call an RPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Whoever can connect: probes and tools cannot be expected to carry a token.
    Anyone,
    /// Every caller that is known.
    AnyCaller,
    /// Callers with one of these roles.
    Roles(Roles),
    /// Nobody: there is no rule for it.
    Nobody,
}

const fn any_of(roles: &[Role]) -> Access {
    Access::Roles(Roles::of(roles))
}

const VALIDATE: Access = any_of(&[Role::Validator]);
const BIND_SESSION: Access = any_of(&[Role::Sessions]);
const READ_ADMIN: Access = any_of(&[Role::Admin, Role::Auditor]);
const WRITE_ADMIN: Access = any_of(&[Role::Admin]);

/// The rules, the most frequent first: they are looked through in this order.
const ACCESS_RULES: &[(&str, Access)] = &[
    ("/tenantauth.v1.ValidationService/ValidateKey", VALIDATE),
    ("/tenantauth.v1.ValidationService/BatchValidateKeys", VALIDATE),
    ("/tenantauth.v1.ValidationService/StreamValidateKeys", VALIDATE),
    ("/tenantauth.v1.ValidationService/ValidateSession", VALIDATE),
    ("/tenantauth.v1.UsageService/RecordUsage", any_of(&[Role::Meter])),
    ("/tenantauth.v1.SessionService/BindSession", BIND_SESSION),
    // An admin may end what a caller has opened.
    ("/tenantauth.v1.SessionService/UnbindSession", any_of(&[Role::Sessions, Role::Admin])),
    ("/tenantauth.v1.SessionService/ListSessions", any_of(&[Role::Sessions, Role::Admin, Role::Auditor])),
    ("/tenantauth.v1.WatchService/Watch", VALIDATE),
    ("/tenantauth.v1.UsageService/QueryUsage", any_of(&[Role::Reporter, Role::Admin, Role::Auditor])),
    ("/tenantauth.v1.AdminService/CreateTenant", WRITE_ADMIN),
    ("/tenantauth.v1.AdminService/GetTenant", READ_ADMIN),
    ("/tenantauth.v1.AdminService/ListTenants", READ_ADMIN),
    ("/tenantauth.v1.AdminService/SuspendTenant", WRITE_ADMIN),
    ("/tenantauth.v1.AdminService/ResumeTenant", WRITE_ADMIN),
    ("/tenantauth.v1.AdminService/IssueKey", WRITE_ADMIN),
    ("/tenantauth.v1.AdminService/ImportKeys", WRITE_ADMIN),
    ("/tenantauth.v1.AdminService/RotateKey", WRITE_ADMIN),
    ("/tenantauth.v1.AdminService/RevokeKey", WRITE_ADMIN),
    ("/tenantauth.v1.AdminService/GetKey", READ_ADMIN),
    ("/tenantauth.v1.AdminService/InspectKey", READ_ADMIN),
    ("/tenantauth.v1.AdminService/ListKeys", READ_ADMIN),
    ("/tenantauth.v1.AdminService/ListAuditEvents", READ_ADMIN),
    ("/tenantauth.v1.AdminService/GetDatabaseState", READ_ADMIN),
    ("/tenantauth.v1.AdminService/AcceptDatabase", WRITE_ADMIN),
    ("/tenantauth.v1.AdminService/GetOutageGrace", READ_ADMIN),
    ("/tenantauth.v1.AdminService/SetOutageGrace", WRITE_ADMIN),
    ("/tenantauth.v1.AdminService/ResetOutageGrace", WRITE_ADMIN),
    ("/tenantauth.v1.InfoService/GetServerInfo", Access::AnyCaller),
    ("/grpc.health.v1.Health/Check", Access::Anyone),
    ("/grpc.health.v1.Health/Watch", Access::Anyone),
    ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Access::Anyone),
    ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", Access::Anyone),
];

/// The rule for the RPC at a path such as `/tenantauth.v1.InfoService/GetServerInfo`.
#[must_use]
pub fn access(path: &str) -> Access {
    ACCESS_RULES.iter().find(|(rpc, _)| *rpc == path).map_or(Access::Nobody, |(_, access)| *access)
}

/// Every rule: the RPC's path, and who may call it.
pub fn access_rules() -> impl Iterator<Item = (&'static str, Access)> {
    ACCESS_RULES.iter().copied()
}
