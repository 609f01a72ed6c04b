//! Runs the command on real repositories: a canonical one, and a clone of it in every invalid state.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod fixture;

use std::fs;

use crate::fixture::RepositoryFixture;

#[test]
fn clean_commit_of_canonical_main_is_accepted() {
    let world = RepositoryFixture::new();
    let answer = world.check(&[]);
    assert_eq!((answer.code, answer.codes()), (0, vec![]));
    assert_eq!(answer.json["accepted"], true);
    assert_eq!(answer.json["commit"], world.head());
    assert_eq!(answer.json["tip"], world.head());

    let said = world.check_as_text(&[]);
    assert_eq!(said.code, 0);
    assert!(said.stdout.contains("may be released") && said.stderr.is_empty(), "{said:?}");
    assert_eq!(world.check(&["--remote", &world.canonical()]).code, 0, "an address instead of a name");
}

#[test]
fn older_main_commit_is_accepted_without_local_branch() {
    let world = RepositoryFixture::new();
    let first = world.head();
    world.push_to_main_from_another_clone("second");
    world.git(&["pull", "-q"]);
    world.git(&["checkout", "-q", "--detach", &first]);
    world.git(&["branch", "-q", "-D", "main"]);
    assert_eq!(world.check(&[]).codes(), Vec::<String>::new());
    assert_eq!(world.check(&["--commit", &first[..12]]).code, 0, "by a short name");
}

#[test]
fn changed_file_is_refused() {
    let world = RepositoryFixture::new();
    world.write("readme", "changed");
    let answer = world.check(&[]);
    assert_eq!((answer.code, answer.codes()), (1, vec!["dirty".to_owned()]));
    assert!(answer.problems().contains("readme"), "{}", answer.problems());
    world.git(&["add", "readme"]);
    assert_eq!(world.check(&[]).codes(), ["dirty"], "staged");
}

#[test]
fn untracked_file_is_refused_and_ignored_file_is_not() {
    let world = RepositoryFixture::new();
    world.write("target/out", "ignored");
    assert_eq!(world.check(&[]).code, 0);
    world.write("new/left.over", "untracked");
    let answer = world.check(&[]);
    assert_eq!(answer.codes(), ["dirty"]);
    assert!(answer.problems().contains("new/left.over"), "by name: {}", answer.problems());
    world.git(&["config", "status.showUntrackedFiles", "no"]);
    assert_eq!(world.check(&[]).codes(), ["dirty"], "independent of git's configuration");
}

#[test]
fn change_hidden_from_git_is_refused() {
    for flag in ["--assume-unchanged", "--skip-worktree"] {
        let world = RepositoryFixture::new();
        world.git(&["update-index", flag, "readme"]);
        world.write("readme", "changed");
        let answer = world.check(&[]);
        assert_eq!(answer.codes(), ["overlooked"], "{flag}");
        assert!(answer.problems().contains("readme"));
    }
}

#[test]
fn unpushed_commit_is_refused() {
    let world = RepositoryFixture::new();
    world.commit("mine");
    let answer = world.check(&[]);
    assert_eq!((answer.code, answer.codes()), (1, vec!["not_on_branch".to_owned()]));
    assert!(answer.problems().contains(&world.head()));
}

#[test]
fn pushed_commit_of_another_branch_is_refused() {
    let world = RepositoryFixture::new();
    world.git(&["checkout", "-q", "-b", "feature"]);
    world.commit("feature");
    world.git(&["push", "-q", "origin", "feature"]);
    assert_eq!(world.check(&[]).codes(), ["not_on_branch"]);
    assert_eq!(world.check(&["--branch", "feature"]).code, 0, "accepted if releases come from that branch");
}

#[test]
fn local_main_behind_remote_is_refused() {
    let world = RepositoryFixture::new();
    world.push_to_main_from_another_clone("second");
    let answer = world.check(&[]);
    assert_eq!(answer.codes(), ["behind"]);
    assert_ne!(answer.json["tip"], world.head(), "the remote itself is queried, not its local copy");
    world.git(&["pull", "-q"]);
    assert_eq!(world.check(&[]).code, 0);
}

#[test]
fn diverged_local_main_is_refused() {
    let world = RepositoryFixture::new();
    world.push_to_main_from_another_clone("theirs");
    world.commit("mine");
    assert_eq!(world.check(&[]).codes(), ["not_on_branch", "diverged"]);
}

#[test]
fn rewritten_remote_main_is_refused() {
    let world = RepositoryFixture::new();
    world.commit("second");
    world.git(&["push", "-q"]);
    world.rewrite_main_from_another_clone();
    assert_eq!(world.check(&[]).codes(), ["not_on_branch", "diverged"]);
}

