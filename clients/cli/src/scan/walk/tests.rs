use std::fs;

use tempfile::TempDir;

use super::*;
use crate::scan::{
    Excludes,
    testing::{Collected, generate_key, matcher},
};

/// A folder with files that contain the same key.
struct Folder {
    folder: TempDir,
    key: String,
}

impl Folder {
    fn new(files: &[&str]) -> Self {
        let this = Self { folder: tempfile::tempdir().unwrap(), key: generate_key("ta") };
        files.iter().for_each(|file| this.write(file, &this.key));
        this
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, content: &str) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), content).unwrap();
    }

    /// Scans the folder. The paths in the result are relative.
    fn scan(&self, excludes: &[&str], mut walk: Walk) -> Collected {
        self.scan_path("", excludes, &mut walk)
    }

    fn scan_path(&self, path: &str, excludes: &[&str], walk: &mut Walk) -> Collected {
        let (matcher, mut sink) = (matcher(&["ta"]), Collected::default());
        let excludes: Vec<_> = excludes.iter().map(|glob| (*glob).to_owned()).collect();
        let excludes = Excludes::new(&excludes).unwrap();
        scan_path(&mut Scanner::new(&matcher, &excludes, &mut sink), walk, &self.path(path)).unwrap();
        let root = format!("{}/", self.folder.path().display());
        sink.found.iter_mut().chain(&mut sink.unread).for_each(|line| *line = line.replace(&root, ""));
        sink
    }

    fn places(&self, places: &[&str]) -> Vec<String> {
        places.iter().map(|place| format!("{place}: {}", &self.key[..7])).collect()
    }
}

#[test]
fn files_are_scanned_in_the_order_of_their_names() {
    let folder = Folder::new(&["b", "a/c", "a/b/z", "a/.hidden", "c.txt", ".env"]);
    let result = folder.scan(&[], Walk::default());
    assert_eq!(result.found, folder.places(&[".env:1", "a/.hidden:1", "a/b/z:1", "a/c:1", "b:1", "c.txt:1"]));
    assert_eq!((result.files, result.unread.len()), (6, 0));
}

#[test]
fn excluded_files_and_folders_are_skipped() {
    let folder = Folder::new(&["a/x.png", "a/x.txt", "docs/a/b.md", "node_modules/a", "b/node_modules/c"]);
    let result = folder.scan(&["*.png", "node_modules/", "docs/**/*.md"], Walk::default());
    assert_eq!(result.found, folder.places(&["a/x.txt:1"]));
}

#[test]
fn git_folder_is_skipped() {
    let folder = Folder::new(&["a", ".git/config", "sub/.git/config", ".gitignore"]);
    assert_eq!(folder.scan(&[], Walk::default()).found, folder.places(&[".gitignore:1", "a:1"]));
}

#[test]
fn key_in_a_file_name_is_found_and_not_shown() {
    let folder = Folder::new(&[]);
    let key = &folder.key;
    folder.write(&format!("d-{key}/f"), "x");
    let result = folder.scan(&[], Walk::default());
    assert_eq!(result.found, folder.places(&[&format!("d-{}…", &key[..7])]));
    let missing = folder.scan_path(&format!("{key}.txt"), &[], &mut Walk::default());
    assert_eq!((missing.unread.len(), missing.unread[0].contains(key.as_str())), (1, false));
}

#[test]
fn missing_path_is_named_and_the_scan_continues() {
    let folder = Folder::new(&["a"]);
    let missing = folder.scan_path("missing", &[], &mut Walk::default());
    assert_eq!(missing.unread, ["missing: No such file or directory (os error 2)"]);
    assert_eq!(folder.scan_path("a", &[], &mut Walk::default()).found, folder.places(&["a:1"]));
}

#[cfg(unix)]
#[test]
fn symlinks_are_followed_only_on_request() {
    use std::os::unix::fs::symlink;

    let folder = Folder::new(&["a/b"]);
    symlink("a", folder.path("link")).unwrap();
    symlink("../a", folder.path("a/loop")).unwrap();
    symlink("nowhere", folder.path("broken")).unwrap();
    assert_eq!(folder.scan(&[], Walk::default()).found, folder.places(&["a/b:1"]));
    let result = folder.scan(&[], Walk::new(true, false));
    assert_eq!(result.found, folder.places(&["a/b:1", "link/b:1"]));
    assert_eq!(result.unread.len(), 1, "{:?}", result.unread);
    assert!(result.unread[0].starts_with("broken: "), "{:?}", result.unread);
    // A path itself may be a link.
    assert_eq!(folder.scan_path("link", &[], &mut Walk::default()).found, folder.places(&["link/b:1"]));
}

#[cfg(unix)]
#[test]
fn special_file_is_skipped() {
    let folder = Folder::new(&["b"]);
    let _socket = std::os::unix::net::UnixListener::bind(folder.path("a")).unwrap();
    let result = folder.scan(&[], Walk::default());
    assert_eq!((result.found, result.unread.len()), (folder.places(&["b:1"]), 0));
    // Named on the command line, it would be a file without keys.
    let named = folder.scan_path("a", &[], &mut Walk::default());
    assert!(named.unread[0].contains("is neither a file nor a folder"), "{:?}", named.unread);
}

#[test]
fn file_that_changes_is_scanned_as_it_was() {
    let folder = Folder::new(&["a"]);
    let (matcher, excludes, mut sink) = (matcher(&["ta"]), Excludes::default(), Collected::default());
    let mut scanner = Scanner::new(&matcher, &excludes, &mut sink);
    // It grows after its length was read: as if written while it is read.
    let grown = File::open(folder.path("a")).unwrap();
    let old_len = grown.metadata().unwrap().len();
    folder.write("a", &format!("{}\n{}", folder.key, folder.key));
    let mut stream = io::Read::take(&grown, old_len);
    scanner.scan_stream("grown", &mut stream).unwrap();
    // It shrinks: there is nothing at the place of the key.
    let shrunk = File::open(folder.path("a")).unwrap();
    io::Seek::seek(&mut &shrunk, io::SeekFrom::Start(old_len + 1)).unwrap();
    folder.write("a", "x");
    scanner.scan_file("shrunk", Ok(shrunk)).unwrap();
    assert_eq!(sink.found, folder.places(&["grown:1"]));
    assert_eq!(sink.unread, [""; 0]);
}
