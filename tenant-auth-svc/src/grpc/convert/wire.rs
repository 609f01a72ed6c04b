//! Writes the bytes of messages, without a message in between.

use std::cell::RefCell;

use bytes::Bytes;

/// The header of each message on the wire: one byte for the compression flag and four for the length.
pub(crate) const FRAME_HEADER_LEN: usize = 5;

thread_local! {
    /// Buffers for messages whose length precedes them. One pair per thread.
    static ENCODE_BUFFERS: RefCell<(Vec<u8>, Vec<u8>)> = const { RefCell::new((Vec::new(), Vec::new())) };
}

/// The maximum capacity in bytes that a buffer keeps for the next message.
const MAX_RETAINED_BUFFER_BYTES: usize = 1 << 18;

/// Writes a complete frame: its message is what `put` writes. `put` also gets an empty buffer.
pub(crate) fn encode_frame(put: impl FnOnce(&mut Vec<u8>, &mut Vec<u8>)) -> Bytes {
    ENCODE_BUFFERS.with_borrow_mut(|(frame, buffer)| {
        frame.clear();
        frame.extend_from_slice(&[0; FRAME_HEADER_LEN]);
        put(frame, buffer);
        // Responses are far shorter than 4 GiB.
        let len = u32::try_from(frame.len() - FRAME_HEADER_LEN).unwrap_or(u32::MAX).to_be_bytes();
        if let Some(head) = frame.get_mut(1..FRAME_HEADER_LEN) {
            head.copy_from_slice(&len);
        }
        let framed = Bytes::copy_from_slice(frame);
        frame.clear();
        frame.shrink_to(MAX_RETAINED_BUFFER_BYTES);
        framed
    })
}

/// Writes a message or a text of less than 128 bytes. Its length is one byte and is filled in afterwards.
pub(crate) fn put_short_message(field: u8, out: &mut Vec<u8>, put: impl FnOnce(&mut Vec<u8>)) {
    put_field_header(field, 0, out);
    let begin = out.len();
    put(out);
    let len = u8::try_from(out.len() - begin).unwrap_or(u8::MAX);
    if let Some(length_byte) = out.get_mut(begin - 1) {
        *length_byte = len;
    }
}

/// Writes a message of less than 16 KiB. Its length is two bytes, which are filled in afterwards.
pub(crate) fn put_message(field: u8, out: &mut Vec<u8>, put: impl FnOnce(&mut Vec<u8>)) {
    put_field_header(field, 0, out);
    out.push(0);
    let begin = out.len();
    put(out);
    // A length may have more bytes than it needs, each but the last with the top bit set.
    let len = (out.len() - begin).min(0x3fff);
    if let Some(length_bytes) = out.get_mut(begin - 2..begin) {
        length_bytes.copy_from_slice(&[len as u8 | 0x80, (len >> 7) as u8]);
    }
}

/// Proto3 omits an empty string.
pub(crate) fn put_text(field: u8, text: &str, out: &mut Vec<u8>) {
    if !text.is_empty() {
        put_bytes(field, text.as_bytes(), out);
    }
}

/// Writes a string or bytes, even if they are empty.
pub(crate) fn put_bytes(field: u8, bytes: &[u8], out: &mut Vec<u8>) {
    put_field_header(field, bytes.len(), out);
    out.extend_from_slice(bytes);
}

/// Writes the tag and the length of a length-delimited field.
pub(crate) fn put_field_header(field: u8, len: usize, out: &mut Vec<u8>) {
    const LENGTH_DELIMITED: u8 = 2;
    out.push(field << 3 | LENGTH_DELIMITED);
    put_varint(len as u64, out);
}

/// Proto3 omits a zero.
pub(crate) fn put_number(field: u8, number: i64, out: &mut Vec<u8>) {
    const VARINT: u8 = 0;
    if number != 0 {
        out.push(field << 3 | VARINT);
        put_varint(number.cast_unsigned(), out);
    }
}

fn put_varint(mut number: u64, out: &mut Vec<u8>) {
    // Seven bits per byte, lowest first; all bytes but the last have the top bit set.
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Returns the length of a number as a varint.
pub(crate) fn varint_len(number: usize) -> usize {
    (number.max(1).ilog2() / 7 + 1) as usize
}
