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

    /// Writes the file, and has it checked.
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
    let fixture = TokenFixture::new("abc\n");
    assert_eq!(fixture.token.header_for(Read), "Bearer abc");
    assert!(!format!("{:?}", fixture.token).contains("abc"));
}

#[test]
fn unusable_token_file_keeps_current_token() {
    let fixture = TokenFixture::new("old");
    for bad in ["", "two words, no token"] {
        fixture.write(bad);
        assert_eq!(
            (fixture.token.header_for(Read), fixture.is_refused()),
            (header_value("Bearer old"), true)
        );
    }
    fs::remove_file(&fixture.path).unwrap();
    assert_eq!(fixture.token.record_refused(Read, &header_value("Bearer old")), None);
    assert_eq!((fixture.token.header_for(Write), fixture.is_refused()), (header_value("Bearer old"), true));
    fixture.write("old");
    assert!(!fixture.is_refused());
}

#[test]
fn new_token_becomes_current_after_first_success() {
    let fixture = TokenFixture::new("old");
    fixture.write("newer");
    assert_eq!(fixture.token.header_for(Read), "Bearer newer", "the new token is tried");
    fixture.token.record_accepted(Read, &header_value("Bearer newer"));
    assert_eq!(
        fixture.token.record_refused(Read, &header_value("Bearer newer")),
        None,
        "there is no other token for reads"
    );
    assert_eq!(fixture.token.record_refused(Write, &header_value("Bearer newer")).unwrap(), "Bearer old");
    assert_eq!((fixture.token.header_for(Write), fixture.is_refused()), (header_value("Bearer old"), true));
}

#[test]
fn refused_token_keeps_old_one_for_that_use() {
    let fixture = TokenFixture::new("old");
    fixture.write("reader");
    fixture.token.record_accepted(Read, &fixture.token.header_for(Read));
    let other = fixture.token.record_refused(Write, &fixture.token.header_for(Write)).unwrap();
    assert_eq!((other, fixture.is_refused()), (header_value("Bearer old"), true));
    assert_eq!(
        fixture.token.header_for(Write),
        "Bearer old",
        "the rejected token is not tried with every call"
    );
    assert_eq!(fixture.token.header_for(Read), "Bearer reader");
    // The old token expires, and the new one was tried just before.
    assert_eq!(fixture.token.record_refused(Write, &header_value("Bearer old")), None);
    fixture.write("good");
    assert!(!fixture.is_refused(), "a newer token is not refused yet");
    for access in [Read, Write] {
        assert_eq!(fixture.token.header_for(access), "Bearer good");
        fixture.token.record_accepted(access, &header_value("Bearer good"));
    }
    assert!(!fixture.is_refused());
}

#[test]
fn replaced_token_is_read_when_old_one_is_refused() {
    let fixture = TokenFixture::new("old");
    fs::write(&fixture.path, "newer").unwrap();
    assert_eq!(fixture.token.record_refused(Write, &header_value("Bearer old")).unwrap(), "Bearer newer");
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
    let expiry = |fixture: &TokenFixture| {
        let TokenValidity { reads, writes } = fixture.token.validity();
        [reads, writes].map(|validity| validity.map(|validity| validity.not_after))
    };
    let fixture = TokenFixture::new(&jwt(1_790_000_000));
    assert_eq!(expiry(&fixture), [Some(1_790_000_000); 2]);
    fixture.write(&jwt(1_800_000_000));
    assert_eq!(expiry(&fixture), [Some(1_790_000_000); 2], "a new token must work first");
    fixture.token.record_accepted(Read, &fixture.token.header_for(Read));
    assert_eq!(expiry(&fixture), [Some(1_800_000_000), Some(1_790_000_000)]);
    fixture.token.record_refused(Write, &fixture.token.header_for(Write));
    assert_eq!(expiry(&fixture), [Some(1_800_000_000), Some(1_790_000_000)], "refused for writes");
    fixture.write("");
    assert_eq!(expiry(&fixture), [Some(1_800_000_000), Some(1_790_000_000)], "an unusable file");
    fixture.write("opaque");
    for access in [Read, Write] {
        fixture.token.record_accepted(access, &fixture.token.header_for(access));
    }
    assert_eq!(expiry(&fixture), [None; 2], "no JWT");
}
