//! The deletion of a tenant that a replay makes again.

use serde::Deserialize;
use tenant_auth_client::{AdminClient, Error, proto};

use crate::time::Moment;

/// A deletion in the audit log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Deletion {
    /// When it began. A tenant that was created later is another one with the same id.
    pub(super) at: Moment,
    pub(super) with_usage: bool,
}

/// The detail of a deletion in the audit log.
#[derive(Debug, Deserialize)]
struct DeletionDetail {
    usage: String,
}

impl Deletion {
    /// Reads the detail of an audit log entry. Usage is kept if that is unclear.
    pub(super) fn parse(at: Moment, detail: Option<&str>) -> Self {
        let detail = detail.and_then(|detail| serde_json::from_str::<DeletionDetail>(detail).ok());
        Self { at, with_usage: detail.is_some_and(|detail| detail.usage == "deleted") }
    }

    /// Deletes the tenant, or its kept usage if it is deleted.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the database does not have the tenant that was deleted.
    pub(super) async fn send(self, admin: &AdminClient, tenant_id: &str, reason: &str) -> Result<(), Error> {
        let absent = match admin.get_tenant(tenant_id).await {
            Ok(tenant) => {
                let is_later = tenant.created_at.is_some_and(|created| Moment::from(created) > self.at);
                if is_later {
                    let message = format!("the tenant {tenant_id} of that time");
                    return Err(Error::NotFound { message, reason: None });
                }
                if tenant.deletion_started_at.is_none() {
                    admin.suspend_tenant(tenant_id, reason).await?;
                }
                None
            }
            Err(absent @ Error::NotFound { .. }) => Some(absent),
            Err(error) => return Err(error),
        };
        if let Some(absent) = absent
            && !self.with_usage
        {
            return Err(absent);
        }
        let request = proto::DeleteTenantRequest {
            tenant_id: tenant_id.to_owned(),
            reason: reason.to_owned(),
            delete_usage: self.with_usage,
        };
        while !admin.delete_tenant(request.clone()).await?.complete {}
        Ok(())
    }
}
