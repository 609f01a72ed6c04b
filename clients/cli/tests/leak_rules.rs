//! The rules for other scanners match the keys that the service generates, and nothing of another form.
#![allow(clippy::unwrap_used)]

use std::fs;

use regex::bytes::{Regex, RegexBuilder};
use tenant_auth_svc::{
    config::{ServiceConfig, Settings},
    domain::key::KeyFormat,
};

const KEY_LEN: usize = 39;

fn read(name: &str) -> String {
    fs::read_to_string(format!("{}/../../deploy/leak-rules/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// Returns the expression of each file. Both scanners use the same dialect, in which a word is ASCII.
fn rules() -> [(&'static str, Regex); 2] {
    let gitleaks: toml::Table = read("gitleaks.toml").parse().unwrap();
    let rules = gitleaks["rules"].as_array().unwrap();
    assert_eq!((rules.len(), rules[0]["secretGroup"].as_integer()), (1, Some(1)));
    let trufflehog = read("trufflehog.yaml");
    let expression =
        trufflehog.lines().find_map(|line| line.trim().strip_prefix("key: '")?.strip_suffix('\''));
    let compile = |expression: &str| RegexBuilder::new(expression).unicode(false).build().unwrap();
    [
        ("gitleaks.toml", compile(rules[0]["regex"].as_str().unwrap())),
        ("trufflehog.yaml", compile(expression.unwrap())),
    ]
}

/// Returns the keys that a rule finds.
fn found(rule: &Regex, text: &str) -> Vec<String> {
    rule.captures_iter(text.as_bytes()).map(|groups| String::from_utf8(groups[1].to_vec()).unwrap()).collect()
}

fn generate_key() -> String {
    KeyFormat::new("ta").unwrap().generate().unwrap().expose().to_owned()
}

#[test]
fn leak_rules_find_each_generated_key() {
    for (name, rule) in rules() {
        for _ in 0..1_000 {
            let (one, two) = (generate_key(), generate_key());
            assert_eq!(one.len(), KEY_LEN);
            for text in [
                one.clone(),
                format!("KEY={one}\n"),
                format!("\"key\":\"{one}\","),
                format!("x%22{one}%22"),
                format!("line\\n{one}\\nline"),
                format!("é{one}é"),
            ] {
                assert_eq!(found(&rule, &text), [&*one], "{name}: {text}");
            }
            assert_eq!(found(&rule, &format!("{one},{two}")), [one, two], "{name}");
        }
    }
}

#[test]
fn leak_rules_find_nothing_of_another_form() {
    for (name, rule) in rules() {
        for _ in 0..100 {
            let key = generate_key();
            for len in 0..KEY_LEN {
                assert_eq!(found(&rule, &key[..len]), [""; 0], "{name}: a length of {len}");
            }
            for text in [
                format!("{key}x"),
                format!("{key}_x"),
                format!("{key}{key}"),
                format!("da{key}"),
                format!("x_{key}"),
                key.replace("ta_", "tb_"),
                key.to_uppercase(),
                format!("{}-{}", &key[..20], &key[21..]),
            ] {
                assert_eq!(found(&rule, &text), [""; 0], "{name}: {text}");
            }
        }
    }
}

#[test]
fn leak_rules_have_the_default_prefix_as_keyword() {
    let settings = Settings::from_environment()
        .restricted_to(|_| false)
        .with_flag("TENANT_AUTH_DATABASE_URL", Some("file:unused.db".to_owned()));
    let (config, _) = ServiceConfig::read(settings).unwrap();
    let key = config.keys.format.generate().unwrap();
    assert_eq!(&key.expose()[..3], "ta_");
    let gitleaks: toml::Table = read("gitleaks.toml").parse().unwrap();
    assert_eq!(gitleaks["rules"][0]["keywords"], toml::Value::from(vec!["ta_"]));
    assert!(read("trufflehog.yaml").contains("    keywords:\n      - ta_\n"));
}
