//! Finds a tenant or a key by whatever a person has: an id, a name, the first characters of a key, or a whole key.
//!
//! A whole key is only compared by its hash. It comes in the body of a form and goes nowhere else: not into an address, a log or
//! a page.

use std::{collections::HashSet, sync::Arc};

use axum::{
    extract::State,
    response::{IntoResponse as _, Redirect, Response},
};
use http::StatusCode;
use maud::{Markup, html};
use serde::Deserialize;
use tenant_auth_proto::v1;
use zeroize::Zeroizing;

use super::{
    Console,
    change::Question,
    html::{Place, text},
    keys,
    parts::{self, Answer, answer, failed, found},
    paths,
    person::Person,
    rpc::call,
    tenants::{self, PAGE_SIZE},
};
use crate::domain::{
    id::TenantId,
    key::key_text,
    text::{NamePrefix, PrefixHint},
};

const TITLE: &str = "Find";
/// The shape of the ids that the service generates: a prefix, and this many hexadecimal digits.
const ID_DIGITS: usize = 32;

/// What a person looks for.
#[derive(Deserialize)]
pub(super) struct Sought {
    text: Zeroizing<String>,
}

/// What was found.
#[derive(Default)]
struct Found {
    tenants: Vec<v1::Tenant>,
    keys: Vec<v1::ApiKey>,
    /// Whether there is more than is listed.
    has_more: bool,
}

impl Found {
    fn with_keys(mut self, listed: v1::ListKeysResponse) -> Self {
        self.has_more |= !listed.next_page_token.is_empty();
        self.keys = listed.keys;
        self
    }

    /// Adds what else was found, without repetition.
    fn add(&mut self, other: Self) {
        let known: HashSet<_> = self.keys.iter().map(|key| key.key_id.clone()).collect();
        self.keys.extend(other.keys.into_iter().filter(|key| !known.contains(&key.key_id)));
        self.tenants.extend(other.tenants);
        self.has_more |= other.has_more;
    }
}

pub(super) async fn find(
    State(console): State<Arc<Console>>,
    Question { person, fields }: Question<Sought>,
) -> Response {
    let sought = fields.text.trim();
    match search(&person, sought).await {
        Ok(Outcome::Page(path)) => Redirect::to(&path).into_response(),
        Ok(Outcome::Note(note)) => {
            found(&person, StatusCode::OK, TITLE, &html! { h1 { "Nothing was found" } p.empty { (note) } })
        }
        Ok(Outcome::List(listed)) => {
            let now = console.parts.clock.now();
            let content = html! {
                h1 { "Found" }
                @if !listed.tenants.is_empty() { h2 { "Tenants" } (tenants::table(&listed.tenants)) }
                @if !listed.keys.is_empty() { h2 { "Keys" } (keys::table(&listed.keys, now, true)) }
                @if listed.has_more { p { "There are more: enter more characters." } }
            };
            found(&person, StatusCode::OK, TITLE, &content)
        }
        Err(failure) => failed(&person, Place::Tenants, TITLE, &failure, &html! {}),
    }
}

enum Outcome {
    /// There is one: its page.
    Page(String),
    List(Found),
    /// There is none.
    Note(Markup),
}

async fn search(person: &Person, sought: &str) -> Answer<Outcome> {
    if sought.is_empty() {
        return Ok(Outcome::Note(
            html! { "Enter an id, a name, the first characters of a key, or a whole key." },
        ));
    }
    if is_generated(sought, "key_") {
        return Ok(Outcome::Page(paths::key(sought)));
    }
    if is_generated(sought, "ten_") {
        return Ok(Outcome::Page(paths::tenant(sought)));
    }
    let mut is_damaged = false;
    if key_text::check(sought).is_ok() {
        match whole_key(person, sought).await? {
            WholeKey::Known(id) => return Ok(Outcome::Page(paths::key(&id))),
            WholeKey::OnDenyList => {
                return Ok(Outcome::Note(html! {
                    "The deny list of this replica refuses this key, and the database does not contain it."
                }));
            }
            WholeKey::Damaged => is_damaged = true,
            WholeKey::Unknown => {}
        }
    }
    let may_be_beginning = PrefixHint::parse(sought).is_ok() && key_text::check_characters(sought).is_ok();
    // It is nearly a key, so it goes no further.
    if is_damaged && !may_be_beginning {
        return Ok(Outcome::Note(html! {
            "The text begins like a key of this service, and is none: it was cut off or changed, or the key was deleted with its "
            "tenant. Search for its first " (PrefixHint::MAX_CHARS) " characters."
        }));
    }
    if let Some(path) = exact_id(person, sought).await? {
        return Ok(Outcome::Page(path));
    }
    let (mut listed, by_name) =
        tokio::try_join!(by_beginning(person, sought, may_be_beginning), by_name(person, sought))?;
    listed.add(by_name);
    Ok(match (&listed.tenants[..], &listed.keys[..]) {
        ([], []) => Outcome::Note(nothing(sought)),
        ([tenant], []) => Outcome::Page(paths::tenant(&tenant.tenant_id)),
        ([], [key]) => Outcome::Page(paths::key(&key.key_id)),
        _ => Outcome::List(listed),
    })
}

