//! The table as a document: `METRICS.md`.

use super::{ALL, OTLP_ONLY};
use crate::instruments::durations::BUCKET_BOUNDS;

/// The table as Markdown: `METRICS.md`.
#[must_use]
pub fn render_markdown() -> String {
    let mut text = String::from(
        "# Metrics\n\n\
         Generated from `src/telemetry/names.rs` by `UPDATE_DOCS=1 cargo test -p tenant-auth-svc --lib telemetry::names`; \
         do not edit.\n\n\
         `GET /metrics` of the port for operators (`TENANT_AUTH_OPS_LISTEN`) returns them in the Prometheus text format; with \
         `TENANT_AUTH_OTLP_ENDPOINT` the same values are sent by OTLP every 30 s. No label identifies a tenant, a key, a session \
         or a caller.\n\n\
         A counter or histogram with labels appears with its first count, so that an idle server exports few series. These are \
         exported from the start, because alerts need the zero:\n\n\
         - `grpc_server_handled_total` with the codes Unavailable, DeadlineExceeded, ResourceExhausted and Internal, for the RPCs of \
         daily traffic (ValidationService, SessionService, LimitService, RecordUsage); for the other RPCs of this service, from their first call\n\
         - `tenant_auth_verdicts_total` for valid and unknown, and all of `tenant_auth_undecided_total`\n\
         - `tenant_auth_database_failures_total` for denied, blocked, read_only, disk_full, throttled, invalid_response, \
         schema_missing and internal\n\
         - `tenant_auth_cache_evictions_total` for records\n\
         - `tenant_auth_limit_decisions_total` for shadow_exceeded and undecided, and `tenant_auth_limit_exchanges_total`\n\
         - `tenant_auth_database_breaker_opened_total`, `tenant_auth_tls_handshakes_failed_total`, \
         `tenant_auth_unreadable_records_total`\n\
         - `tenant_auth_otlp_spans_total` for dropped and failed\n\n\
         | name | kind | unit | labels | |\n|---|---|---|---|---|\n",
    );
    for metric in ALL {
        let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let unit = match metric.unit {
            "s" => "seconds",
            "By" => "bytes",
            _ => "",
        };
        let row =
            [&format!("`{}`", metric.name), metric.kind.as_str(), unit, &labels.join(", "), metric.help];
        text.push_str(&format!("| {} |\n", row.join(" | ")));
    }
    let bounds: Vec<_> = BUCKET_BOUNDS.iter().map(f64::to_string).collect();
    text.push_str(&format!("\nThe buckets of every histogram, in seconds: {}.\n", bounds.join(", ")));
    text.push_str(
        "\n## OTLP\n\n\
         Names and attributes follow the OpenTelemetry semantic conventions 1.45.0. Two histograms have the names of the \
         conventions. All others keep the name above without `_total` and without the unit (`_seconds`, `_bytes`), which OTLP \
         has as type and unit: Prometheus adds both suffixes to metrics that it receives by OTLP, so that its series have the \
         names above. Plain numbers have no unit.\n\n\
         | name | in place of | unit | attributes | |\n|---|---|---|---|---|\n",
    );
    for (metric, replaced) in OTLP_ONLY {
        let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        text.push_str(&format!(
            "| `{}` | `{}` | {} | {} | {} |\n",
            metric.name,
            replaced.name,
            metric.unit,
            labels.join(", "),
            metric.help
        ));
    }
    text.push_str(
        "\n`rpc.system.name` is grpc. `rpc.method` is the full name (`tenantauth.v1.ValidationService/ValidateKey`), `_OTHER` for \
         RPCs that do not exist. `rpc.response.status_code` is the canonical name (`DEADLINE_EXCEEDED`). `error.type` is absent \
         on success: of an RPC it is the status code, if that is an error of the server (UNKNOWN, DEADLINE_EXCEEDED, \
         UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS); of a database operation the kind of failure. `db.system.name` is sqlite. \
         `db.operation.name` is query or transaction. The buckets are those above rather than the ones that the conventions \
         recommend: most answers come from memory, in less than the first of those.\n\n\
         Spans have the same attributes; those of the database also `server.address` and `server.port` of a remote one. The \
         resource has `service.name`, `service.version` and `service.instance.id`.\n",
    );
    text
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    #[test]
    fn metrics_document_matches_the_table() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("METRICS.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            fs::write(&path, render_markdown()).unwrap();
        }
        let again = "UPDATE_DOCS=1 cargo test -p tenant-auth-svc --lib telemetry::names";
        let written = fs::read_to_string(&path).unwrap_or_default();
        assert!(written == render_markdown(), "METRICS.md is out of date; to make it anew: {again}");
    }
}
