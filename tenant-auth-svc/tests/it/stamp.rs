//! The build stamp, and which builds may start.

use std::{
    collections::BTreeMap,
    process::{Command, Output},
};

use tenant_auth_proto::v1::{self, info_service_client::InfoServiceClient};
use tenant_auth_svc::build;

use crate::harness::{TestDatabase, TestService};

fn program(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tenant-auth-svc")).env_clear().args(args).output().unwrap()
}

fn output_text(output: &[u8]) -> String {
    String::from_utf8_lossy(output).into_owned()
}

/// Returns the printed stamp, by name.
fn printed_stamp() -> BTreeMap<String, String> {
    let text = output_text(&program(&["--version"]).stdout);
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some(&*format!("tenant-auth-svc {}", env!("CARGO_PKG_VERSION"))));
    lines
        .map(|line| {
            let (name, value) = line.split_once(':').expect("a name and a value");
            (name.to_owned(), value.trim().to_owned())
        })
        .collect()
}

#[test]
fn version_prints_full_stamp_or_one_line() {
    let stamp = printed_stamp();
    assert_eq!(stamp.keys().collect::<Vec<_>>(), ["branch", "built", "commit", "dirty"]);
    assert_eq!(stamp["commit"], build::THIS.commit);
    assert_eq!(stamp["branch"], build::THIS.branch);
    assert_eq!(stamp["dirty"], build::THIS.dirty.to_string());
    assert!(stamp["built"].ends_with('Z'), "{}", stamp["built"]);
    assert_eq!(output_text(&program(&["-V"]).stdout).lines().count(), 1);
}

#[tokio::test]
async fn server_info_contains_build_stamp() {
    let database = TestDatabase::embedded();
    let service = TestService::start(&database).await;
    let mut info = InfoServiceClient::new(service.channel.clone());
    let info = info.get_server_info(v1::GetServerInfoRequest::default()).await.unwrap().into_inner();
    assert_eq!((info.commit.as_str(), info.branch.as_str()), (build::THIS.commit, build::THIS.branch));
    assert_eq!(info.dirty, build::THIS.dirty);
    let built_at = info.built_at.map(|at| u64::try_from(at.seconds).unwrap());
    assert_eq!(built_at, build::THIS.built_at);
}

/// Whether this build may start depends on its source tree, so the test only checks that the decision follows
/// the stamp.
#[test]
fn canonical_build_requirement_is_decided_by_stamp() {
    let folder = tempfile::tempdir().unwrap();
    // The file cannot be opened as a folder, which is detected after the build check, so the program exits
    // for every build.
    let file = folder.path().join("a-file");
    std::fs::write(&file, "").unwrap();
    let database = format!("file:{}/database.db", file.display());
    let serve = ["serve", "--listen", "127.0.0.1:0", "--database-url", &database];
    let free = program(&serve);
    assert_eq!(free.status.code(), Some(1));
    assert!(
        !output_text(&free.stderr).contains("may not run here"),
        "the check is off: {}",
        output_text(&free.stderr)
    );

    let stamp = printed_stamp();
    let canonical = !stamp["commit"].is_empty() && stamp["dirty"] == "false" && stamp["branch"] == "main";
    let strict = program(&[&serve[..], &["--require-canonical-build"]].concat());
    assert_eq!(strict.status.code(), Some(1));
    let refused = output_text(&strict.stderr).contains("this build may not run here");
    assert_eq!(refused, !canonical, "{stamp:?}: {}", output_text(&strict.stderr));
}
