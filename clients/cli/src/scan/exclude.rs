//! Patterns of files that are not scanned.

use glob::{MatchOptions, Pattern, PatternError};

const OPTIONS: MatchOptions = MatchOptions {
    case_sensitive: true,
    // `*` stays within a folder; `**` does not.
    require_literal_separator: true,
    require_literal_leading_dot: false,
};

/// Patterns of files and folders. A pattern without a slash is that of a name in any folder; one with a slash
/// is that of a path below the scanned folder, archive or repository.
#[derive(Debug, Default)]
pub(crate) struct Excludes {
    names: Vec<Pattern>,
    paths: Vec<Pattern>,
}

impl Excludes {
    /// # Errors
    /// When a pattern is invalid.
    pub(crate) fn new(globs: &[String]) -> Result<Self, PatternError> {
        let mut excludes = Self::default();
        for glob in globs {
            let glob = glob.trim_end_matches('/');
            let relative = glob.strip_prefix("./").or_else(|| glob.strip_prefix('/'));
            if relative.is_some() || glob.contains('/') {
                excludes.paths.push(Pattern::new(relative.unwrap_or(glob))?);
            } else {
                excludes.names.push(Pattern::new(glob)?);
            }
        }
        Ok(excludes)
    }

    /// Returns whether a relative path or one of its folders is excluded.
    pub(super) fn contains(&self, path: &str) -> bool {
        if self.names.is_empty() && self.paths.is_empty() {
            return false;
        }
        let path = path.strip_prefix("./").unwrap_or(path);
        let mut start = 0;
        for end in path.match_indices('/').map(|(at, _)| at).chain([path.len()]) {
            let matches =
                |patterns: &[Pattern], text| patterns.iter().any(|glob| glob.matches_with(text, OPTIONS));
            if matches(&self.names, &path[start..end]) || matches(&self.paths, &path[..end]) {
                return true;
            }
            start = end + 1;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_names_or_paths() {
        for (glob, path, expected) in [
            ("*.png", "a/b/c.png", true),
            ("*.png", "a/b/c.png.txt", false),
            ("node_modules", "a/node_modules/b/c.js", true),
            ("node_modules/", "node_modules", true),
            ("a/*.txt", "a/b.txt", true),
            ("a/*.txt", "x/a/b.txt", false),
            ("a/*.txt", "a/b/c.txt", false),
            ("a/**/*.txt", "a/b/c.txt", true),
            ("/a", "a/b", true),
            ("/a", "b/a", false),
            ("./a", "./a/b", true),
            ("*", ".hidden", true),
        ] {
            let excludes = Excludes::new(&[glob.to_owned()]).unwrap();
            assert_eq!(excludes.contains(path), expected, "{glob} {path}");
        }
    }

    #[test]
    fn invalid_exclude_pattern_is_rejected() {
        assert!(Excludes::new(&["a[".to_owned()]).is_err());
        assert!(!Excludes::default().contains("a"));
    }
}
