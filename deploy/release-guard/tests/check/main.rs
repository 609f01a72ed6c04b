//! Runs the command on real repositories: a canonical one, and a clone of it in every invalid state.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod fixture;

use std::fs;

use crate::fixture::RepositoryFixture;

#[test]
fn clean_commit_of_canonical_main_is_accepted() {
    let fixture = RepositoryFixture::new();
    let report = fixture.check(&[]);
    assert_eq!((report.code, report.codes()), (0, vec![]));
    assert_eq!(report.json["accepted"], true);
    assert_eq!(report.json["commit"], fixture.head());
    assert_eq!(report.json["tip"], fixture.head());

    let output = fixture.check_as_text(&[]);
    assert_eq!(output.code, 0);
    assert!(output.stdout.contains("may be released") && output.stderr.is_empty(), "{output:?}");
    assert_eq!(fixture.check(&["--remote", &fixture.canonical()]).code, 0, "an address instead of a name");
}

#[test]
fn older_main_commit_is_accepted_without_local_branch() {
    let fixture = RepositoryFixture::new();
    let first = fixture.head();
    fixture.push_to_main_from_another_clone("second");
    fixture.git(&["pull", "-q"]);
    fixture.git(&["checkout", "-q", "--detach", &first]);
    fixture.git(&["branch", "-q", "-D", "main"]);
    assert_eq!(fixture.check(&[]).codes(), Vec::<String>::new());
    assert_eq!(fixture.check(&["--commit", &first[..12]]).code, 0, "by a short name");
}

#[test]
fn changed_file_is_refused() {
    let fixture = RepositoryFixture::new();
    fixture.write("readme", "changed");
    let report = fixture.check(&[]);
    assert_eq!((report.code, report.codes()), (1, vec!["dirty".to_owned()]));
    assert!(report.problems().contains("readme"), "{}", report.problems());
    fixture.git(&["add", "readme"]);
    assert_eq!(fixture.check(&[]).codes(), ["dirty"], "staged");
}

#[test]
fn untracked_file_is_refused_and_ignored_file_is_not() {
    let fixture = RepositoryFixture::new();
    fixture.write("target/out", "ignored");
    assert_eq!(fixture.check(&[]).code, 0);
    fixture.write("new/left.over", "untracked");
    let report = fixture.check(&[]);
    assert_eq!(report.codes(), ["dirty"]);
    assert!(report.problems().contains("new/left.over"), "by name: {}", report.problems());
    fixture.git(&["config", "status.showUntrackedFiles", "no"]);
    assert_eq!(fixture.check(&[]).codes(), ["dirty"], "independent of git's configuration");
}

#[test]
fn change_hidden_from_git_is_refused() {
    for flag in ["--assume-unchanged", "--skip-worktree"] {
        let fixture = RepositoryFixture::new();
        fixture.git(&["update-index", flag, "readme"]);
        fixture.write("readme", "changed");
        let report = fixture.check(&[]);
        assert_eq!(report.codes(), ["overlooked"], "{flag}");
        assert!(report.problems().contains("readme"));
    }
}

#[test]
fn unpushed_commit_is_refused() {
    let fixture = RepositoryFixture::new();
    fixture.commit("mine");
    let report = fixture.check(&[]);
    assert_eq!((report.code, report.codes()), (1, vec!["not_on_branch".to_owned()]));
    assert!(report.problems().contains(&fixture.head()));
}

#[test]
fn pushed_commit_of_another_branch_is_refused() {
    let fixture = RepositoryFixture::new();
    fixture.git(&["checkout", "-q", "-b", "feature"]);
    fixture.commit("feature");
    fixture.git(&["push", "-q", "origin", "feature"]);
    assert_eq!(fixture.check(&[]).codes(), ["not_on_branch"]);
    assert_eq!(fixture.check(&["--branch", "feature"]).code, 0, "accepted if releases come from that branch");
}

