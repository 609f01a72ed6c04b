//! Measures how fast `tenantctl scan` is, next to a program that only reads the same files and searches one word.
//!
//! `cargo bench -p tenantctl --bench scan`. Each number is the best of five runs, on one core, with the files in the page
//! cache.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use memchr::memmem::Finder;

const RUNS: usize = 5;
const LARGE_FILE: usize = 256 << 20;
const SMALL_FILES: usize = 8_000;
const SMALL_FILE: usize = 16 << 10;

fn main() {
    // `cargo test --benches` only checks that this builds.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let text = source_text(LARGE_FILE);
    let path = |name: &str| folder.path().join(name);
    for name in ["text", "small", "binary", "zipped"] {
        fs::create_dir(path(name)).unwrap();
    }
    fs::write(path("text/large.txt"), &text).unwrap();
    for (number, part) in text.chunks(SMALL_FILE).take(SMALL_FILES).enumerate() {
        fs::write(path("small").join(format!("{number:05}.txt")), part).unwrap();
    }
    fs::write(path("binary/large.bin"), noise(LARGE_FILE)).unwrap();
    let mut gzip = flate2::write::GzEncoder::new(
        File::create(path("zipped/a.gz")).unwrap(),
        flate2::Compression::fast(),
    );
    gzip.write_all(&text).unwrap();
    gzip.finish().unwrap();

    println!("{:<28}{:>14}{:>22}", "", "scan, MB/s", "read and find, MB/s");
    for (title, name, bytes) in [
        ("text, one file", "text", text.len()),
        ("text, files of 16 KiB", "small", SMALL_FILE * SMALL_FILES),
        ("random bytes, one file", "binary", LARGE_FILE),
    ] {
        let (scan, find) = (best(|| scan(&path(name))), best(|| read_and_find(&path(name))));
        println!("{title:<28}{:>14.0}{:>22.0}", rate(bytes, scan), rate(bytes, find));
    }
    let unpacked = best(|| scan(&path("zipped")));
    println!("{:<28}{:>14.0}", "gzip, unpacked bytes", rate(text.len(), unpacked));
}

/// Text with as many look-alikes as code has: words that end like the prefix, and a few texts of the right length.
fn source_text(len: usize) -> Vec<u8> {
    const WORDS: [&str; 12] = [
        "fn ",
        "data_source",
        " = ",
        "self.",
        "main_loop(",
        ");\n",
        "return ",
        "the ",
        "value",
        "::<Vec<u8>>",
        "\n    ",
        "let count: u64",
    ];
    let (mut text, mut state) = (Vec::with_capacity(len + 64), 1_u64);
    while text.len() < len {
        let number = next(&mut state);
        text.extend(WORDS[number as usize % WORDS.len()].bytes());
        if number.is_multiple_of(501) {
            text.extend(format!("\"ta_{:036}\"", next(&mut state)).bytes());
        }
    }
    text.truncate(len);
    text
}

fn noise(len: usize) -> Vec<u8> {
    let mut state = 2;
    (0..len / 4).flat_map(|_| (next(&mut state) as u32).to_le_bytes()).collect()
}

fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
    *state >> 32
}

fn best(mut run: impl FnMut()) -> Duration {
    let time = |()| {
        let start = Instant::now();
        run();
        start.elapsed()
    };
    std::iter::repeat_n((), RUNS).map(time).min().unwrap()
}

fn rate(bytes: usize, time: Duration) -> f64 {
    bytes as f64 / 1e6 / time.as_secs_f64()
}

fn scan(folder: &Path) {
    let output = Command::new(env!("CARGO_BIN_EXE_tenantctl")).arg("scan").arg(folder).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}

fn read_and_find(folder: &Path) {
    let (finder, mut buffer, mut found) = (Finder::new(b"ta_"), vec![0; 128 << 10], 0);
    for entry in fs::read_dir(folder).unwrap() {
        let mut file = File::open(entry.unwrap().path()).unwrap();
        loop {
            let len = file.read(&mut buffer).unwrap();
            if len == 0 {
                break;
            }
            found += finder.find_iter(&buffer[..len]).count();
        }
    }
    std::hint::black_box(found);
}
