//! Reads a key from standard input, from a file, or from a prompt without echo. Never from the command line,
//! which is visible in the shell history and to other users.

use std::{
    fs::File,
    io::{self, IsTerminal as _, Read},
    path::{Path, PathBuf},
};

use clap::Args;
use tenant_auth_client::PresentedKey;
use zeroize::Zeroizing;

use crate::failure::Failure;

/// No key is longer than 256 bytes. This limit only bounds the input; the service decides what is valid.
const MAX_INPUT_BYTES: usize = 4_096;

#[derive(Debug, Args)]
pub(crate) struct KeySource {
    /// Read the key from this file (- for standard input), instead of standard input or a prompt
    #[arg(long, value_name = "PATH")]
    key_file: Option<PathBuf>,
}

impl KeySource {
    /// Returns whether the key comes from a file.
    pub(crate) fn has_key_file(&self) -> bool {
        self.key_file.is_some()
    }

    pub(crate) fn read(&self) -> Result<PresentedKey, Failure> {
        match self.key_file.as_deref() {
            Some(path) if path != Path::new("-") => {
                let name = path.display().to_string();
                let file = File::open(path).map_err(|error| unreadable(&name, &error))?;
                read_key(file, &name)
            }
            None if io::stdin().is_terminal() => prompt(),
            _ => read_key(io::stdin().lock(), "standard input"),
        }
    }
}

fn prompt() -> Result<PresentedKey, Failure> {
    let typed = rpassword::prompt_password("Key (not shown): ");
    let typed = typed.map_err(|error| unreadable("the terminal", &error))?;
    read_key(Zeroizing::new(typed).as_bytes(), "the terminal")
}

fn unreadable(name: &str, error: &io::Error) -> Failure {
    Failure::usage(format!("cannot read the key from {name}: {error}"))
}

/// Reads one line as the key, without its line end.
fn read_key(source: impl Read, name: &str) -> Result<PresentedKey, Failure> {
    // Full capacity from the start: growing would leave copies in freed memory.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_INPUT_BYTES + 1));
    source
        .take(MAX_INPUT_BYTES as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| unreadable(name, &error))?;
    let rejected = |reason: &str| Failure::usage(format!("{name}: {reason}"));
    if bytes.len() > MAX_INPUT_BYTES {
        return Err(rejected("too long for a key"));
    }
    let text = str::from_utf8(&bytes).map_err(|_| rejected("not UTF-8, so not a key"))?;
    let line = text.strip_suffix('\n').unwrap_or(text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.is_empty() {
        return Err(rejected("contains no key"));
    }
    if line.contains('\n') {
        return Err(rejected("contains more than one line; give one key"));
    }
    Ok(PresentedKey::new(line))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn line_end_is_not_part_of_the_key() {
        for input in ["ta_x", "ta_x\n", "ta_x\r\n"] {
            assert_eq!(read_key(input.as_bytes(), "input").unwrap().expose(), "ta_x");
        }
        assert_eq!(read_key(" ta x \n".as_bytes(), "input").unwrap().expose(), " ta x ");
    }

    #[test]
    fn invalid_key_input_is_rejected_without_showing_it() {
        let long = "canary".repeat(1_000);
        for input in ["", "\n", "canary\ncanary\n", "canary\n\n", &long] {
            let failure = read_key(input.as_bytes(), "input").unwrap_err();
            assert!(!format!("{failure:?}").contains("canary"), "{failure:?}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in any::<Vec<u8>>()) {
            let _ = read_key(bytes.as_slice(), "input");
        }
    }
}