#[test]
fn local_main_behind_remote_is_refused() {
    let fixture = RepositoryFixture::new();
    fixture.push_to_main_from_another_clone("second");
    let report = fixture.check(&[]);
    assert_eq!(report.codes(), ["behind"]);
    assert_ne!(report.json["tip"], fixture.head(), "the remote itself is queried, not its local copy");
    fixture.git(&["pull", "-q"]);
    assert_eq!(fixture.check(&[]).code, 0);
}

#[test]
fn diverged_local_main_is_refused() {
    let fixture = RepositoryFixture::new();
    fixture.push_to_main_from_another_clone("theirs");
    fixture.commit("mine");
    assert_eq!(fixture.check(&[]).codes(), ["not_on_branch", "diverged"]);
}

#[test]
fn rewritten_remote_main_is_refused() {
    let fixture = RepositoryFixture::new();
    fixture.commit("second");
    fixture.git(&["push", "-q"]);
    fixture.rewrite_main_from_another_clone();
    assert_eq!(fixture.check(&[]).codes(), ["not_on_branch", "diverged"]);
}

#[test]
fn shallow_clone_without_history_is_refused() {
    let fixture = RepositoryFixture::new();
    let first = fixture.head();
    fixture.push_to_main_from_another_clone("second");
    fixture.push_to_main_from_another_clone("third");
    let shallow = fixture.shallow_clone();
    // Its history begins at the tip, so it can only decide about the tip itself.
    assert_eq!(shallow.check(&[]).code, 0);
    shallow.git(&["fetch", "-q", "--depth", "1", "origin", &first]);
    shallow.git(&["checkout", "-q", &first]);
    assert_eq!(shallow.check(&[]).codes(), ["shallow"]);
    shallow.git(&["fetch", "-q", "--unshallow"]);
    assert_eq!(shallow.check(&[]).code, 0, "the remedy works");
}

#[test]
fn fork_named_origin_is_refused() {
    let fixture = RepositoryFixture::new();
    let fork = fixture.fork();
    fixture.git(&["remote", "set-url", "origin", &fork]);
    fixture.commit("of the fork");
    fixture.git(&["push", "-q", "origin", "main"]);
    let report = fixture.check(&[]);
    assert_eq!((report.code, report.codes()), (1, vec!["not_canonical".to_owned()]));
    assert!(report.problems().contains(&fork), "{}", report.problems());
    assert_eq!(fixture.check(&["--remote", &fork]).codes(), ["not_canonical"], "by address, too");
}

#[test]
fn redirected_canonical_address_is_refused() {
    let fixture = RepositoryFixture::new();
    let fork = fixture.fork();
    fixture.git(&["config", &format!("url.{fork}.insteadOf"), &fixture.canonical()]);
    assert_eq!(fixture.check(&[]).codes(), ["not_canonical"]);
}

#[test]
fn unreachable_remote_is_refused() {
    let fixture = RepositoryFixture::new();
    fixture.remove_canonical();
    let report = fixture.check(&[]);
    assert_eq!((report.code, report.codes()), (1, vec!["unreachable".to_owned()]));
}

#[test]
fn remote_without_the_branch_is_refused() {
    let fixture = RepositoryFixture::new();
    assert_eq!(fixture.check(&["--branch", "release"]).codes(), ["no_branch"]);
    // A ref name that only ends like the branch is not the branch.
    fixture.git(&["push", "-q", "origin", "HEAD:refs/other/refs/heads/release"]);
    assert_eq!(fixture.check(&["--branch", "release"]).codes(), ["no_branch"]);
}

#[test]
fn commit_not_checked_out_is_refused() {
    let fixture = RepositoryFixture::new();
    let first = fixture.head();
    fixture.commit("second");
    fixture.git(&["push", "-q"]);
    assert_eq!(fixture.check(&["--commit", &first]).codes(), ["not_checked_out"]);
}

