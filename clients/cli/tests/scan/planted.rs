//! Keys among many texts that look like keys.

use std::{collections::BTreeMap, fs, io::Write as _};

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tenant_auth_testkit::Random;

use crate::{generate_key, scan, text};

const KEYS: usize = 1_000;
const LOOKALIKES: usize = 100_000;
const DIGITS: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

fn digits(random: &mut Random, count: usize) -> String {
    (0..count).map(|_| char::from(*random.pick(DIGITS))).collect()
}

/// Returns a text that is not a key.
fn lookalike(random: &mut Random) -> String {
    match random.below(8) {
        // A wrong checksum.
        0 => format!("ta_{}", digits(random, 36)),
        // A wrong length.
        1 => format!("ta_{}", digits(random, 35)),
        2 => {
            let key = generate_key("ta");
            // Not near its end, where the next character of the text could complete it again.
            let at = 3 + random.below(30);
            format!("{}{}", &key[..at], &key[at + 1..])
        }
        // Characters that are no digits.
        3 => format!("ta_{}-{}", digits(random, 18), digits(random, 17)),
        4 => format!("ta_{}é{}", digits(random, 18), digits(random, 17)),
        // The prefix in words.
        5 => format!("data_{}", digits(random, 12)),
        6 => "metadata_of_the_quota_of_beta_users".to_owned(),
        // A key with another prefix.
        _ => generate_key("tb"),
    }
}

fn utf_16(text: &str, encode: fn(u16) -> [u8; 2]) -> Vec<u8> {
    text.encode_utf16().flat_map(encode).collect()
}

/// Writes a word into a text of one of several kinds.
fn surround(random: &mut Random, word: &str) -> String {
    match random.below(8) {
        0 => format!("{{\"token\":\"{word}\"}}\n"),
        1 => format!("token: {word}\n"),
        2 => format!("https%3A%2F%2Fhost%2F%3Ftoken%3D{word}%26x%3D1\n"),
        3 => format!("\\ntoken={word}\\n"),
        4 => format!("curl -H 'authorization: Bearer {word}'\n"),
        5 => format!("<{word}>|{word}x|\n").replacen(word, "", 1),
        6 => format!("x{word}x "),
        _ => format!("{word}\r\n"),
    }
}

#[test]
fn planted_keys_are_found_among_lookalikes() {
    let mut random = Random::new(20_261);
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let keys: Vec<_> = (0..KEYS).map(|_| generate_key("ta")).collect();
    let mut texts = vec![String::new(); 6];
    let every = LOOKALIKES / KEYS;
    for number in 0..LOOKALIKES {
        let at = random.below(texts.len());
        let word = lookalike(&mut random);
        texts[at] += &surround(&mut random, &word);
        if number % every == 0 {
            texts[at] += &surround(&mut random, &keys[number / every]);
        }
    }

    fs::write(path("0.txt"), &texts[0]).unwrap();
    fs::write(path("1.txt"), [&[0xff, 0xfe], &*utf_16(&texts[1], u16::to_le_bytes)].concat()).unwrap();
    fs::write(path("2.txt"), [&[0xfe, 0xff], &*utf_16(&texts[2], u16::to_be_bytes)].concat()).unwrap();
    // No text as a whole: UTF-16 at an odd position.
    fs::write(path("3.bin"), [b"\0\xff\0".to_vec(), utf_16(&texts[3], u16::to_le_bytes)].concat()).unwrap();
    let mut gzip =
        flate2::write::GzEncoder::new(fs::File::create(path("4.gz")).unwrap(), flate2::Compression::fast());
    gzip.write_all(texts[4].as_bytes()).unwrap();
    gzip.finish().unwrap();
    fs::create_dir(path("5")).unwrap();
    fs::write(path("5/no-line-ends"), texts[5].replace(['\r', '\n'], " ")).unwrap();

    let ran = scan(&["--json", text(folder.path())], b"");
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    let json: Value = serde_json::from_str(&ran.stdout).unwrap();
    let mut found = BTreeMap::new();
    for finding in json["findings"].as_array().unwrap() {
        *found.entry(finding["sha256_prefix"].as_str().unwrap().to_owned()).or_insert(0) += 1;
    }
    let expected: BTreeMap<_, _> =
        keys.iter().map(|key| (hex::encode(&Sha256::digest(key.as_bytes())[..6]), 1)).collect();
    let wrong: Vec<_> = found.iter().filter(|entry| expected.get(entry.0) != Some(entry.1)).collect();
    assert_eq!((wrong, found.len()), (Vec::new(), KEYS));
    assert_eq!((&json["found"], &json["unread"]), (&KEYS.into(), &0.into()));
    // In the order of the files.
    let paths: Vec<_> =
        json["findings"].as_array().unwrap().iter().map(|f| f["path"].as_str().unwrap()).collect();
    assert!(paths.is_sorted(), "the findings have no order");
    for key in &keys {
        assert!(!ran.stdout.contains(key.as_str()) && !ran.stderr.contains(key.as_str()));
    }
}
