//! Reading what is kept under a request's id.

use crate::{
    domain::{
        id::TenantId,
        store::{FailureKind, StoreError},
        usage::{Kept, Payload, Refusal},
    },
    store::{engine::Row, sql::unreadable},
};

pub(super) fn kept(row: &Row) -> Result<Kept, StoreError> {
    let missing = || StoreError::new(FailureKind::Garbled, "a request just recorded is not there");
    let mut payload = [0; 32];
    let hash = row.optional_text(1)?.ok_or_else(missing)?;
    hex::decode_to_slice(hash, &mut payload).map_err(|why| unreadable("payload", why))?;
    let refused: Vec<(usize, String)> =
        serde_json::from_str(row.text(3)?).map_err(|why| unreadable("refusal", why))?;
    let tenants: Vec<String> =
        serde_json::from_str(row.text(4)?).map_err(|why| unreadable("list of tenants", why))?;
    let refusal = |(index, name): (usize, String)| {
        Refusal::parse(&name).map(|refusal| (index, refusal)).ok_or_else(|| unreadable("refusal", name))
    };
    let tenant = |id: String| TenantId::parse(&id).map_err(|why| unreadable("tenant id", why));
    Ok(Kept {
        payload: Payload::from_bytes(payload),
        refused: refused.into_iter().map(refusal).collect::<Result<_, _>>()?,
        unknown_tenants: tenants.into_iter().map(tenant).collect::<Result<_, _>>()?,
        already_recorded: row.integer(2)? == 0,
    })
}
