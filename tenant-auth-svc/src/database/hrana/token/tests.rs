use TokenUse::{Read, Write};

use super::*;

struct TokenFixture {
    path: PathBuf,
    token: TokenFile,
    _folder: tempfile::TempDir,
}

impl TokenFixture {
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
        self.token.reload();
    }

    fn is_refused(&self) -> bool {
        self.token.is_refused()
    }
}

fn header_value(text: &'static str) -> HeaderValue {
    HeaderValue::from_static(text)
}

#[test]
fn trailing_newline_is_trimmed_from_token() {
    let given = TokenFixture::new("abc\n");
    assert_eq!(given.token.header_for(Read), "Bearer abc");
    assert!(!format!("{:?}", given.token).contains("abc"));
}

#[test]
fn unusable_token_file_keeps_current_token() {
    let given = TokenFixture::new("old");
    for bad in ["", "two words, no token"] {
        given.write(bad);
        assert_eq!((given.token.header_for(Read), given.is_refused()), (header_value("Bearer old"), true));
    }
    fs::remove_file(&given.path).unwrap();
    assert_eq!(given.token.record_refused(Read, &header_value("Bearer old")), None);
    assert_eq!((given.token.header_for(Write), given.is_refused()), (header_value("Bearer old"), true));
    given.write("old");
    assert!(!given.is_refused());
}

#[test]
fn new_token_becomes_current_after_first_success() {
    let given = TokenFixture::new("old");
    given.write("newer");
    assert_eq!(given.token.header_for(Read), "Bearer newer", "it is tried");
    given.token.record_accepted(Read, &header_value("Bearer newer"));
    assert_eq!(
        given.token.record_refused(Read, &header_value("Bearer newer")),
        None,
        "there is no other one for reads"
    );
    assert_eq!(given.token.record_refused(Write, &header_value("Bearer newer")).unwrap(), "Bearer old");
    assert_eq!((given.token.header_for(Write), given.is_refused()), (header_value("Bearer old"), true));
}

#[test]
fn refused_token_keeps_old_one_for_that_use() {
    let given = TokenFixture::new("old");
    given.write("reader");
    given.token.record_accepted(Read, &given.token.header_for(Read));
    let other = given.token.record_refused(Write, &given.token.header_for(Write)).unwrap();
    assert_eq!((other, given.is_refused()), (header_value("Bearer old"), true));
    assert_eq!(given.token.header_for(Write), "Bearer old", "it is not tried with every call");
    assert_eq!(given.token.header_for(Read), "Bearer reader");
    // The old one ends, and the new one has been tried a moment ago.
    assert_eq!(given.token.record_refused(Write, &header_value("Bearer old")), None);
    given.write("good");
    assert!(!given.is_refused(), "a newer one is not refused yet");
    for access in [Read, Write] {
        assert_eq!(given.token.header_for(access), "Bearer good");
        given.token.record_accepted(access, &header_value("Bearer good"));
    }
    assert!(!given.is_refused());
}

#[test]
fn replaced_token_is_read_when_old_one_is_refused() {
    let given = TokenFixture::new("old");
    fs::write(&given.path, "newer").unwrap();
    assert_eq!(given.token.record_refused(Write, &header_value("Bearer old")).unwrap(), "Bearer newer");
}

#[test]
fn unusable_token_file_error_names_the_path() {
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
fn validity_is_that_of_the_current_token() {
    let expiry = |given: &TokenFixture| {
        let TokenValidity { reads, writes } = given.token.validity();
        [reads, writes].map(|validity| validity.map(|validity| validity.not_after))
    };
    let given = TokenFixture::new(&jwt(1_790_000_000));
    assert_eq!(expiry(&given), [Some(1_790_000_000); 2]);
    given.write(&jwt(1_800_000_000));
    assert_eq!(expiry(&given), [Some(1_790_000_000); 2], "a new one has to work first");
    given.token.record_accepted(Read, &given.token.header_for(Read));
    assert_eq!(expiry(&given), [Some(1_800_000_000), Some(1_790_000_000)]);
    given.token.record_refused(Write, &given.token.header_for(Write));
    assert_eq!(expiry(&given), [Some(1_800_000_000), Some(1_790_000_000)], "refused for writes");
    given.write("");
    assert_eq!(expiry(&given), [Some(1_800_000_000), Some(1_790_000_000)], "an unusable file");
    given.write("opaque");
    for access in [Read, Write] {
        given.token.record_accepted(access, &given.token.header_for(access));
    }
    assert_eq!(expiry(&given), [None; 2], "no JWT");
}