#[test]
fn shallow_clone_without_history_is_refused() {
    let world = RepositoryFixture::new();
    let first = world.head();
    world.push_to_main_from_another_clone("second");
    world.push_to_main_from_another_clone("third");
    let shallow = world.shallow_clone();
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
    let world = RepositoryFixture::new();
    let fork = world.fork();
    world.git(&["remote", "set-url", "origin", &fork]);
    world.commit("of the fork");
    world.git(&["push", "-q", "origin", "main"]);
    let answer = world.check(&[]);
    assert_eq!((answer.code, answer.codes()), (1, vec!["not_canonical".to_owned()]));
    assert!(answer.problems().contains(&fork), "{}", answer.problems());
    assert_eq!(world.check(&["--remote", &fork]).codes(), ["not_canonical"], "by address, too");
}

#[test]
fn redirected_canonical_address_is_refused() {
    let world = RepositoryFixture::new();
    let fork = world.fork();
    world.git(&["config", &format!("url.{fork}.insteadOf"), &world.canonical()]);
    assert_eq!(world.check(&[]).codes(), ["not_canonical"]);
}

#[test]
fn unreachable_remote_is_refused() {
    let world = RepositoryFixture::new();
    world.remove_canonical();
    let answer = world.check(&[]);
    assert_eq!((answer.code, answer.codes()), (1, vec!["unreachable".to_owned()]));
}

#[test]
fn remote_without_the_branch_is_refused() {
    let world = RepositoryFixture::new();
    assert_eq!(world.check(&["--branch", "release"]).codes(), ["no_branch"]);
    // A ref name that only ends like the branch is not the branch.
    world.git(&["push", "-q", "origin", "HEAD:refs/other/refs/heads/release"]);
    assert_eq!(world.check(&["--branch", "release"]).codes(), ["no_branch"]);
}

#[test]
fn commit_not_checked_out_is_refused() {
    let world = RepositoryFixture::new();
    let first = world.head();
    world.commit("second");
    world.git(&["push", "-q"]);
    assert_eq!(world.check(&["--commit", &first]).codes(), ["not_checked_out"]);
}

#[test]
fn build_stamp_must_match_the_commit() {
    let world = RepositoryFixture::new();
    let head = world.head();
    let version = |commit: &str, branch: &str, dirty: &str| {
        format!("tenant-auth-svc 0.1.0\ncommit: {commit}\nbranch: {branch}\ndirty: {dirty}\nbuilt: unknown\n")
    };
    let check = |text: &str| world.check(&["--version-output", text]).codes();
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
    let world = RepositoryFixture::new();
    let labels = |dirty: &str| {
        format!(
            r#"{{"org.opencontainers.image.revision":"{}","tenant-auth.branch":"main","tenant-auth.dirty":"{dirty}"}}"#,
            world.head()
        )
    };
    assert_eq!(world.check(&["--image-stamp", &labels("false")]).code, 0);
    assert_eq!(world.check(&["--image-stamp", &labels("true")]).codes(), ["dirty_build"]);
    world.write("target/labels.json", &labels("false"));
    let file = world.path("target/labels.json");
    assert_eq!(world.check(&["--image-stamp", &file]).code, 0, "from a file");
    assert_eq!(world.check(&["--image-stamp", "not/there.json"]).codes(), ["no_stamp"]);
}

#[test]
fn every_refusal_is_listed_with_its_remedy() {
    let world = RepositoryFixture::new();
    world.commit("mine");
    world.write("readme", "changed");
    let version = "commit: 1\nbranch: b\ndirty: true";
    let answer = world.check(&["--version-output", version]);
    assert_eq!(answer.codes(), ["dirty", "not_on_branch", "other_commit", "other_branch", "dirty_build"]);
    let said = world.check_as_text(&["--version-output", version]);
    assert_eq!(said.code, 1);
    assert!(said.stdout.is_empty());
    assert_eq!(said.stderr.lines().count(), 1 + 5, "{}", said.stderr);
    for (line, refusal) in said.stderr.lines().skip(1).zip(answer.json["refusals"].as_array().unwrap()) {
        assert!(line.contains(refusal["problem"].as_str().unwrap()), "{line}");
        assert!(line.ends_with(refusal["remedy"].as_str().unwrap()), "{line}");
    }
}

#[test]
fn failed_check_exits_with_code_two() {
    let world = RepositoryFixture::new();
    let nowhere = tempfile::tempdir().unwrap();
    let outside = world.run_in(nowhere.path(), &["check"]);
    assert_eq!(outside.code, 2, "{outside:?}");
    assert_eq!(world.check_as_text(&["--commit", "no-such-commit"]).code, 2);
    fs::remove_file(world.path("deploy/release-guard/canonical.json")).unwrap();
    let said = world.run_in(std::path::Path::new(&world.path(".")), &["check"]);
    assert_eq!(said.code, 2);
    assert!(said.stderr.contains("canonical.json"), "{}", said.stderr);
}

#[test]
fn git_environment_variables_do_not_redirect_the_check() {
    let world = RepositoryFixture::new();
    let other = RepositoryFixture::new();
    world.write("readme", "changed");
    let answer =
        world.check_with_env(&[("GIT_DIR", &other.path(".git")), ("GIT_WORK_TREE", &other.path("."))]);
    assert_eq!(answer.codes(), ["dirty"]);
}
