//! Normalises repository addresses, to decide whether two of them name the same repository.

use std::path::Path;

use url::Url;

/// Returns the normal form of a repository's address: `https://host/a/b.git`, `ssh://git@host:22/a/b` and
/// `git@host:a/b` are all `host/a/b`. A local path becomes absolute.
#[must_use]
pub fn normalize(address: &str) -> String {
    let address = address.trim();
    if let Ok(url) = Url::parse(address)
        && address.contains("://")
    {
        if url.scheme() == "file" {
            return local_path(url.path());
        }
        let host = url.host_str().unwrap_or_default().to_ascii_lowercase();
        // A port other than the scheme's default is another server.
        let port = url.port().filter(|port| !(url.scheme() == "ssh" && *port == 22));
        let port = port.map(|port| format!(":{port}")).unwrap_or_default();
        return format!("{host}{port}/{}", repository_path(url.path()));
    }
    if let Some((host, rest)) = parse_scp(address) {
        return format!("{}/{}", host.to_ascii_lowercase(), repository_path(rest));
    }
    local_path(address)
}

/// Parses `[user@]host:path`, the usual form of ssh addresses. Like git, treats a text with a slash before the
/// colon as a path.
fn parse_scp(address: &str) -> Option<(&str, &str)> {
    let (host, rest) = address.split_once(':')?;
    if host.contains('/') {
        return None;
    }
    Some((host.rsplit_once('@').map_or(host, |(_, host)| host), rest))
}

fn repository_path(path: &str) -> &str {
    let path = path.trim_matches('/');
    path.strip_suffix(".git").unwrap_or(path)
}

fn local_path(text: &str) -> String {
    let path = Path::new(text);
    let absolute = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    // The prefix distinguishes it from a host: a relative path that does not exist would look like one.
    format!("file:{}", absolute.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_repository_normalize_alike() {
        for same in [
            "https://git.example/acme/tenant-auth",
            "https://git.example/acme/tenant-auth.git",
            "https://Git.Example/acme/tenant-auth/",
            "https://someone@git.example/acme/tenant-auth.git",
            "ssh://git@git.example/acme/tenant-auth.git",
            "ssh://git@git.example:22/acme/tenant-auth.git",
            "git@git.example:acme/tenant-auth.git",
            "git.example:acme/tenant-auth",
        ] {
            assert_eq!(normalize(same), "git.example/acme/tenant-auth", "{same}");
        }
    }

    #[test]
    fn different_repositories_normalize_differently() {
        let canonical = normalize("https://git.example/acme/tenant-auth");
        for other in [
            "https://git.example/mallory/tenant-auth",
            "https://git.example.evil/acme/tenant-auth",
            "https://evil/git.example/acme/tenant-auth",
            "https://git.example:8443/acme/tenant-auth",
            "https://git.example/acme/tenant-auth2",
            "git@evil:git.example/acme/tenant-auth",
            "file:///git.example/acme/tenant-auth",
            "git.example/acme/tenant-auth",
        ] {
            assert_ne!(normalize(other), canonical, "{other}");
        }
    }
}
