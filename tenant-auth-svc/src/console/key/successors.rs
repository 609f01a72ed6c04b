//! The keys by which a key was replaced, one after the other.

use maud::{Markup, html};
use tenant_auth_proto::v1;

use crate::console::{
    html::{id, timestamp},
    parts::answer,
    paths,
    person::Person,
    rpc::call,
};

/// How many successors are shown.
const MAX_SUCCESSORS: usize = 5;

/// Reads the successors of a key. Those that cannot be read are left out.
pub(super) async fn read(person: &Person, key: &v1::ApiKey) -> Vec<v1::ApiKey> {
    let mut successors = Vec::new();
    let mut next = key.replaced_by_key_id.clone();
    while !next.is_empty() && successors.len() < MAX_SUCCESSORS {
        let request = v1::GetKeyRequest { key_id: next.clone() };
        let Ok(v1::GetKeyResponse { key: Some(successor), .. }) =
            answer(person.rpc.admin().get_key(call(request)).await)
        else {
            break;
        };
        next.clone_from(&successor.replaced_by_key_id);
        successors.push(successor);
    }
    successors
}

/// The chain of keys, from a key on.
pub(super) fn show(key: &v1::ApiKey, successors: &[v1::ApiKey]) -> Markup {
    if key.replaced_by_key_id.is_empty() {
        return html! {};
    }
    html! {
        section {
            h2 { "Replaced by" }
            @if successors.is_empty() {
                p { a href=(paths::key(&key.replaced_by_key_id)) { (id(&key.replaced_by_key_id)) } }
            } @else {
                ol {
                    @for successor in successors {
                        li {
                            a href=(paths::key(&successor.key_id)) { (id(&successor.key_id)) }
                            ", issued " (timestamp(successor.created_at.as_ref(), ""))
                            ", last used " (timestamp(successor.last_used_at.as_ref(), "not yet"))
                        }
                    }
                }
            }
        }
    }
}
