//! Reading what is kept under a request's id.

use crate::{
    database::{engine::Row, sql::unreadable},
    domain::{
        id::TenantId,
        store::StoreError,
        usage::{Kept, Payload, Refusal},
    },
};

pub(super) fn kept(row: &Row) -> Result<Kept, StoreError> {
    let mut payload = [0; 32];
    hex::decode_to_slice(row.text(1)?, &mut payload).map_err(|_| unreadable("payload"))?;
    let refused: Vec<(usize, String)> =
        serde_json::from_str(row.text(3)?).map_err(|_| unreadable("refusal"))?;
    let tenants: Vec<String> =
        serde_json::from_str(row.text(4)?).map_err(|_| unreadable("list of tenants"))?;
    let refusal = |(index, name): (usize, String)| {
        Refusal::parse(&name).map(|refusal| (index, refusal)).ok_or_else(|| unreadable("refusal"))
    };
    let tenant = |id: String| TenantId::parse(&id).map_err(|_| unreadable("tenant id"));
    Ok(Kept {
        payload: Payload::from_bytes(payload),
        refused: refused.into_iter().map(refusal).collect::<Result<_, _>>()?,
        unknown_tenants: tenants.into_iter().map(tenant).collect::<Result<_, _>>()?,
        already_recorded: row.integer(2)? == 0,
    })
}
