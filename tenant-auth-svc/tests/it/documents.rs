//! Checks the documents: tests that a guarantee names exist, relative links resolve, and the first two pages
//! stay short.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Maximum length of README.md, in lines: new readers read all of it.
const MAX_README_LINES: usize = 150;
/// Maximum length of ARCHITECTURE.md, in words: about ten minutes of reading.
const MAX_ARCHITECTURE_WORDS: usize = 2_000;
/// Folders that tools write. The tests also skip folders whose name starts with a dot.
const TOOL_FOLDERS: [&str; 2] = ["node_modules", "target"];

/// The folder of this crate.
fn crate_folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The folder of the repository.
fn repository() -> &'static Path {
    crate_folder().parent().unwrap()
}

/// The path of a file as the messages show it.
fn display_path(file: &Path) -> String {
    file.strip_prefix(repository()).unwrap_or(file).display().to_string()
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_else(|error| panic!("cannot read {}: {error}", display_path(file)))
}

/// Adds the files below a folder whose extension is the given one, in the order of their names.
fn files_below(folder: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        let name = path.file_name().unwrap().to_string_lossy();
        if path.is_symlink() || name.starts_with('.') || TOOL_FOLDERS.contains(&&*name) {
            continue;
        }
        if path.is_dir() {
            files_below(&path, extension, found);
        } else if path.extension().is_some_and(|its| its == extension) {
            found.push(path);
        }
    }
}

/// The test functions of a file: each function after a `#[test]` or `#[tokio::test…]`. Attributes may be between them.
fn tests_in(file: &Path) -> BTreeSet<String> {
    let mut tests = BTreeSet::new();
    let mut after_attribute = false;
    for line in read(file).lines().map(str::trim_start) {
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            after_attribute = true;
        } else if let Some(rest) = line.strip_prefix("async fn ").or_else(|| line.strip_prefix("fn ")) {
            if after_attribute {
                tests.insert(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
            }
            after_attribute = false;
        }
    }
    tests
}

/// The file of a module of a suite, found by the declarations from `main.rs` down.
fn module_file(suite: &Path, modules: &[&str]) -> Result<PathBuf, String> {
    let mut file = suite.join("main.rs");
    let mut folder = suite.to_owned();
    for module in modules {
        if file.is_file() && !read(&file).lines().any(|line| line.ends_with(&format!("mod {module};"))) {
            return Err(format!("{} does not declare `mod {module};`", display_path(&file)));
        }
        file = folder.join(format!("{module}.rs"));
        folder.push(module);
    }
    if file.is_file() { Ok(file) } else { Err(format!("there is no file {}", display_path(&file))) }
}

/// Finds the test, or the tests, that a name in the guarantees stands for, or says why there is none.
fn find_tests(name: &str) -> Result<(), String> {
    let (suite, path) = name.split_once(": ").unwrap_or(("it", name));
    let suite = match suite {
        "scaling" => repository().join("clients/conformance/tests/scaling"),
        _ => crate_folder().join("tests").join(suite),
    };
    let mut modules: Vec<_> = path.split("::").collect();
    let test = modules.pop().unwrap_or_default();
    let file = module_file(&suite, &modules)?;
    let Some(prefix) = test.strip_suffix('*') else {
        return if tests_in(&file).contains(test) {
            Ok(())
        } else {
            Err(format!("{} has no test `{test}`", display_path(&file)))
        };
    };
    let below = if modules.is_empty() { suite } else { file.with_extension("") };
    let mut files = vec![file.clone()];
    if below.is_dir() {
        files_below(&below, "rs", &mut files);
    }
    let found = files.iter().flat_map(|file| tests_in(file)).any(|test| test.starts_with(prefix));
    if found { Ok(()) } else { Err(format!("{} and its modules have no test `{test}`", display_path(&file))) }
}

/// The names in the last cell of a row of a table: its code spans.
fn names_in(row: &str) -> Vec<&str> {
    let last = row.trim_end().trim_end_matches('|').rsplit('|').next().unwrap_or_default();
    last.split('`').skip(1).step_by(2).collect()
}

/// The rows of the tables whose last column names tests, with their line numbers.
fn rows_with_tests(text: &str) -> Vec<(usize, &str)> {
    let lines: Vec<_> = text.lines().collect();
    let (mut rows, mut is_among) = (Vec::new(), false);
    for (index, line) in lines.iter().enumerate() {
        if lines.get(index + 1).is_some_and(|next| next.starts_with("|-")) {
            is_among = line.ends_with("| tests |");
        } else if is_among && line.starts_with('|') && !line.starts_with("|-") {
            rows.push((index + 1, *line));
        }
    }
    rows
}

/// Checks a document, and returns how many tests it names.
fn check_named_tests(document: &str) -> usize {
    let file = crate_folder().join(document);
    let text = read(&file);
    let mut problems = Vec::new();
    let mut checked = 0;
    for (number, row) in rows_with_tests(&text) {
        let at = format!("{}:{number}", display_path(&file));
        let names = names_in(row);
        if names.is_empty() {
            problems.push(format!("{at}: the row names no test: name one in its last column, in backticks"));
        }
        for name in names {
            checked += 1;
            if let Err(why) = find_tests(name) {
                problems.push(format!("{at}: `{name}`: {why}: write the test, or name one that exists"));
            }
        }
    }
    assert!(problems.is_empty(), "{problems:#?}");
    checked
}

#[test]
fn every_test_that_a_guarantee_names_exists() {
    for (document, least) in [("docs/guarantees.md", 80), ("docs/console.md", 10)] {
        let checked = check_named_tests(document);
        assert!(checked > least, "{document}: only {checked} tests were found in the tables");
    }
}

