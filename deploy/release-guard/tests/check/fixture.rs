//! A canonical repository and a checkout of it, created by real git in a temporary folder.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use tempfile::TempDir;

/// A canonical repository with one commit on its main, and a clone that the command runs in.
pub(crate) struct RepositoryFixture {
    folder: TempDir,
    checkout: PathBuf,
    canonical: String,
}

/// The output of the command.
#[derive(Debug)]
pub(crate) struct CommandOutput {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// The JSON output of the command.
pub(crate) struct CheckOutput {
    pub(crate) code: i32,
    pub(crate) json: Value,
}

impl CheckOutput {
    /// The codes of all refusals, in order.
    pub(crate) fn codes(&self) -> Vec<String> {
        let refusals = self.json["refusals"].as_array().expect("a list of refusals");
        refusals.iter().map(|refusal| refusal["code"].as_str().unwrap().to_owned()).collect()
    }

    /// All problems as text.
    pub(crate) fn problems(&self) -> String {
        self.json["refusals"].to_string()
    }
}

impl RepositoryFixture {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let canonical = folder.path().join("canonical.git").display().to_string();
        git(folder.path(), &["init", "-q", "--bare", "-b", "main", &canonical]);
        // Lets a clone fetch any commit, as hosting services do.
        git(Path::new(&canonical), &["config", "uploadpack.allowAnySHA1InWant", "true"]);
        let checkout = folder.path().join("checkout");
        git(folder.path(), &["clone", "-q", &canonical, "checkout"]);
        let fixture = Self { folder, checkout, canonical };
        fixture.git(&["checkout", "-q", "-B", "main"]);
        fixture.write(".gitignore", "/target\n");
        fixture.write("readme", "first\n");
        let written = serde_json::json!({ "remote": fixture.canonical, "branch": "main" });
        fixture.write("deploy/release-guard/canonical.json", &written.to_string());
        fixture.git(&["add", "."]);
        fixture.git(&["commit", "-q", "-m", "first"]);
        fixture.git(&["push", "-q", "-u", "origin", "main"]);
        fixture
    }

    /// The canonical repository's address.
    pub(crate) fn canonical(&self) -> String {
        self.canonical.clone()
    }

    pub(crate) fn git(&self, args: &[&str]) -> String {
        git(&self.checkout, args)
    }

    pub(crate) fn head(&self) -> String {
        self.git(&["rev-parse", "HEAD"])
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.checkout.join(name).display().to_string()
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.checkout.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Commits a change in the checkout.
    pub(crate) fn commit(&self, text: &str) {
        self.write("readme", text);
        self.git(&["commit", "-q", "-a", "-m", text]);
    }

    /// Pushes a commit to the canonical main from another clone.
    pub(crate) fn push_to_main_from_another_clone(&self, text: &str) {
        let other = tempfile::tempdir_in(self.folder.path()).unwrap();
        git(other.path(), &["clone", "-q", "-b", "main", &self.canonical, "."]);
        fs::write(other.path().join("theirs"), text).unwrap();
        git(other.path(), &["add", "."]);
        git(other.path(), &["commit", "-q", "-m", text]);
        git(other.path(), &["push", "-q", "origin", "main"]);
    }

    /// Replaces the last commit of the canonical main from another clone.
    pub(crate) fn rewrite_main_from_another_clone(&self) {
        let other = tempfile::tempdir_in(self.folder.path()).unwrap();
        git(other.path(), &["clone", "-q", "-b", "main", &self.canonical, "."]);
        git(other.path(), &["commit", "-q", "--amend", "-m", "rewritten"]);
        git(other.path(), &["push", "-q", "--force", "origin", "main"]);
    }

    /// Creates a fork with the same commits, and returns its address.
    pub(crate) fn fork(&self) -> String {
        let fork = self.folder.path().join("fork.git").display().to_string();
        git(self.folder.path(), &["clone", "-q", "--bare", &self.canonical, &fork]);
        fork
    }

    pub(crate) fn remove_canonical(&self) {
        fs::remove_dir_all(&self.canonical).unwrap();
    }

    /// Creates a clone that has only the last commit, and no local branch.
    pub(crate) fn shallow_clone(&self) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let checkout = folder.path().join("checkout");
        // git copies a local path as a whole; only a transport supports a depth.
        let address = format!("file://{}", self.canonical);
        git(folder.path(), &["clone", "-q", "--depth", "1", "-b", "main", &address, "checkout"]);
        git(&checkout, &["checkout", "-q", "--detach"]);
        git(&checkout, &["branch", "-q", "-D", "main"]);
        Self { folder, checkout, canonical: self.canonical.clone() }
    }

    /// Runs `check --json`.
    pub(crate) fn check(&self, args: &[&str]) -> CheckOutput {
        self.check_with(&[&["check", "--json"], args].concat(), &[])
    }

    /// Runs `check --json` in an environment.
    pub(crate) fn check_with_env(&self, environment: &[(&str, &str)]) -> CheckOutput {
        self.check_with(&["check", "--json"], environment)
    }

    /// Runs `check` with text output.
    pub(crate) fn check_as_text(&self, args: &[&str]) -> CommandOutput {
        self.run_in(&self.checkout, &[&["check"], args].concat())
    }

    /// Runs the command in a folder.
    pub(crate) fn run_in(&self, folder: &Path, args: &[&str]) -> CommandOutput {
        run(folder, args, &[])
    }

    fn check_with(&self, args: &[&str], environment: &[(&str, &str)]) -> CheckOutput {
        let output = run(&self.checkout, args, environment);
        let json =
            serde_json::from_str(&output.stdout).unwrap_or_else(|_| panic!("JSON expected: {output:?}"));
        CheckOutput { code: output.code, json }
    }
}

fn run(folder: &Path, args: &[&str], environment: &[(&str, &str)]) -> CommandOutput {
    let mut command = isolate(Command::new(env!("CARGO_BIN_EXE_release-guard")));
    let output = command.current_dir(folder).args(args).envs(environment.iter().copied()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    CommandOutput {
        code: output.status.code().expect("the command exits by itself"),
        stdout: text(&output.stdout),
        stderr: text(&output.stderr),
    }
}

fn git(folder: &Path, args: &[&str]) -> String {
    let mut command = isolate(Command::new("git"));
    let output = command.arg("-C").arg(folder).args(args).output().unwrap();
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Removes the user's git configuration from the environment.
fn isolate(mut command: Command) -> Command {
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).envs([
        ("GIT_CONFIG_GLOBAL", "/dev/null"),
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_AUTHOR_NAME", "Test"),
        ("GIT_AUTHOR_EMAIL", "test@example.com"),
        ("GIT_COMMITTER_NAME", "Test"),
        ("GIT_COMMITTER_EMAIL", "test@example.com"),
    ]);
    command
}
