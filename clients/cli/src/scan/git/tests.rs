use std::{fs, path::Path, process::Command};

use tempfile::TempDir;

use super::*;
use crate::scan::{
    Excludes, Walk, scan_path,
    testing::{Collected, generate_key, matcher},
};

struct Repository(TempDir);

impl Repository {
    fn new() -> Self {
        let this = Self(tempfile::tempdir().unwrap());
        this.git(&["init", "--quiet", "work"]);
        this
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn git(&self, arguments: &[&str]) -> String {
        git_in(self.0.path(), arguments)
    }

    fn work(&self, arguments: &[&str]) -> String {
        git_in(&self.path("work"), arguments)
    }

    fn commit(&self, name: &str, content: &str, message: &str) {
        let path = self.path("work").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        self.work(&["add", "--all"]);
        self.work(&["commit", "--quiet", "--message", message]);
    }

    /// Returns the short id of an object.
    fn id(&self, name: &str) -> String {
        self.work(&["rev-parse", name])[..12].to_owned()
    }

    /// Scans a folder with its history. The paths in the result are relative.
    fn scan(&self, path: &str, excludes: &[String]) -> Collected {
        let (matcher, excludes, mut sink) =
            (matcher(&["ta"]), Excludes::new(excludes).unwrap(), Collected::default());
        let mut scanner = Scanner::new(&matcher, &excludes, &mut sink);
        scan_path(&mut scanner, &mut Walk::new(false, true), &self.path(path)).unwrap();
        let root = format!("{}/", self.0.path().display());
        sink.found.iter_mut().chain(&mut sink.unread).for_each(|line| *line = line.replace(&root, ""));
        sink
    }
}

fn git_in(folder: &Path, arguments: &[&str]) -> String {
    let identity = ["-c", "user.name=Tester", "-c", "user.email=tester@example.invalid", "-c", "gc.auto=0"];
    let output = Command::new("git")
        .arg("-C")
        .arg(folder)
        .args(identity)
        .args(arguments)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn key_in_history_is_found_with_path_and_object() {
    let repository = Repository::new();
    let key = generate_key("ta");
    repository.commit("a/b c.env", &format!("x\n{key}\n"), "added");
    let blob = repository.id("HEAD:a/b c.env");
    repository.commit("a/b c.env", "nothing\n", "removed");
    let found = [format!("work@{blob}:a/b c.env:2: {}", &key[..7])];
    let result = repository.scan("work", &[]);
    assert_eq!((&result.found, result.unread.len()), (&found.to_vec(), 0), "{:?}", result.unread);

    // The same in a pack, and in a bare repository in a folder.
    repository.work(&["repack", "-adq"]);
    assert_eq!(repository.scan("work", &[]).found, found);
    repository.git(&["clone", "--quiet", "--bare", "work", "host/bare.git"]);
    let bare = [found[0].replace("work@", "host/bare.git@")];
    assert_eq!(repository.scan("host/bare.git", &[]).found, bare);
    assert_eq!(repository.scan("host", &[]).found, bare);
    assert_eq!(repository.scan("work", &["*.env".to_owned()]).found, [""; 0]);
}

#[test]
fn each_content_is_scanned_once() {
    let repository = Repository::new();
    let key = generate_key("ta");
    repository.commit("a", &key, "one");
    repository.commit("b", &key, "two");
    fs::remove_file(repository.path("work/a")).unwrap();
    fs::remove_file(repository.path("work/b")).unwrap();
    assert_eq!(repository.scan("work", &[]).found.len(), 1);
    // A second work tree has the same history.
    repository.work(&["worktree", "add", "--quiet", "../second"]);
    fs::remove_file(repository.path("second/a")).unwrap();
    fs::remove_file(repository.path("second/b")).unwrap();
    assert_eq!(repository.scan("", &[]).found.len(), 1);
}

#[test]
fn every_reference_and_message_is_scanned() {
    let repository = Repository::new();
    let keys: Vec<_> = (0..4).map(|_| generate_key("ta")).collect();
    repository.commit("a", "x", &format!("message\n\n{}", keys[0]));
    repository.work(&["checkout", "--quiet", "-b", "side"]);
    repository.commit("b", &keys[1], "on a branch");
    repository.work(&["checkout", "--quiet", "-"]);
    repository.work(&["tag", "--annotate", "v1", "--message", &keys[2]]);
    fs::write(repository.path("work/a"), &keys[3]).unwrap();
    repository.work(&["stash", "push", "--quiet"]);
    let result = repository.scan("work", &[]);
    for key in &keys {
        let hits = result.found.iter().filter(|line| line.ends_with(&key[..7])).count();
        assert_eq!(hits, 1, "{:?}", result.found);
    }
    let commit = repository.id("HEAD");
    assert!(result.found.contains(&format!("work@{commit}:7: {}", &keys[0][..7])), "{:?}", result.found);
}

#[test]
fn archive_in_history_is_scanned() {
    let repository = Repository::new();
    let key = generate_key("ta");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    io::Write::write_all(&mut gzip, key.as_bytes()).unwrap();
    fs::write(repository.path("work/a.gz"), gzip.finish().unwrap()).unwrap();
    repository.commit("b", "x", "archive");
    let blob = repository.id("HEAD:a.gz");
    let hint = &key[..7];
    let found = repository.scan("work", &[]).found;
    assert_eq!(found, [format!("work@{blob}:a.gz:1: {hint}"), format!("work/a.gz:1: {hint}")]);
}

#[test]
fn damaged_repository_is_named_and_the_rest_is_scanned() {
    let repository = Repository::new();
    let key = generate_key("ta");
    repository.commit("a", "lost", "one");
    repository.commit("b", &key, "two");
    let lost = repository.work(&["rev-parse", "HEAD:a"]);
    let (folder, file) = lost.trim().split_at(2);
    fs::remove_file(repository.path("work/.git/objects").join(folder).join(file)).unwrap();
    let result = repository.scan("work", &[]);
    assert_eq!(result.found.len(), 2, "the file and its history: {:?}", result.found);
    assert_eq!(result.unread, [format!("work@{}: is missing in the repository", lost.trim())]);

    fs::write(repository.path("work/.git/HEAD"), "nonsense").unwrap();
    let result = repository.scan("work", &[]);
    assert_eq!(result.found.len(), 1, "the file: {:?}", result.found);
    assert!(result.unread[0].starts_with("work: git: "), "{:?}", result.unread);
}

#[test]
fn folder_without_repository_is_named() {
    let folder = Repository(tempfile::tempdir().unwrap());
    fs::write(folder.path("a"), "x").unwrap();
    let result = folder.scan("", &[]);
    assert!(result.unread[0].contains("contains no repository"), "{:?}", result.unread);
}

#[test]
fn repository_without_commits_has_no_keys() {
    let repository = Repository::new();
    let result = repository.scan("work", &[]);
    assert_eq!((result.found.len(), result.unread.len()), (0, 0), "{:?}", result.unread);
}
