//! Which settings the service accepts when it listens beyond loopback.

use tenant_auth_svc::{
    config::{ServiceConfig, Settings},
    domain::access::Role,
};

use crate::harness::{TestDatabase, callers::CallersFile, pki::Authority};

/// Returns every problem with these settings as readable text; empty if there is none.
fn configuration_errors(settings: Settings) -> String {
    ServiceConfig::read(settings).err().map_or_else(String::new, |invalid| invalid.to_string())
}

fn with_values(settings: Settings, values: &[(&str, &str)]) -> Settings {
    values
        .iter()
        .fold(settings, |settings, (name, value)| settings.with_flag(name, Some((*value).to_owned())))
}

#[test]
fn non_loopback_listener_requires_tls_and_callers_or_opt_out() {
    let callers = CallersFile::new(&[("api", Role::Meter, &["t"])]);
    let callers = callers.path().display().to_string();
    let authority = Authority::new();
    let server = authority.server_certificate().write();
    let (certificate, key) = (server.certificate(), server.key());
    let tls = [("TENANT_AUTH_TLS_CERT_FILE", &*certificate), ("TENANT_AUTH_TLS_KEY_FILE", &*key)];
    let known = [("TENANT_AUTH_CALLERS_FILE", &*callers)];
    let plaintext = [("TENANT_AUTH_ALLOW_PLAINTEXT", "true")];
    let anonymous = [("TENANT_AUTH_ALLOW_ANONYMOUS", "true")];

    let neither = "without encryption and without caller authentication: set TENANT_AUTH_TLS_CERT_FILE, …_KEY_FILE \
                   and TENANT_AUTH_CALLERS_FILE, or TENANT_AUTH_ALLOW_PLAINTEXT=true and \
                   TENANT_AUTH_ALLOW_ANONYMOUS=true";
    let bare = "without encryption: set TENANT_AUTH_TLS_CERT_FILE and …_KEY_FILE, or TENANT_AUTH_ALLOW_PLAINTEXT=true";
    let open =
        "without caller authentication: set TENANT_AUTH_CALLERS_FILE, or TENANT_AUTH_ALLOW_ANONYMOUS=true";
    for address in ["0.0.0.0:50051", "[::]:50051", "10.0.0.7:50051", "[::ffff:127.0.0.1]:50051"] {
        for (values, says) in [
            (vec![], neither),
            (known.to_vec(), bare),
            (anonymous.to_vec(), bare),
            (tls.to_vec(), open),
            (plaintext.to_vec(), open),
            ([&tls[..], &known].concat(), ""),
            ([&plaintext[..], &anonymous].concat(), ""),
            ([&plaintext[..], &known].concat(), ""),
            ([&tls[..], &anonymous].concat(), ""),
        ] {
            let settings =
                with_values(TestDatabase::embedded().settings(), &[("TENANT_AUTH_LISTEN", address)]);
            let errors = configuration_errors(with_values(settings, &values));
            match says {
                "" => assert_eq!(errors, "", "{address}: {values:?}"),
                says => {
                    let whole =
                        format!("TENANT_AUTH_LISTEN: {address} is beyond loopback, {says} if the network");
                    assert!(errors.contains(&whole), "{values:?}: {errors}");
                }
            }
        }
    }
    for address in ["127.0.0.1:0", "127.8.8.8:0", "[::1]:0"] {
        let settings = with_values(TestDatabase::embedded().settings(), &[("TENANT_AUTH_LISTEN", address)]);
        assert_eq!(configuration_errors(settings), "", "{address}");
    }
}

#[test]
fn incomplete_pair_of_settings_is_refused_by_name() {
    let authority = Authority::new();
    let (server, other) = (authority.server_certificate().write(), authority.server_certificate().write());
    let (certificate, key, ca) = (server.certificate(), server.key(), authority.write());
    let ca_file = ca.certificate();
    let cert = ("TENANT_AUTH_TLS_CERT_FILE", &*certificate);
    let client_ca = ("TENANT_AUTH_TLS_CLIENT_CA_FILE", &*ca_file);
    let (other_key, nowhere) = (other.key(), "/nowhere/at-all.pem");
    for (values, variable, says) in [
        (vec![cert], "TENANT_AUTH_TLS_KEY_FILE", "must be set"),
        (vec![("TENANT_AUTH_TLS_KEY_FILE", &*key)], "TENANT_AUTH_TLS_CERT_FILE", "must be set"),
        (vec![client_ca], "TENANT_AUTH_TLS_CERT_FILE", "must be set"),
        (
            vec![cert, ("TENANT_AUTH_TLS_KEY_FILE", &*key), client_ca],
            "TENANT_AUTH_CALLERS_FILE",
            "must be set: it maps the names in client certificates to roles",
        ),
        (
            vec![cert, ("TENANT_AUTH_TLS_KEY_FILE", &*other_key)],
            "TENANT_AUTH_TLS_CERT_FILE",
            "does not work with the key",
        ),
        (
            vec![cert, ("TENANT_AUTH_TLS_KEY_FILE", nowhere)],
            "TENANT_AUTH_TLS_CERT_FILE",
            "a private key from /nowhere",
        ),
        (
            vec![cert, ("TENANT_AUTH_TLS_KEY_FILE", &*certificate)],
            "TENANT_AUTH_TLS_CERT_FILE",
            "a private key",
        ),
        (
            vec![("TENANT_AUTH_TLS_CERT_FILE", &*key), ("TENANT_AUTH_TLS_KEY_FILE", &*key)],
            "TENANT_AUTH_TLS_CERT_FILE",
            "a certificate from",
        ),
        (vec![("TENANT_AUTH_CALLERS_FILE", nowhere)], "TENANT_AUTH_CALLERS_FILE", "cannot read"),
        (
            vec![("TENANT_AUTH_CALLERS_FILE", &*certificate)],
            "TENANT_AUTH_CALLERS_FILE",
            "invalid callers file",
        ),
    ] {
        let reported = configuration_errors(with_values(TestDatabase::embedded().settings(), &values));
        let line = reported.lines().find(|line| line.trim_start().starts_with(&format!("{variable}: ")));
        assert!(line.is_some_and(|line| line.contains(says)), "{values:?}: {reported}");
        assert_eq!(reported.lines().count(), 2, "and nothing else: {reported}");
    }
}
