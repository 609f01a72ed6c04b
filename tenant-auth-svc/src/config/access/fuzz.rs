//! Fuzzing of the callers file.

use tenant_auth_testkit::fuzz::Language;

use super::*;

/// A token that was put where its hash belongs, or anywhere else.
const TOKEN: &str = "tac_0123456789abcdefghijklmnop";

const LANGUAGE: Language = Language {
    seeds: &[
        b"[[caller]]\nname = 'api'\nroles = ['validator']\ntoken_sha256 = ['0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef']\n",
        b"[[caller]]\nname = 'a'\nroles = ['meter', 'sessions']\ndns = ['a.example']\nuri = ['spiffe://x/a']\n[[caller]]\nname = 'b'\nroles = ['admin']\ndns = ['b']\n",
        b"[[caller]]\nname = 'a'\nroles = 'tac_0123456789abcdefghijklmnop'\n",
        b"[[caller]]\nname = 'a'\ntac_0123456789abcdefghijklmnop = 1\n",
        b"[[caller]]\nname = 'a'\nroles = ['tac_0123456789abcdefghijklmnop']\n",
        b"tac_0123456789abcdefghijklmnop = 1\n",
    ],
    words: &[
        b"[[caller]]\n", b"tac_0123456789abcdefghijklmnop", b"'tac_0123456789abcdefghijklmnop'", b"token_sha256 = ", b"roles = ", b"dns = ",
        b"uri = ", b"['", b"']", b"'", b"\n", b"=", b"[", b"]", b"{", b"}", b".", b"\"", b"\\", b"\xff",
    ],
};

#[test]
fn callers_file_errors_never_show_a_token() {
    LANGUAGE.check(|bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else { return };
        let Err(error) = parse_callers(text) else { return };
        // A caller's name is not secret, and the message must contain it.
        let names = text.lines().any(|line| line.contains("name") && line.contains(TOKEN));
        assert!(names || !error.contains(TOKEN), "{error}");
        let has_location = ["line ", "caller"].iter().any(|word| error.contains(word));
        assert!(has_location, "{error}");
    });
}
