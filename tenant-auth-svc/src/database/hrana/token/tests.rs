use Access::{Read, Write};

use super::*;

struct Given {
    path: PathBuf,
    token: TokenFile,
    _folder: tempfile::TempDir,
}

impl Given {
    fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        fs::write(&path, text).unwrap();
        let token = TokenFile::open(&path).unwrap();
        Self { path, token, _folder: folder }
    }

    /// Writes the file, and has it looked at.
    fn write(&self, text: &str) {
        fs::write(&self.path, text).unwrap();
        self.token.reread();
    }

    fn is_refused(&self) -> bool {
        self.token.is_refused()
    }
}

fn header(text: &'static str) -> HeaderValue {
    HeaderValue::from_static(text)
}

#[test]
fn a_line_break_is_no_part_of_the_token() {
    let given = Given::new("abc\n");
    assert_eq!(given.token.first(Read), "Bearer abc");
    assert!(!format!("{:?}", given.token).contains("abc"));
}

#[test]
fn a_file_that_cannot_be_used_leaves_the_token_in_force() {
    let given = Given::new("old");
    for bad in ["", "two words, no token"] {
        given.write(bad);
        assert_eq!((given.token.first(Read), given.is_refused()), (header("Bearer old"), true));
    }
    fs::remove_file(&given.path).unwrap();
    assert_eq!(given.token.refuse(Read, &header("Bearer old")), None);
    assert_eq!((given.token.first(Write), given.is_refused()), (header("Bearer old"), true));
    given.write("old");
    assert!(!given.is_refused());
}

#[test]
fn a_new_token_is_in_force_once_it_has_worked() {
    let given = Given::new("old");
    given.write("newer");
    assert_eq!(given.token.first(Read), "Bearer newer", "it is tried");
    given.token.accepted(Read, &header("Bearer newer"));
    assert_eq!(given.token.refuse(Read, &header("Bearer newer")), None, "there is no other one for reads");
    assert_eq!(given.token.refuse(Write, &header("Bearer newer")).unwrap(), "Bearer old");
    assert_eq!((given.token.first(Write), given.is_refused()), (header("Bearer old"), true));
}

#[test]
fn a_new_token_that_is_refused_leaves_the_old_one_for_that_kind_of_access() {
    let given = Given::new("old");
    given.write("reader");
    given.token.accepted(Read, &given.token.first(Read));
    let other = given.token.refuse(Write, &given.token.first(Write)).unwrap();
    assert_eq!((other, given.is_refused()), (header("Bearer old"), true));
    assert_eq!(given.token.first(Write), "Bearer old", "it is not tried with every call");
    assert_eq!(given.token.first(Read), "Bearer reader");
    // The old one ends, and the new one has been tried a moment ago.
    assert_eq!(given.token.refuse(Write, &header("Bearer old")), None);
    given.write("good");
    assert!(!given.is_refused(), "a newer one is not refused yet");
    for access in [Read, Write] {
        assert_eq!(given.token.first(access), "Bearer good");
        given.token.accepted(access, &header("Bearer good"));
    }
    assert!(!given.is_refused());
}

#[test]
fn a_token_that_was_replaced_in_time_is_found_when_the_old_one_is_refused() {
    let given = Given::new("old");
    fs::write(&given.path, "newer").unwrap();
    assert_eq!(given.token.refuse(Write, &header("Bearer old")).unwrap(), "Bearer newer");
}

#[test]
fn an_unusable_file_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing");
    assert!(TokenFile::open(&missing).unwrap_err().to_string().contains("missing"));
    fs::write(&missing, "\n").unwrap();
    assert!(matches!(TokenFile::open(&missing), Err(TokenError::NoToken { .. })));
}

/// A JWT that expires at this second.
fn jwt(exp: i64) -> String {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(format!("{{\"exp\":{exp}}}")))
}

#[test]
fn the_expiry_is_that_of_the_token_in_force() {
    let expiry = |given: &Given| {
        let TokenValidity { reads, writes } = given.token.validity();
        [reads, writes].map(|validity| validity.map(|validity| validity.not_after))
    };
    let given = Given::new(&jwt(1_790_000_000));
    assert_eq!(expiry(&given), [Some(1_790_000_000); 2]);
    given.write(&jwt(1_800_000_000));
    assert_eq!(expiry(&given), [Some(1_790_000_000); 2], "a new one has to work first");
    given.token.accepted(Read, &given.token.first(Read));
    assert_eq!(expiry(&given), [Some(1_800_000_000), Some(1_790_000_000)]);
    given.token.refuse(Write, &given.token.first(Write));
    assert_eq!(expiry(&given), [Some(1_800_000_000), Some(1_790_000_000)], "refused for writes");
    given.write("");
    assert_eq!(expiry(&given), [Some(1_800_000_000), Some(1_790_000_000)], "an unusable file");
    given.write("opaque");
    for access in [Read, Write] {
        given.token.accepted(access, &given.token.first(access));
    }
    assert_eq!(expiry(&given), [None; 2], "no JWT");
}
