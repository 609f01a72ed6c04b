use std::io::{Cursor, Write as _};

use flate2::{Compression, write::GzEncoder};
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

use super::*;
use crate::scan::{
    Excludes, Stopped,
    testing::{Collected, generate_key, matcher},
};

/// Scans a stream, in which every archive has to be read without seeking.
fn scan_stream(bytes: &[u8]) -> Collected {
    scan_excluding(bytes, &[])
}

fn scan_excluding(bytes: &[u8], excludes: &[String]) -> Collected {
    let (matcher, excludes, mut sink) =
        (matcher(&["ta"]), Excludes::new(excludes).unwrap(), Collected::default());
    Scanner::new(&matcher, &excludes, &mut sink).scan_stream("x", &mut &*bytes).unwrap();
    sink
}

/// Scans a file with these bytes.
fn scan_file(bytes: &[u8]) -> Collected {
    let (matcher, excludes, mut sink) = (matcher(&["ta"]), Excludes::default(), Collected::default());
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    io::Seek::rewind(&mut file).unwrap();
    Scanner::new(&matcher, &excludes, &mut sink).scan_file("x", Ok(file)).unwrap();
    sink
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn tar(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = ::tar::Builder::new(Vec::new());
    for (name, content) in entries {
        let mut header = ::tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        builder.append_data(&mut header, name, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

fn zip_with(entries: &[(&str, &[u8])], options: SimpleFileOptions) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in entries {
        writer.start_file(*name, options).unwrap();
        writer.write_all(content).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn zip(entries: &[(&str, &[u8])]) -> Vec<u8> {
    zip_with(entries, SimpleFileOptions::default().compression_method(CompressionMethod::Deflated))
}

/// Returns a text with a key in its second line, and the first characters of the key.
fn text_with_key() -> (Vec<u8>, String) {
    let key = generate_key("ta");
    (format!("first line\nkey: {key}\n").into_bytes(), key[..7].to_owned())
}

#[test]
fn key_is_found_in_each_kind_of_archive() {
    let (text, hint) = text_with_key();
    let long = format!("{}/long.txt", "folder/".repeat(30));
    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let entries = [("empty", &b""[..]), ("a/b.txt", &text)];
    for (archive, place) in [
        (text.clone(), "x:2".to_owned()),
        (gzip(&text), "x:2".to_owned()),
        ([gzip(b"line\n"), gzip(&text)].concat(), "x:3".to_owned()),
        (tar(&entries), "x!a/b.txt:2".to_owned()),
        (tar(&[(&long, &text)]), format!("x!{long}:2")),
        (zip(&entries), "x!a/b.txt:2".to_owned()),
        (zip_with(&entries, stored), "x!a/b.txt:2".to_owned()),
        (gzip(&tar(&entries)), "x!a/b.txt:2".to_owned()),
        (gzip(&tar(&[("in.zip", &zip(&[("in.gz", &gzip(&text))]))])), "x!in.zip!in.gz:2".to_owned()),
    ] {
        for result in [scan_stream(&archive), scan_file(&archive)] {
            assert_eq!(result.found, [format!("{place}: {hint}")]);
            assert_eq!(result.unread, [""; 0]);
        }
    }
}

#[test]
fn key_in_an_entry_name_is_found_and_not_shown() {
    let key = generate_key("ta");
    for archive in [tar(&[(&format!("a/{key}.txt"), b"x")]), zip(&[(&format!("a/{key}.txt"), b"x")])] {
        let result = scan_stream(&archive);
        assert_eq!(result.found, [format!("x!a/{hint}….txt: {hint}", hint = &key[..7])]);
    }
}

#[test]
fn excluded_entry_is_not_scanned() {
    let (text, hint) = text_with_key();
    let archive = tar(&[("docs/a.md", &text), ("src/a.md", &text)]);
    let result = scan_excluding(&archive, &["docs".to_owned()]);
    assert_eq!(result.found, [format!("x!src/a.md:2: {hint}")]);
}

#[test]
fn broken_archive_is_named_and_the_rest_is_scanned() {
    let (text, hint) = text_with_key();
    // Not compressible, so that the end is far from the key.
    let noise: Vec<u8> =
        (0..200_000_u64).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect();
    let good = [&text[..], &noise].concat();
    let mut cut = gzip(&good);
    cut.truncate(cut.len() / 2);
    let found = [format!("x:2: {hint}")];
    let result = scan_stream(&cut);
    assert_eq!((&result.found[..], result.unread.len()), (&found[..], 1), "{:?}", result.unread);

    // The entries around a broken one are scanned.
    let archive = tar(&[("a", &text), ("b.gz", &cut), ("c", &text)]);
    let result = scan_stream(&archive);
    let found = ["x!a:2", "x!b.gz:2", "x!c:2"].map(|place| format!("{place}: {hint}"));
    assert_eq!(result.found, found);
    assert_eq!(result.unread.len(), 1);
    assert!(result.unread[0].starts_with("x!b.gz: "), "{:?}", result.unread);

    let mut wrong_sum = zip(&[("a", &text), ("b", &noise), ("c", &text)]);
    let middle = wrong_sum.len() / 2;
    wrong_sum[middle] ^= 0xff;
    let result = scan_stream(&wrong_sum);
    assert_eq!(result.found, ["x!a:2", "x!c:2"].map(|place| format!("{place}: {hint}")));
    assert!(result.unread[0].starts_with("x!b: "), "{:?}", result.unread);
}

#[test]
fn file_that_only_looks_like_an_archive_is_searched() {
    let (text, hint) = text_with_key();
    for magic in [&b"PK\x03\x04"[..], b"\x1f\x8b\x08\x00"] {
        let result = scan_file(&[magic, &text].concat());
        assert_eq!(result.found, [format!("x:2: {hint}")]);
        assert_eq!(result.unread.len(), 1, "{:?}", result.unread);
    }
    // The first entry is right, and what follows is no entry.
    let mut archive = tar(&[("a", b"x")]);
    archive.truncate(1_024);
    archive.extend([&text[..], &[b'x'; 512]].concat());
    let result = scan_file(&archive);
    assert_eq!((result.found.len(), result.unread.len()), (1, 1), "{:?}", result.unread);
}

#[test]
fn encrypted_or_hidden_zip_entry_is_named() {
    let (text, hint) = text_with_key();
    let mut encrypted = zip(&[("a", &text), ("b", &text)]);
    // The flag in the directory and in the header of the first entry.
    let directory = memchr::memmem::find(&encrypted, b"PK\x01\x02").unwrap();
    encrypted[6] |= 1;
    encrypted[directory + 8] |= 1;
    let result = scan_stream(&encrypted);
    assert_eq!(result.found, [format!("x!b:2: {hint}")]);
    assert_eq!(result.unread, ["x!a: Password required to decrypt file"]);

    let mut double = zip(&[("a", &text), ("b", &text)]);
    for header in [&b"PK\x03\x04"[..], b"PK\x01\x02"] {
        let name_at = if header == b"PK\x03\x04" { 30 } else { 46 };
        let last = memchr::memmem::rfind(&double, header).unwrap();
        double[last + name_at] = b'a';
    }
    let result = scan_stream(&double);
    assert_eq!(result.unread.len(), 1, "{:?}", result.unread);
    assert!(result.unread[0].contains("several entries with the same name"), "{:?}", result.unread);
}

#[test]
fn zip_with_too_large_a_directory_is_refused() {
    let mut archive = zip(&[("a", b"x")]);
    let end = memchr::memmem::rfind(&archive, b"PK\x05\x06").unwrap();
    archive[end + 8..end + 12].fill(0xff);
    archive[end + 12..end + 16].copy_from_slice(&u32::to_le_bytes(46 * 200_001));
    let result = scan_stream(&archive);
    assert_eq!(result.unread, ["x: has more than 200,000 entries: unpack it and scan the folder"]);
}

#[test]
fn archives_are_scanned_to_a_limited_depth() {
    let (text, hint) = text_with_key();
    let nested = |depth| (0..depth).fold(text.clone(), |inner, _| gzip(&inner));
    assert_eq!(scan_stream(&nested(MAX_DEPTH)).found, [format!("x:2: {hint}")]);
    let result = scan_stream(&nested(MAX_DEPTH + 1));
    assert_eq!(
        (result.found.len(), &*result.unread),
        (0, &["x: is inside more than 8 archives".to_owned()][..])
    );
}

#[test]
fn decompression_bomb_ends_at_the_limit() {
    let limits = Limits::default();
    // What is left after almost 4 GiB.
    limits.unpacked.set(100_000);
    let mut zeros = limits.metered(io::repeat(0));
    let error = io::copy(&mut zeros, &mut io::sink()).unwrap_err();
    assert_eq!(error.to_string(), "unpacks to more than 4 GiB: unpack it and scan the folder");
    assert!(limits.are_exceeded());

    // One message, however many entries follow.
    let (matcher, excludes, mut sink) = (matcher(&["ta"]), Excludes::default(), Collected::default());
    let zeros = vec![0; 300_000];
    let bomb = tar(&[("a.gz", &gzip(&zeros)), ("b.gz", &gzip(&zeros)), ("c", b"x")]);
    let mut scanner = Scanner::new(&matcher, &excludes, &mut sink);
    scanner.limits.unpacked.set(400_000);
    let result = scanner.scan("x", &mut &*bomb, None, 0);
    let Err(Interruption::Unreadable(error)) = result else { panic!("no limit") };
    assert!(error.to_string().starts_with("unpacks to more than"), "{error}");
    assert_eq!(sink.unread, [""; 0]);
    assert!(sink.bytes < 400_000, "{}", sink.bytes);
}

#[test]
fn scan_ends_when_nobody_reads_the_findings() {
    /// Reads one finding.
    struct Closed(usize);
    impl Sink for Closed {
        fn found(&mut self, _: crate::scan::Finding<'_>) -> Result<(), Stopped> {
            self.0 += 1;
            Err(Stopped)
        }
        fn unread(&mut self, path: &str, why: &str) {
            panic!("{path}: {why}");
        }
        fn searched(&mut self, _: u64) {}
        fn finished(&mut self) {}
    }
    let (text, _) = text_with_key();
    let archive = gzip(&tar(&[("a", &text), ("b", &text)]));
    let (matcher, excludes, mut sink) = (matcher(&["ta"]), Excludes::default(), Closed(0));
    assert_eq!(Scanner::new(&matcher, &excludes, &mut sink).scan_stream("x", &mut &*archive), Err(Stopped));
    assert_eq!(sink.0, 1);
}

#[test]
fn arbitrary_archives_never_panic() {
    let (text, _) = text_with_key();
    let entries = [("a", &text[..]), ("b", &b"x"[..])];
    for archive in [gzip(&text), tar(&entries), zip(&entries)] {
        let mut random = numbers(7);
        for _ in 0..400 {
            let mut changed = archive.clone();
            for _ in 0..3 {
                let at = random() as usize % changed.len();
                changed[at] = random() as u8;
            }
            changed.truncate(1 + random() as usize % changed.len());
            scan_stream(&changed);
        }
    }
}

/// Returns a source of numbers that are the same in each run.
fn numbers(mut state: u64) -> impl FnMut() -> u64 {
    move || {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        state >> 33
    }
}
