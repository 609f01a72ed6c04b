//! Reports the keys that a scan found.

use tenant_auth_client::{AdminClient, proto::ReportLeakRequest};

use super::printer::{Leak, ScanResult};
use crate::{
    failure::{Failure, FieldNames},
    output::Output,
    retry::with_retries,
    view::LeakView,
};

const FIELD_NAMES: FieldNames = &[("source", "--source"), ("location", "PATH")];
/// The kind of key in the reports.
const KEY_TYPE: &str = "tenant-auth key";
/// Maximum length of a location that the service accepts, in characters.
const MAX_LOCATION_CHARS: usize = 1_024;

/// Reports each key once, in the order of the findings.
///
/// # Errors
/// The first error of the service. The keys before are reported.
pub(super) async fn send(
    admin: &AdminClient,
    output: Output,
    source: &str,
    result: &mut ScanResult,
) -> Result<(), Failure> {
    let leaks = std::mem::take(&mut result.leaks);
    for (index, leak) in leaks.iter().enumerate() {
        let response = with_retries(async || admin.report_leak(request(leak, source)).await).await;
        let response = response.map_err(|error| {
            output.note(&format!(
                "{index} of {} keys were reported; scan again to report the others",
                leaks.len()
            ));
            Failure::from_service(FIELD_NAMES)(error)
        })?;
        result.add_report(LeakView::new(&leak.key, response));
    }
    Ok(())
}

fn request(leak: &Leak, source: &str) -> ReportLeakRequest {
    ReportLeakRequest {
        plaintext: String::new(),
        sha256: leak.key.sha256.to_vec(),
        source: source.to_owned(),
        location: shortened(&leak.place),
        r#type: KEY_TYPE.to_owned(),
    }
}

/// Returns the end of a place that is too long: its line and its file say most.
fn shortened(place: &str) -> String {
    match place.char_indices().rev().nth(MAX_LOCATION_CHARS - 1) {
        None | Some((0, _)) => place.to_owned(),
        Some((start, first)) => format!("…{}", &place[start + first.len_utf8()..]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::FoundKey;

    #[test]
    fn report_holds_the_hash_and_the_place() {
        let key = FoundKey { hint: "ta_AbCd".to_owned(), sha256: [7; 32] };
        let leak = Leak { key, place: "a.env:3".to_owned() };
        let expected = ReportLeakRequest {
            plaintext: String::new(),
            sha256: vec![7; 32],
            source: "ci".to_owned(),
            location: "a.env:3".to_owned(),
            r#type: "tenant-auth key".to_owned(),
        };
        assert_eq!(request(&leak, "ci"), expected);
    }

    #[test]
    fn long_place_keeps_its_end() {
        for len in [1, 1_023, 1_024] {
            assert_eq!(shortened(&"ü".repeat(len)), "ü".repeat(len));
        }
        let long = shortened(&format!("{}:7", "ü".repeat(2_000)));
        assert_eq!(long.chars().count(), 1_024);
        assert!(long.starts_with("…ü") && long.ends_with("ü:7"));
    }
}