#[test]
fn guarantee_without_test_is_reported() {
    assert_eq!(find_tests("documents::guarantee_without_test_is_reported"), Ok(()));
    assert_eq!(find_tests("documents::guarantee_*"), Ok(()));
    assert_eq!(find_tests("incident: *"), Ok(()));
    for wrong in [
        "documents::no_such_test",
        "documents::find_tests",
        "documents::no_such_*",
        "no_such_module::*",
        "none: *",
    ] {
        assert!(find_tests(wrong).is_err(), "{wrong} was found");
    }
}

/// The lines of a Markdown text that are not in fenced code, with their numbers.
fn prose_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fence: Option<&str> = None;
    text.lines().enumerate().filter_map(move |(index, line)| {
        let start = line.trim_start();
        if let Some(mark) = ["```", "~~~"].into_iter().find(|mark| start.starts_with(mark)) {
            match fence {
                None => fence = Some(mark),
                Some(open) if open == mark => fence = None,
                Some(_) => {}
            }
            return None;
        }
        fence.is_none().then_some((index + 1, line))
    })
}

/// The target of each link of a line, code spans left out.
fn links(line: &str) -> Vec<String> {
    let text: String = line.split('`').step_by(2).collect();
    let mut targets: Vec<_> = text
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split([')', ' ']).next())
        .map(|target| target.trim_matches(['<', '>']).to_owned())
        .collect();
    // A reference: [name]: target
    if let Some((name, target)) = text.split_once("]: ")
        && name.starts_with('[')
    {
        targets.extend(target.split_whitespace().next().map(str::to_owned));
    }
    targets
}

/// The anchor that GitHub gives a heading: letters, digits, hyphens and underscores, blanks as hyphens, in lower case.
fn heading_anchor(heading: &str) -> String {
    // The anchor of a link contains only its text.
    let mut text = String::new();
    let mut rest = heading;
    while let Some((before, after)) = rest.split_once("](") {
        text.push_str(before);
        rest = after.split_once(')').map_or("", |(_, after)| after);
    }
    text.push_str(rest);
    text.to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

/// The anchors of all headings of a text. The second heading of one name has `-1` behind its anchor.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut seen = BTreeMap::new();
    let mut anchors = BTreeSet::new();
    for (_, line) in prose_lines(text) {
        let level = line.chars().take_while(|c| *c == '#').count();
        let Some(heading) = line[level..].strip_prefix(' ').filter(|_| (1..=6).contains(&level)) else {
            continue;
        };
        let slug = heading_anchor(heading.trim().trim_end_matches('#').trim_end());
        let times: &mut usize = seen.entry(slug.clone()).or_default();
        anchors.insert(if *times == 0 { slug } else { format!("{slug}-{times}") });
        *times += 1;
    }
    anchors
}

/// The problem of a link in a file. Links with a scheme are not checked.
fn problem_of(file: &Path, target: &str) -> Option<String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
    let to = if path.is_empty() { file.to_owned() } else { file.parent()?.join(path) };
    if !to.exists() {
        return Some("there is no such file: correct the path".to_owned());
    }
    let markdown = to.extension().is_some_and(|extension| extension == "md");
    if anchor.is_empty() || !markdown || anchors(&read(&to)).contains(anchor) {
        return None;
    }
    Some("the file has no such heading: name one of its headings, or restore the heading".to_owned())
}

#[test]
fn every_relative_link_resolves_to_a_file_and_a_heading() {
    let mut files = Vec::new();
    files_below(repository(), "md", &mut files);
    let mut problems = Vec::new();
    let mut checked = 0;
    for file in &files {
        let text = read(file);
        for (number, line) in prose_lines(&text) {
            for target in links(line) {
                checked += 1;
                if let Some(problem) = problem_of(file, &target) {
                    problems.push(format!("{}:{number}: {target}: {problem}", display_path(file)));
                }
            }
        }
    }
    assert!(problems.is_empty(), "{problems:#?}");
    assert!(files.len() > 50 && checked > 150, "{} files with {checked} links were found", files.len());
}

#[test]
fn anchors_match_github_rules() {
    let text = "# One *idea*, `each`\n```sh\n# No heading\n```\n## [Docs](a.md) & more_2\n## Twice\n## Twice ##\n#no\n";
    let expected = ["docs--more_2", "one-idea-each", "twice", "twice-1"];
    assert_eq!(anchors(text).iter().map(String::as_str).collect::<Vec<_>>(), expected);
    assert_eq!(links("[a](b.md#c), [`d`](e.md \"f\"), `[g](h.md)`"), ["b.md#c", "e.md"]);
    assert_eq!(links("[a]: b.md"), ["b.md"]);

    let readme = repository().join("README.md");
    assert_eq!(problem_of(&readme, "#two-commands"), None);
    assert_eq!(problem_of(&readme, "https://example.org/none#none"), None);
    assert!(problem_of(&readme, "#no-such-heading").is_some());
    assert!(problem_of(&readme, "no/such/file.md").is_some());
}

#[test]
fn readme_and_architecture_stay_short() {
    let readme = repository().join("README.md");
    let lines = read(&readme).lines().count();
    assert!(
        lines <= MAX_README_LINES,
        "{}:{lines}: more than {MAX_README_LINES} lines: move what a newcomer does not need to tenant-auth-svc/docs/",
        display_path(&readme)
    );
    let architecture = crate_folder().join("ARCHITECTURE.md");
    let text = read(&architecture);
    let words = text.split_whitespace().count();
    assert!(
        words <= MAX_ARCHITECTURE_WORDS,
        "{}:{}: {words} words, more than {MAX_ARCHITECTURE_WORDS}: move the detail to tenant-auth-svc/docs/",
        display_path(&architecture),
        text.lines().count()
    );
}
