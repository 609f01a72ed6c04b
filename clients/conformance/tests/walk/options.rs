//! Options that no client can work with.

use std::{fs, path::Path};

use anyhow::{bail, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tenant_auth_conformance::{
    language::Language,
    report::Outcome,
    runner::{Runner, Started},
};

use crate::{
    OUT,
    pki::Authority,
    stage::{Variables, variables},
};

/// Programs at once: they compute more than they wait.
const AT_ONCE: usize = 2;

/// What a client is told, and of which value its refusal must speak.
struct Junk {
    told: Variables,
    named: String,
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
    let junk = values.map(|(endpoints, named)| Junk { told: variables(endpoints), named: named.to_owned() });
    all_refused(language, junk.into()).await
}

pub(crate) async fn tls_files(language: &'static Language) -> anyhow::Result<Outcome> {
    let (authority, folder) = (Authority::new()?, tempfile::tempdir()?);
    let (first, second) = (authority.sign("first.internal")?, authority.sign("second.internal")?);
    let missing = folder.path().join("missing.pem").display().to_string();
    let told = |endpoint: &str, files: &[(&str, &str)]| {
        let mut told = variables(endpoint);
        told.extend(
            files.iter().map(|(name, file)| (format!("TENANT_AUTH_TLS_{name}_FILE"), (*file).to_owned())),
        );
        told
    };
    let junk = vec![
        Junk { told: told("a:1", &[("CA", "/etc/passwd")]), named: "/etc/passwd".to_owned() },
        Junk { told: told("a:1", &[("CA", &missing)]), named: missing.clone() },
        // A certificate with another's key; and one without.
        Junk {
            told: told("a:1", &[("CERT", &first.certificate), ("KEY", &second.key)]),
            named: "key".to_owned(),
        },
        Junk { told: told("a:1", &[("CERT", &first.certificate)]), named: "key".to_owned() },
        // What is asked to be encrypted is not sent in plaintext.
        Junk { told: told("http://a:1", &[("CA", &authority.ca())]), named: "http://a:1".to_owned() },
    ];
    all_refused(language, junk).await
}

pub(crate) async fn tokens(language: &'static Language) -> anyhow::Result<Outcome> {
    let folder = tempfile::tempdir()?;
    let file = |name: &str, text: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, text).map(|()| path.display().to_string())
    };
    let told = |name: &str, value: String| {
        let mut told = variables("a:1");
        told.insert(name.to_owned(), value);
        told
    };
    let of_file = |path: String| Junk { told: told("TENANT_AUTH_TOKEN_FILE", path.clone()), named: path };
    let text =
        |value: &str| Junk { told: told("TENANT_AUTH_TOKEN", value.to_owned()), named: "token".to_owned() };
    let junk = vec![
        text("two\nlines"),
        text("two words"),
        text("kéy"),
        of_file(file("lines", b"two\nlines\n")?),
        of_file(file("empty", b"\xef\xbb\xbf\n")?),
        of_file(file("long", &[b'x'; 4_097])?),
        of_file(folder.path().join("missing").display().to_string()),
    ];
    all_refused(language, junk).await
}

async fn all_refused(language: &'static Language, junk: Vec<Junk>) -> anyhow::Result<Outcome> {
    stream::iter(junk.into_iter().map(|junk| refused(language, junk)))
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await?;
    Ok(Outcome::OK)
}

/// It is refused when the client is made, by an error that says what was wrong and shows no token.
async fn refused(language: &Language, junk: Junk) -> anyhow::Result<()> {
    let told = format!("{:?}", junk.told);
    let error = match Runner::try_start(language.runner(Path::new(OUT)).into(), &junk.told).await? {
        Started::Refused(error) => error,
        Started::Ready(runner) => {
            runner.close().await?;
            bail!("it was content with {told}")
        }
    };
    let names = error.to_lowercase().contains(&junk.named.to_lowercase());
    ensure!(names, "told {told}\nit said {error:?}, without naming {:?}", junk.named);
    ensure!(!error.contains("two"), "told {told}\nit shows the token: {error:?}");
    Ok(())
}
