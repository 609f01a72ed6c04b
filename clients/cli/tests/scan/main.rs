//! `tenantctl scan` as a process.
#![allow(clippy::unwrap_used)]

mod planted;
mod process;
mod report;

use std::{
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use tenant_auth_svc::domain::key::KeyFormat;

struct CommandOutput {
    code: i32,
    stdout: String,
    stderr: String,
}

/// Returns the command without the variables of the user.
fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tenantctl"));
    command.arg("scan").args(args);
    for variable in ["ENDPOINT", "TOKEN_FILE", "CA_FILE", "CERT_FILE", "CERT_KEY_FILE"] {
        command.env_remove(format!("TENANTCTL_{variable}"));
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn scan(args: &[&str], stdin: &[u8]) -> CommandOutput {
    let mut child = command(args).spawn().unwrap();
    // The program may exit without reading its input.
    let _ = child.stdin.take().unwrap().write_all(stdin);
    let output = child.wait_with_output().unwrap();
    CommandOutput {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Generates a key as the service does.
fn generate_key(prefix: &str) -> String {
    KeyFormat::new(prefix).unwrap().generate().unwrap().expose().to_owned()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
