//! Changes of a key.

use std::sync::Arc;

use axum::{
    extract::{Path, State},
    response::Response,
};
use http::StatusCode;
use prost_types::{Duration, FieldMask};
use serde::Deserialize;
use tenant_auth_proto::v1;
use zeroize::Zeroizing;

use crate::{
    console::{
        Console, applied,
        change::Change,
        entered::{days_from_now, whole_number},
        failure::Failure,
        new_key,
        parts::answer,
        paths,
        person::Person,
        reason::GivenReason,
        rpc::call,
        sent_forms::FormId,
        tenant::changes::{OnlyReason, changed, is_uncertain},
    },
    domain::clock::UnixMillis,
};

/// The longest overlap, in hours: 90 days.
const MAX_OVERLAP_HOURS: u32 = 90 * 24;

/// When a successor expires.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Expiry {
    Kept,
    Never,
    Days,
}

/// A key to replace.
#[derive(Debug, Deserialize)]
pub(in crate::console) struct RotateForm {
    form_id: FormId,
    overlap_hours: String,
    expiry: Expiry,
    #[serde(default)]
    expires_in_days: String,
    reason: GivenReason,
}

impl RotateForm {
    fn request(self, key_id: String, now: UnixMillis) -> Result<v1::RotateKeyRequest, Failure> {
        let hours = whole_number(&self.overlap_hours, "hours", 0..=MAX_OVERLAP_HOURS)?;
        let overlap = hours.map(|hours| Duration { seconds: i64::from(hours) * 3_600, nanos: 0 });
        let expires_at = match self.expiry {
            Expiry::Kept | Expiry::Never => None,
            Expiry::Days => Some(days_from_now(&self.expires_in_days, now)?.ok_or_else(|| {
                Failure::new(StatusCode::BAD_REQUEST, "Enter the number of days, or choose another expiry.")
            })?),
        };
        Ok(v1::RotateKeyRequest {
            key_id,
            overlap,
            expires_at,
            no_expiry: matches!(self.expiry, Expiry::Never),
            reason: self.reason.into_text(),
        })
    }
}

pub(in crate::console) async fn revoke(
    Path(key_id): Path<String>,
    Change { person, fields }: Change<OnlyReason>,
) -> Response {
    let path = paths::key(&key_id);
    let request = v1::RevokeKeyRequest { key_id, reason: fields.reason.into_text() };
    match answer(person.rpc.admin().revoke_key(call(request)).await) {
        Ok(revoked) => changed(&path, revoked.revision),
        Err(failure) => failure.page(&person),
    }
}

pub(in crate::console) async fn pause(
    Path(key_id): Path<String>,
    Change { person, fields }: Change<OnlyReason>,
) -> Response {
    set_enabled(&person, key_id, false, fields.reason).await
}

pub(in crate::console) async fn resume(
    Path(key_id): Path<String>,
    Change { person, fields }: Change<OnlyReason>,
) -> Response {
    set_enabled(&person, key_id, true, fields.reason).await
}

async fn set_enabled(person: &Person, key_id: String, enabled: bool, reason: GivenReason) -> Response {
    let path = paths::key(&key_id);
    let request = v1::UpdateKeyRequest {
        key_id,
        update_mask: Some(FieldMask { paths: vec!["enabled".to_owned()] }),
        enabled,
        reason: reason.into_text(),
        ..Default::default()
    };
    match answer(person.rpc.admin().update_key(call(request)).await) {
        Ok(updated) => changed(&path, updated.revision),
        Err(failure) => failure.page(person),
    }
}

pub(in crate::console) async fn rotate(
    State(console): State<Arc<Console>>,
    Path(key_id): Path<String>,
    Change { person, fields }: Change<RotateForm>,
) -> Response {
    let path = paths::key(&key_id);
    let form_id = fields.form_id.clone();
    let checked = form_id.check().and_then(|()| fields.request(key_id, console.parts.clock.now()));
    let request = match checked {
        Ok(request) => request,
        Err(failure) => return failure.page(&person),
    };
    if let Err(sent) = console.sent_forms.begin(&form_id) {
        return new_key::sent_before(&person, &sent, &path);
    }
    let v1::RotateKeyResponse { key, plaintext, replaced, revision } =
        match answer(person.rpc.admin().rotate_key(call(request)).await) {
            Ok(rotated) => rotated,
            Err(failure) if is_uncertain(&failure) => return new_key::uncertain(&person, &failure, &path),
            Err(failure) => {
                console.sent_forms.forget(&form_id);
                return failure.page(&person);
            }
        };
    let (key, plaintext) = (key.unwrap_or_default(), Zeroizing::new(plaintext));
    console.sent_forms.settle(&form_id, &key.key_id);
    let applied = applied::part(&console, &person, revision).await;
    new_key::show(&person, (&key, &plaintext), replaced.as_ref(), &applied)
}
