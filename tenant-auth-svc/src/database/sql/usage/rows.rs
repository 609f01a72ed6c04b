//! Decodes the stored outcome of a request.

use crate::{
    database::{engine::Row, sql::values::unreadable_value},
    domain::{
        id::TenantId,
        store::StoreError,
        usage::{EventRefusal, PayloadHash, StoredOutcome},
    },
};

pub(super) fn read_outcome(row: &Row) -> Result<StoredOutcome, StoreError> {
    let mut payload = [0; 32];
    hex::decode_to_slice(row.text(1)?, &mut payload).map_err(|_| unreadable_value("payload"))?;
    let refused: Vec<(usize, String)> =
        serde_json::from_str(row.text(3)?).map_err(|_| unreadable_value("refusal"))?;
    let tenants: Vec<String> =
        serde_json::from_str(row.text(4)?).map_err(|_| unreadable_value("list of tenants"))?;
    let refusal = |(index, name): (usize, String)| {
        EventRefusal::parse(&name).map(|refusal| (index, refusal)).ok_or_else(|| unreadable_value("refusal"))
    };
    let tenant = |id: String| TenantId::parse(&id).map_err(|_| unreadable_value("tenant id"));
    Ok(StoredOutcome {
        payload: PayloadHash::from_bytes(payload),
        refused: refused.into_iter().map(refusal).collect::<Result<_, _>>()?,
        unknown_tenants: tenants.into_iter().map(tenant).collect::<Result<_, _>>()?,
        already_recorded: row.integer(2)? == 0,
    })
}