async fn by_beginning(person: &Person, sought: &str, may_be_beginning: bool) -> Answer<Found> {
    if !may_be_beginning {
        return Ok(Found::default());
    }
    let keys = v1::ListKeysRequest { prefix: sought.to_owned(), ..all_keys() };
    Ok(Found::default().with_keys(answer(person.rpc.admin().list_keys(call(keys)).await)?))
}

async fn by_name(person: &Person, sought: &str) -> Answer<Found> {
    if NamePrefix::parse(sought).is_err() {
        return Ok(Found::default());
    }
    let name_prefix = sought.to_owned();
    let keys = v1::ListKeysRequest { name_prefix: name_prefix.clone(), ..all_keys() };
    let tenants = v1::ListTenantsRequest { name_prefix, page_size: PAGE_SIZE, ..Default::default() };
    let (mut admin, mut same) = (person.rpc.admin(), person.rpc.admin());
    let (tenants, keys) = tokio::join!(admin.list_tenants(call(tenants)), same.list_keys(call(keys)));
    let (tenants, keys) = (answer(tenants)?, answer(keys)?);
    let has_more = !tenants.next_page_token.is_empty();
    Ok(Found { tenants: tenants.tenants, has_more, ..Found::default() }.with_keys(keys))
}

fn all_keys() -> v1::ListKeysRequest {
    v1::ListKeysRequest { page_size: PAGE_SIZE, include_inactive: true, ..Default::default() }
}

/// What a text is, as a whole key.
enum WholeKey {
    Known(String),
    OnDenyList,
    /// It begins like a key of this service.
    Damaged,
    Unknown,
}

async fn whole_key(person: &Person, plaintext: &str) -> Answer<WholeKey> {
    let request = v1::ExplainKeyRequest { plaintext: plaintext.to_owned(), ..Default::default() };
    let explained = answer(person.rpc.admin().explain_key(call(request)).await)?;
    if !explained.key_id.is_empty() {
        return Ok(WholeKey::Known(explained.key_id));
    }
    if let Some(error) = &explained.database_error {
        return Err(parts::failure(error));
    }
    Ok(match explained.verdict() {
        _ if explained.denied_by_list => WholeKey::OnDenyList,
        v1::Verdict::Malformed => WholeKey::Damaged,
        _ => WholeKey::Unknown,
    })
}

/// The page of the tenant or key with exactly this id.
async fn exact_id(person: &Person, sought: &str) -> Answer<Option<String>> {
    if TenantId::parse(sought).is_ok() {
        let request = v1::GetTenantRequest { tenant_id: sought.to_owned() };
        match answer(person.rpc.admin().get_tenant(call(request)).await) {
            Ok(_) => return Ok(Some(paths::tenant(sought))),
            Err(failure) if failure.status() == StatusCode::NOT_FOUND => {}
            Err(failure) => return Err(failure),
        }
    }
    Ok(None)
}

/// Whether a text has the shape of a generated id, which no key has.
fn is_generated(text: &str, prefix: &str) -> bool {
    let digits = text.strip_prefix(prefix).unwrap_or_default();
    digits.len() == ID_DIGITS && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn nothing(sought: &str) -> Markup {
    html! {
        "No tenant has "
        @if sought.chars().count() <= PrefixHint::MAX_CHARS { (text(sought)) } @else { "this text" }
        " as its id, no key begins with it or is it, and no name of a tenant or key begins with it."
    }
}
