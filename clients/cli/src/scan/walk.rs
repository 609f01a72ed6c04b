//! Finds the files below the paths of the command line.

use std::{
    collections::HashSet,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use walkdir::{DirEntry, WalkDir};

use super::{Scanner, Sink, Stopped, git};

/// The name of standard input, as a path and in findings.
const STDIN: &str = "-";
const STDIN_NAME: &str = "<stdin>";

/// Without this, a mistyped path would be a repository without keys.
const NO_REPOSITORY: &str =
    "contains no repository: with --git, a folder must be a work tree, a bare repository, or have one below";

/// Which files are scanned.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    /// Whether symbolic links below a path are followed. A path itself may be one.
    follow_symlinks: bool,
    /// Whether the history of repositories is scanned.
    git: bool,
    /// The repositories that were scanned: a submodule or a second work tree belongs to one of them.
    seen_repositories: HashSet<PathBuf>,
}

impl Walk {
    pub(crate) fn new(follow_symlinks: bool, git: bool) -> Self {
        Self { follow_symlinks, git, seen_repositories: HashSet::new() }
    }
}

/// Scans a file, what is below a folder, or standard input for `-`. The order of the findings depends only on the
/// names.
///
/// # Errors
/// Those of the sink. What cannot be read is no error.
pub(crate) fn scan_path<S: Sink>(
    scanner: &mut Scanner<'_, S>,
    walk: &mut Walk,
    path: &Path,
) -> Result<(), Stopped> {
    if path == Path::new(STDIN) {
        return scanner.scan_stream(STDIN_NAME, &mut io::stdin().lock());
    }
    let shown = scanner.redact(&path.to_string_lossy());
    match fs::metadata(path) {
        Ok(found) if found.is_file() => scanner.scan_file(&shown, File::open(path)),
        Ok(found) if found.is_dir() => scan_folder(scanner, walk, path),
        Ok(_) => {
            scanner
                .sink
                .unread(&shown, "is neither a file nor a folder; for a pipe, use - and standard input");
            Ok(())
        }
        Err(error) => {
            scanner.sink.unread(&shown, &error.to_string());
            Ok(())
        }
    }
}

fn scan_folder<S: Sink>(scanner: &mut Scanner<'_, S>, walk: &mut Walk, root: &Path) -> Result<(), Stopped> {
    let mut found_repository = false;
    let mut entries = WalkDir::new(root).follow_links(walk.follow_symlinks).sort_by_file_name().into_iter();
    while let Some(entry) = entries.next() {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                report_unread(scanner, root, &error);
                continue;
            }
        };
        let is_folder = entry.file_type().is_dir();
        let (name, relative) = names(&entry, root);
        if entry.depth() > 0 && scanner.excludes(&relative) {
            if is_folder {
                entries.skip_current_dir();
            }
            continue;
        }
        let shown = scanner.redact(&entry.path().to_string_lossy());
        if let Some(repository) = repository_of(walk, &entry) {
            if is_folder {
                entries.skip_current_dir();
            }
            if let Some(repository) = repository {
                found_repository = true;
                git::scan_history(scanner, &mut walk.seen_repositories, repository)?;
            }
            continue;
        }
        if entry.depth() > 0 {
            scanner.scan_name(&shown, &name)?;
        }
        if entry.file_type().is_file() {
            scanner.scan_file(&shown, File::open(entry.path()))?;
        }
    }
    if walk.git && !found_repository {
        let shown = scanner.redact(&root.to_string_lossy());
        scanner.sink.unread(&shown, NO_REPOSITORY);
    }
    Ok(())
}

fn report_unread<S: Sink>(scanner: &mut Scanner<'_, S>, root: &Path, error: &walkdir::Error) {
    // What a loop of links leads to is scanned where it is.
    if error.loop_ancestor().is_some() {
        return;
    }
    let shown = scanner.redact(&error.path().unwrap_or(root).to_string_lossy());
    let why = error.io_error().map_or_else(|| error.to_string(), io::Error::to_string);
    scanner.sink.unread(&shown, &why);
}

/// Returns the name of an entry, and its path below the root.
fn names(entry: &DirEntry, root: &Path) -> (String, String) {
    let relative = entry.path().strip_prefix(root).unwrap_or_else(|_| entry.path());
    (entry.file_name().to_string_lossy().into_owned(), relative.to_string_lossy().into_owned())
}

/// Returns whether an entry is not scanned as files, because it is the inside of a repository; and which repository
/// is scanned instead.
fn repository_of<'a>(walk: &Walk, entry: &'a DirEntry) -> Option<Option<&'a Path>> {
    if entry.depth() > 0 && entry.file_name() == ".git" {
        let work_tree = entry.path().parent().unwrap_or_else(|| entry.path());
        return Some(walk.git.then_some(work_tree));
    }
    let is_bare = || {
        let path = entry.path();
        path.join("HEAD").is_file() && path.join("objects").is_dir() && path.join("refs").is_dir()
    };
    (walk.git && entry.file_type().is_dir() && is_bare()).then(|| Some(entry.path()))
}

#[cfg(test)]
mod tests;
