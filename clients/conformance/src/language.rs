//! The languages with a client, and how to run each client.

use std::{
    env, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// A language whose client needs tools that cargo does not install.
#[derive(Clone, Copy, Debug)]
pub struct Language {
    /// Its name, which is also the name of the client's folder.
    pub name: &'static str,
    /// The required programs, each with arguments that make it exit successfully.
    tools: &'static [&'static [&'static str]],
    /// The command that builds the conformance runner, run in the client's folder. `{out}` is a folder for
    /// build output.
    prepare_command: &'static [&'static str],
    /// The command that starts the conformance runner.
    runner_command: &'static [&'static str],
    /// The command that starts the example MCP server at `{listen}`, which has the port `{port}`, with the service at
    /// `{service}`. Empty if there is none.
    mcp_server_command: &'static [&'static str],
}

/// All languages.
pub const LANGUAGES: [Language; 4] = [
    Language {
        name: "rust",
        tools: &[],
        // An example of the client's crate, which this crate also declares, so cargo has built it.
        prepare_command: &[],
        runner_command: &["{programs}/conformance-rust"],
        mcp_server_command: &[
            "env",
            "TENANT_AUTH_ENDPOINT=http://{service}",
            "LISTEN={listen}",
            "{programs}/mcp-server-rust",
        ],
    },
    Language {
        name: "typescript",
        tools: &[&["node", "--version"], &["npm", "--version"]],
        prepare_command: &["conformance/prepare"],
        runner_command: &["conformance/run"],
        mcp_server_command: &[
            "env",
            "TENANT_AUTH_ENDPOINTS={service}",
            "PORT={port}",
            "node",
            "build/examples/mcp-server.js",
        ],
    },
    Language {
        name: "go",
        tools: &[&["go", "version"], &["cc", "--version"]],
        prepare_command: &["go", "build", "-o", "{out}/conformance-go", "./conformance"],
        runner_command: &["{out}/conformance-go"],
        mcp_server_command: &[],
    },
    Language {
        name: "python",
        tools: &[&["python3", "-c", "import sys, venv; sys.exit(sys.version_info < (3, 11))"]],
        prepare_command: &["tools/environment"],
        runner_command: &["conformance/run"],
        mcp_server_command: &[
            ".venv/bin/python",
            "examples/mcp_server.py",
            "--tenant-auth={service}",
            "--port={port}",
        ],
    },
];

impl Language {
    /// Returns the client's folder.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(self.name)
    }

    /// Returns the first required tool that is missing on this machine.
    #[must_use]
    pub fn missing_tool(&self) -> Option<String> {
        let works = |tool: &&&[&str]| {
            let ran = Command::new(tool[0]).args(&tool[1..]).stdin(Stdio::null()).output();
            ran.is_ok_and(|output| output.status.success())
        };
        self.tools.iter().find(|tool| !works(tool)).map(|tool| tool.join(" "))
    }

    /// Builds the conformance runner from the client's current sources.
    ///
    /// # Errors
    /// Fails if the command cannot be started or exits with an error, with its output.
    pub fn prepare(&self, out: &Path) -> io::Result<()> {
        if self.prepare_command.is_empty() {
            return Ok(());
        }
        let output = self.command(self.prepare_command, out).stdin(Stdio::null()).output()?;
        if output.status.success() {
            return Ok(());
        }
        let output_text = [output.stdout, output.stderr].concat();
        Err(io::Error::other(format!(
            "{:?}: {}",
            self.prepare_command,
            String::from_utf8_lossy(&output_text)
        )))
    }

    /// Returns the command that starts the conformance runner.
    #[must_use]
    pub fn runner_command(&self, out: &Path) -> Command {
        self.command(self.runner_command, out)
    }

    /// Whether there is an example MCP server.
    #[must_use]
    pub fn has_mcp_server(&self) -> bool {
        !self.mcp_server_command.is_empty()
    }

    /// Returns the command that starts the example MCP server at `listen`, with the service at `service`.
    #[must_use]
    pub fn mcp_server_command(&self, out: &Path, service: SocketAddr, listen: SocketAddr) -> Option<Command> {
        let filled = |word: &&str| {
            let word = word.replace("{service}", &service.to_string());
            word.replace("{listen}", &listen.to_string()).replace("{port}", &listen.port().to_string())
        };
        let words: Vec<_> = self.mcp_server_command.iter().map(filled).collect();
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        self.has_mcp_server().then(|| self.command(&words, out))
    }

    /// Returns the command that runs the client's own tests.
    #[must_use]
    pub fn suite_command(&self) -> Command {
        self.command(&["./run-tests"], Path::new(""))
    }

    fn command(&self, words: &[&str], out: &Path) -> Command {
        let (out, programs) = (out.display().to_string(), program_folder().display().to_string());
        let mut words = words.iter().map(|word| word.replace("{out}", &out).replace("{programs}", &programs));
        let program = words.next().unwrap_or_default();
        let folder = self.folder();
        // A relative path with a folder is relative to the client's folder; other program names are looked up
        // by the system.
        let mut command =
            Command::new(if program.contains('/') { folder.join(program) } else { program.into() });
        command.args(words).current_dir(folder);
        for (name, _) in env::vars_os() {
            // Settings of this machine for a service must not affect the clients.
            if name.to_string_lossy().starts_with("TENANT_AUTH_") {
                command.env_remove(name);
            }
        }
        command
    }
}

/// Returns the folder with this crate's programs: cargo places it next to the folder of its tests.
pub(crate) fn program_folder() -> PathBuf {
    let test = env::current_exe().unwrap_or_default();
    test.ancestors().nth(2).map_or_else(PathBuf::new, Path::to_owned)
}

/// Returns whether a missing tool is a failure, as in CI.
#[must_use]
pub fn is_every_tool_required() -> bool {
    env::var("CI").is_ok_and(|value| value == "true")
}
