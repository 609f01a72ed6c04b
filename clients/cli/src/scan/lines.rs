//! Counts the lines before a position of a stream.

/// How a text encodes the end of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LineEnds {
    /// A byte.
    Byte,
    /// Two bytes at an even position.
    Wide([u8; 2]),
}

impl LineEnds {
    /// Returns the line ends of a text by its first bytes.
    pub(super) fn of(head: &[u8]) -> Self {
        match head {
            [0xff, 0xfe, ..] => Self::Wide([b'\n', 0]),
            [0xfe, 0xff, ..] => Self::Wide([0, b'\n']),
            _ => Self::Byte,
        }
    }

    /// Counts the line ends that start in a part of the bytes, whose first byte has the position `offset` in the
    /// stream.
    pub(super) fn count(self, bytes: &[u8], from: usize, to: usize, offset: u64) -> u64 {
        let count = match self {
            Self::Byte => memchr::memchr_iter(b'\n', &bytes[from..to]).count(),
            Self::Wide(line_end) => {
                let odd = usize::from(!(offset + from as u64).is_multiple_of(2));
                let starts = (from + odd..to).step_by(2);
                starts.filter(|start| bytes.get(*start..*start + 2) == Some(&line_end)).count()
            }
        };
        count as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_ends_are_counted_in_each_encoding() {
        let text = "one\ntwo\n\u{a0a}\u{100a}three";
        for (head, encode) in
            [(&[0xff, 0xfe][..], u16::to_le_bytes as fn(u16) -> [u8; 2]), (&[0xfe, 0xff], u16::to_be_bytes)]
        {
            let mut bytes = head.to_vec();
            bytes.extend(text.encode_utf16().flat_map(encode));
            let ends = LineEnds::of(&bytes);
            assert_eq!(ends.count(&bytes, 0, bytes.len(), 0), 2);
            // The same stream, from its second byte on.
            assert_eq!(ends.count(&bytes[1..], 0, bytes.len() - 1, 1), 2);
            // In two parts.
            let parts = (0..bytes.len())
                .map(|at| ends.count(&bytes, 0, at, 0) + ends.count(&bytes, at, bytes.len(), 0));
            assert!(parts.into_iter().all(|sum| sum == 2));
        }
        assert_eq!(LineEnds::of(text.as_bytes()).count(text.as_bytes(), 0, text.len(), 0), 2);
    }
}
