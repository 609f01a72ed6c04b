//! The languages that there is a client for, and what it takes to run one.

use std::{
    env, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// A language whose client comes with tools that cargo does not bring.
#[derive(Clone, Copy, Debug)]
pub struct Language {
    /// Its name, which is that of the client's folder.
    pub name: &'static str,
    /// Programs that must be there, each with arguments with which it ends well.
    tools: &'static [&'static [&'static str]],
    /// Makes the conformance runner, from the client's folder. `{out}` is a folder for what is built.
    prepare_command: &'static [&'static str],
    /// Starts the conformance runner.
    runner_command: &'static [&'static str],
}

/// All of them.
pub const LANGUAGES: [Language; 4] = [
    Language {
        name: "rust",
        tools: &[],
        // An example of the client's crate, which is a program of this one too: cargo has built it.
        prepare_command: &[],
        runner_command: &["{programs}/conformance-rust"],
    },
    Language {
        name: "typescript",
        tools: &[&["node", "--version"], &["npm", "--version"]],
        prepare_command: &["conformance/prepare"],
        runner_command: &["conformance/run"],
    },
    Language {
        name: "go",
        tools: &[&["go", "version"], &["cc", "--version"]],
        prepare_command: &["go", "build", "-o", "{out}/conformance-go", "./conformance"],
        runner_command: &["{out}/conformance-go"],
    },
    Language {
        name: "python",
        tools: &[&["python3", "-c", "import sys, venv; sys.exit(sys.version_info < (3, 11))"]],
        prepare_command: &["tools/environment"],
        runner_command: &["conformance/run"],
    },
];

impl Language {
    /// The client's folder.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(self.name)
    }

    /// The first of its tools that this machine lacks.
    #[must_use]
    pub fn missing_tool(&self) -> Option<String> {
        let works = |tool: &&&[&str]| {
            let ran = Command::new(tool[0]).args(&tool[1..]).stdin(Stdio::null()).output();
            ran.is_ok_and(|output| output.status.success())
        };
        self.tools.iter().find(|tool| !works(tool)).map(|tool| tool.join(" "))
    }

    /// Makes the conformance runner of what is in the client's folder now.
    ///
    /// # Errors
    /// When it cannot be started; when it ends badly, with what it said.
    pub fn prepare(&self, out: &Path) -> io::Result<()> {
        if self.prepare_command.is_empty() {
            return Ok(());
        }
        let output = self.command(self.prepare_command, out).stdin(Stdio::null()).output()?;
        if output.status.success() {
            return Ok(());
        }
        let said = [output.stdout, output.stderr].concat();
        Err(io::Error::other(format!("{:?}: {}", self.prepare_command, String::from_utf8_lossy(&said))))
    }

    /// Starts the conformance runner.
    #[must_use]
    pub fn runner_command(&self, out: &Path) -> Command {
        self.command(self.runner_command, out)
    }

    /// Starts the client's own tests.
    #[must_use]
    pub fn suite_command(&self) -> Command {
        self.command(&["./run-tests"], Path::new(""))
    }

    fn command(&self, words: &[&str], out: &Path) -> Command {
        let (out, programs) = (out.display().to_string(), program_folder().display().to_string());
        let mut words = words.iter().map(|word| word.replace("{out}", &out).replace("{programs}", &programs));
        let program = words.next().unwrap_or_default();
        let folder = self.folder();
        // A program with a folder is the client's own, unless its path is complete; others are found by the system.
        let mut command =
            Command::new(if program.contains('/') { folder.join(program) } else { program.into() });
        command.args(words).current_dir(folder);
        for (name, _) in env::vars_os() {
            // What this machine has set up for its own service is none of the clients' business.
            if name.to_string_lossy().starts_with("TENANT_AUTH_") {
                command.env_remove(name);
            }
        }
        command
    }
}

/// Where cargo has put this crate's programs: beside the folder of its tests.
pub(crate) fn program_folder() -> PathBuf {
    let test = env::current_exe().unwrap_or_default();
    test.ancestors().nth(2).map_or_else(PathBuf::new, Path::to_owned)
}

/// Whether a missing tool is a failure: where changes are judged, nothing may go untested.
#[must_use]
pub fn is_every_tool_required() -> bool {
    env::var("CI").is_ok_and(|value| value == "true")
}