#[test]
fn build_stamp_must_match_the_commit() {
    let fixture = RepositoryFixture::new();
    let head = fixture.head();
    let version = |commit: &str, branch: &str, dirty: &str| {
        format!("tenant-auth-svc 0.1.0\ncommit: {commit}\nbranch: {branch}\ndirty: {dirty}\nbuilt: unknown\n")
    };
    let check = |text: &str| fixture.check(&["--version-output", text]).codes();
    assert_eq!(check(&version(&head, "main", "false")), Vec::<String>::new());
    assert_eq!(check(&version(&"0".repeat(40), "main", "false")), ["other_commit"]);
    assert_eq!(check(&version("", "main", "false")), ["other_commit"], "a build without a commit");
    assert_eq!(check(&version(&head, "feature", "false")), ["other_branch"]);
    assert_eq!(check(&version(&head, "main", "true")), ["dirty_build"]);
    assert_eq!(check(&version("", "", "true")), ["other_commit", "other_branch", "dirty_build"]);
    assert_eq!(check("tenant-auth-svc 0.1.0"), ["no_stamp"]);
}

#[test]
fn image_labels_must_match_the_commit() {
    let fixture = RepositoryFixture::new();
    let labels = |dirty: &str| {
        format!(
            r#"{{"org.opencontainers.image.revision":"{}","tenant-auth.branch":"main","tenant-auth.dirty":"{dirty}"}}"#,
            fixture.head()
        )
    };
    assert_eq!(fixture.check(&["--image-stamp", &labels("false")]).code, 0);
    assert_eq!(fixture.check(&["--image-stamp", &labels("true")]).codes(), ["dirty_build"]);
    fixture.write("target/labels.json", &labels("false"));
    let file = fixture.path("target/labels.json");
    assert_eq!(fixture.check(&["--image-stamp", &file]).code, 0, "from a file");
    assert_eq!(fixture.check(&["--image-stamp", "not/there.json"]).codes(), ["no_stamp"]);
}

#[test]
fn every_refusal_is_listed_with_its_remedy() {
    let fixture = RepositoryFixture::new();
    fixture.commit("mine");
    fixture.write("readme", "changed");
    let version = "commit: 1\nbranch: b\ndirty: true";
    let report = fixture.check(&["--version-output", version]);
    assert_eq!(report.codes(), ["dirty", "not_on_branch", "other_commit", "other_branch", "dirty_build"]);
    let output = fixture.check_as_text(&["--version-output", version]);
    assert_eq!(output.code, 1);
    assert!(output.stdout.is_empty());
    assert_eq!(output.stderr.lines().count(), 1 + 5, "{}", output.stderr);
    for (line, refusal) in output.stderr.lines().skip(1).zip(report.json["refusals"].as_array().unwrap()) {
        assert!(line.contains(refusal["problem"].as_str().unwrap()), "{line}");
        assert!(line.ends_with(refusal["remedy"].as_str().unwrap()), "{line}");
    }
}

#[test]
fn failed_check_exits_with_code_two() {
    let fixture = RepositoryFixture::new();
    let nowhere = tempfile::tempdir().unwrap();
    let outside = fixture.run_in(nowhere.path(), &["check"]);
    assert_eq!(outside.code, 2, "{outside:?}");
    assert_eq!(fixture.check_as_text(&["--commit", "no-such-commit"]).code, 2);
    fs::remove_file(fixture.path("deploy/release-guard/canonical.json")).unwrap();
    let output = fixture.run_in(std::path::Path::new(&fixture.path(".")), &["check"]);
    assert_eq!(output.code, 2);
    assert!(output.stderr.contains("canonical.json"), "{}", output.stderr);
}

#[test]
fn git_environment_variables_do_not_redirect_the_check() {
    let fixture = RepositoryFixture::new();
    let other = RepositoryFixture::new();
    fixture.write("readme", "changed");
    let report =
        fixture.check_with_env(&[("GIT_DIR", &other.path(".git")), ("GIT_WORK_TREE", &other.path("."))]);
    assert_eq!(report.codes(), ["dirty"]);
}
