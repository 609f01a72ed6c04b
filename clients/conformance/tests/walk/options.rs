//! Invalid client options.

use std::{fs, path::Path};

use anyhow::{bail, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tenant_auth_conformance::{
    language::Language,
    report::Outcome,
    runner::{Runner, StartOutcome},
};

use crate::{
    RUNNER_BUILD_FOLDER,
    pki::Authority,
    stage::{Variables, variables},
};

/// Concurrent programs: they compute more than they wait.
const MAX_CONCURRENT_PROGRAMS: usize = 2;

/// The client's settings, and the value that its error must name.
struct InvalidOption {
    variables: Variables,
    named_value: String,
}

pub(crate) async fn endpoints(language: &'static Language) -> anyhow::Result<Outcome> {
    let values = [
        ("grpc://x:1", "grpc://x:1"),
        ("::1:50051", "::1:50051"),
        ("host", "host"),
        ("host:70000", "host:70000"),
        ("http://a:1/path", "http://a:1/path"),
        ("http://user@a:1", "user"),
        ("http://a:1,https://b:2", "b:2"),
        ("a b:1", "a b:1"),
    ];
    let invalid = values.map(|(endpoints, named)| InvalidOption {
        variables: variables(endpoints),
        named_value: named.to_owned(),
    });
    assert_all_refused(language, invalid.into()).await
}

pub(crate) async fn tls_files(language: &'static Language) -> anyhow::Result<Outcome> {
    let (authority, folder) = (Authority::new()?, tempfile::tempdir()?);
    let (first, second) = (authority.sign("first.internal")?, authority.sign("second.internal")?);
    let missing = folder.path().join("missing.pem").display().to_string();
    let settings = |endpoint: &str, files: &[(&str, &str)]| {
        let mut settings = variables(endpoint);
        settings.extend(
            files.iter().map(|(name, file)| (format!("TENANT_AUTH_TLS_{name}_FILE"), (*file).to_owned())),
        );
        settings
    };
    let invalid = vec![
        InvalidOption {
            variables: settings("a:1", &[("CA", "/etc/passwd")]),
            named_value: "/etc/passwd".to_owned(),
        },
        InvalidOption { variables: settings("a:1", &[("CA", &missing)]), named_value: missing.clone() },
        // A certificate with another key, and a certificate without a key.
        InvalidOption {
            variables: settings("a:1", &[("CERT", &first.certificate), ("KEY", &second.key)]),
            named_value: "key".to_owned(),
        },
        InvalidOption {
            variables: settings("a:1", &[("CERT", &first.certificate)]),
            named_value: "key".to_owned(),
        },
        // A client configured for TLS must not fall back to plaintext.
        InvalidOption {
            variables: settings("http://a:1", &[("CA", &authority.ca())]),
            named_value: "http://a:1".to_owned(),
        },
    ];
    assert_all_refused(language, invalid).await
}

pub(crate) async fn tokens(language: &'static Language) -> anyhow::Result<Outcome> {
    let folder = tempfile::tempdir()?;
    let file = |name: &str, text: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, text).map(|()| path.display().to_string())
    };
    let settings = |name: &str, value: String| {
        let mut settings = variables("a:1");
        settings.insert(name.to_owned(), value);
        settings
    };
    let of_file = |path: String| InvalidOption {
        variables: settings("TENANT_AUTH_TOKEN_FILE", path.clone()),
        named_value: path,
    };
    let text = |value: &str| InvalidOption {
        variables: settings("TENANT_AUTH_TOKEN", value.to_owned()),
        named_value: "token".to_owned(),
    };
    let invalid = vec![
        text("two\nlines"),
        text("two words"),
        text("kéy"),
        of_file(file("lines", b"two\nlines\n")?),
        of_file(file("empty", b"\xef\xbb\xbf\n")?),
        of_file(file("long", &[b'x'; 4_097])?),
        of_file(folder.path().join("missing").display().to_string()),
    ];
    assert_all_refused(language, invalid).await
}

async fn assert_all_refused(
    language: &'static Language,
    invalid: Vec<InvalidOption>,
) -> anyhow::Result<Outcome> {
    stream::iter(invalid.into_iter().map(|invalid| assert_refused(language, invalid)))
        .buffer_unordered(MAX_CONCURRENT_PROGRAMS)
        .try_collect::<()>()
        .await?;
    Ok(Outcome::OK)
}

/// Asserts that creating the client fails with an error that names the invalid value and shows no token.
async fn assert_refused(language: &Language, invalid: InvalidOption) -> anyhow::Result<()> {
    let settings = format!("{:?}", invalid.variables);
    let error = match Runner::try_start(
        language.runner_command(Path::new(RUNNER_BUILD_FOLDER)).into(),
        &invalid.variables,
    )
    .await?
    {
        StartOutcome::Refused(error) => error,
        StartOutcome::Ready(runner) => {
            runner.close().await?;
            bail!("the client accepted {settings}")
        }
    };
    let names = error.to_lowercase().contains(&invalid.named_value.to_lowercase());
    ensure!(names, "settings {settings}\nerror {error:?} does not name {:?}", invalid.named_value);
    ensure!(!error.contains("two"), "settings {settings}\nerror shows the token: {error:?}");
    Ok(())
}
