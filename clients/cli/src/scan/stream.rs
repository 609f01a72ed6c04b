//! Searches a stream of any length in a buffer of fixed size.

use std::io::{self, Read};

use super::{
    Stopped,
    lines::LineEnds,
    matcher::{MAX_SPAN, Match, Matcher},
};

/// Bytes of one read. They stay in the cache of a core while they are searched.
const READ_LEN: usize = 128 * 1024;

/// Why a search ended early.
#[derive(Debug)]
pub(super) enum Interruption {
    Stopped(Stopped),
    Unreadable(io::Error),
}

impl From<Stopped> for Interruption {
    fn from(stopped: Stopped) -> Self {
        Self::Stopped(stopped)
    }
}

impl From<io::Error> for Interruption {
    fn from(error: io::Error) -> Self {
        Self::Unreadable(error)
    }
}

/// The buffer of a search. It holds the last bytes of the part before, so that a key across two reads is
/// found.
#[derive(Debug)]
pub(super) struct Window {
    buffer: Vec<u8>,
    /// Number of bytes in the buffer.
    len: usize,
}

impl Window {
    pub(super) fn new() -> Self {
        Self { buffer: vec![0; MAX_SPAN + READ_LEN], len: 0 }
    }

    /// Starts with the first bytes of a stream, which are at least `enough` unless the stream ends before.
    pub(super) fn start(&mut self, stream: &mut dyn Read, enough: usize) -> io::Result<&[u8]> {
        self.len = 0;
        loop {
            let added = self.read(stream)?;
            if added == 0 || self.len >= enough {
                return Ok(&self.buffer[..self.len]);
            }
        }
    }

    /// Searches the bytes that `start` has read, and the rest of the stream. Each read is searched at once, so
    /// that a finding in a slow stream is known at once.
    pub(super) fn search(
        &mut self,
        matcher: &Matcher,
        stream: &mut dyn Read,
        mut found: impl FnMut(Match, u64) -> Result<(), Stopped>,
        mut searched: impl FnMut(u64),
    ) -> Result<(), Interruption> {
        let ends = LineEnds::of(&self.buffer[..self.len]);
        let mut line = Line { ends, offset: 0, number: 1, position: 0 };
        let (mut seen, mut added) = (0, self.len);
        while added > 0 {
            let bytes = &self.buffer[..self.len];
            matcher.search(bytes, seen, |key| {
                let number = line.at(bytes, key.start);
                found(key, number)
            })?;
            searched(added as u64);
            // All but the longest possible beginning of a key goes.
            let gone = self.len.saturating_sub(MAX_SPAN - 1);
            line.forget(bytes, gone);
            self.buffer.copy_within(gone..self.len, 0);
            self.len -= gone;
            seen = self.len;
            added = self.read(stream)?;
        }
        Ok(())
    }

    fn read(&mut self, stream: &mut dyn Read) -> io::Result<usize> {
        loop {
            match stream.read(&mut self.buffer[self.len..]) {
                Ok(added) => {
                    self.len += added;
                    return Ok(added);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// The number of the line at a position of the buffer.
#[derive(Debug)]
struct Line {
    ends: LineEnds,
    /// Position of the buffer in the stream.
    offset: u64,
    number: u64,
    /// The position in the buffer to which `number` belongs.
    position: usize,
}

impl Line {
    /// Moves to a position. Usually forward; a key in UTF-16 is complete only after shorter ones behind its
    /// start.
    fn at(&mut self, bytes: &[u8], position: usize) -> u64 {
        if position >= self.position {
            self.number += self.ends.count(bytes, self.position, position, self.offset);
        } else {
            self.number -= self.ends.count(bytes, position, self.position, self.offset);
        }
        self.position = position;
        self.number
    }

    /// Follows the removal of the first bytes.
    fn forget(&mut self, bytes: &[u8], gone: usize) {
        self.at(bytes, gone);
        self.position = 0;
        self.offset += gone as u64;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::scan::testing::{generate_key, matcher};

    /// Returns at most some bytes per read.
    struct Slow<'a>(&'a [u8], usize);

    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let len = self.1.min(buffer.len());
            self.0.read(&mut buffer[..len])
        }
    }

    fn lines_of(bytes: &[u8], read_len: usize) -> Vec<u64> {
        let (mut window, mut stream) = (Window::new(), Slow(bytes, read_len));
        window.start(&mut stream, 1).unwrap();
        let (mut lines, mut count) = (Vec::new(), 0);
        let found = |_, line| {
            lines.push(line);
            Ok(())
        };
        window.search(&matcher(&["ta"]), &mut stream, found, |added| count += added).unwrap();
        assert_eq!(count, bytes.len() as u64);
        lines
    }

    #[test]
    fn key_across_any_border_is_found_once() {
        let key = generate_key("ta");
        let wide: Vec<u8> = key.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let text = [b"\n\nx", &wide[..], b"\n", key.as_bytes(), b"\n"].concat();
        for read_len in 1..text.len() + 1 {
            assert_eq!(lines_of(&text, read_len), [3, 4], "{read_len}");
        }
    }

    #[test]
    fn key_at_the_end_of_the_buffer_is_found() {
        let key = generate_key("ta");
        for before in READ_LEN + MAX_SPAN - key.len() - 2..READ_LEN + MAX_SPAN + 2 {
            let text = format!("{}{key}\n{key}", "\n".repeat(before));
            let line = before as u64 + 1;
            assert_eq!(lines_of(text.as_bytes(), usize::MAX), [line, line + 1], "{before}");
        }
    }

    #[test]
    fn huge_line_is_one_line() {
        let key = generate_key("ta");
        let text = format!("{}{key}", "ta_".repeat(1_000_000));
        assert_eq!(lines_of(text.as_bytes(), usize::MAX), [1]);
    }

    #[test]
    fn lines_of_utf_16_count_its_own_line_ends() {
        let key = generate_key("ta");
        let text = format!("\u{feff}\u{a0a}\n{}{key}\n{key}", "\u{10a}\n".repeat(100_000));
        for encode in [u16::to_le_bytes as fn(u16) -> [u8; 2], u16::to_be_bytes] {
            let bytes: Vec<u8> = text.encode_utf16().flat_map(encode).collect();
            for read_len in [usize::MAX, 4_097] {
                assert_eq!(lines_of(&bytes, read_len), [100_002, 100_003]);
            }
        }
    }

    proptest! {
        #[test]
        fn lines_do_not_depend_on_the_reads(
            parts in prop::collection::vec((any::<u8>(), 0..60_usize), 1..60),
            read_len in 1..300_usize,
        ) {
            let key = generate_key("ta");
            let mut text = Vec::new();
            let mut expected = Vec::new();
            // Only a mark at the start would make it UTF-16.
            text.push(b'x');
            for (byte, count) in parts {
                match byte % 4 {
                    0 => text.extend(vec![b'\n'; count]),
                    1 => {
                        expected.push(text.iter().filter(|byte| **byte == b'\n').count() as u64 + 1);
                        text.extend(key.bytes());
                    }
                    2 => text.extend(key.bytes().take(count.min(key.len() - 1))),
                    _ => text.extend(vec![byte; count]),
                }
                text.push(b' ');
            }
            prop_assert_eq!(lines_of(&text, read_len), expected);
        }
    }
}
