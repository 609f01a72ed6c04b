//! Scans what archives contain, within limits.

use std::{
    cell::Cell,
    io::{self, BufReader, Read},
    rc::Rc,
};

use flate2::bufread::MultiGzDecoder;

use super::{Scanner, Sink, stream::Interruption};

/// How deep archives may be nested. A layer of an image with a library is three deep.
pub(super) const MAX_DEPTH: usize = 8;
/// How much one file may unpack to. A few kilobytes can unpack to petabytes.
const MAX_UNPACKED: u64 = 4 << 30;
/// What an entry costs of that at least, so that the number of entries is limited too.
const ENTRY_COST: u64 = 512;

/// What may still be unpacked of one file.
#[derive(Clone, Debug)]
pub(super) struct Limits {
    unpacked: Rc<Cell<u64>>,
    is_exceeded: Rc<Cell<bool>>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { unpacked: Rc::new(Cell::new(MAX_UNPACKED)), is_exceeded: Rc::default() }
    }
}

impl Limits {
    /// Returns whether nothing more of this file is scanned.
    pub(super) fn are_exceeded(&self) -> bool {
        self.is_exceeded.get()
    }

    /// Counts an entry of an archive.
    pub(super) fn count_entry(&self) -> io::Result<()> {
        self.spend(ENTRY_COST)
    }

    /// Returns a reader that counts what it returns.
    pub(super) fn metered<R: Read>(&self, inner: R) -> Metered<R> {
        Metered { inner, limits: self.clone() }
    }

    fn spend(&self, amount: u64) -> io::Result<()> {
        match self.unpacked.get().checked_sub(amount) {
            Some(left) => {
                self.unpacked.set(left);
                Ok(())
            }
            None => {
                self.is_exceeded.set(true);
                Err(io::Error::other("unpacks to more than 4 GiB: unpack it and scan the folder"))
            }
        }
    }
}

/// A reader whose bytes count.
#[derive(Debug)]
pub(super) struct Metered<R> {
    inner: R,
    limits: Limits,
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.inner.read(buffer)?;
        self.limits.spend(len as u64)?;
        Ok(len)
    }
}

impl<S: Sink> Scanner<'_, S> {
    pub(super) fn scan_gzip(
        &mut self,
        path: &str,
        stream: &mut dyn Read,
        depth: usize,
    ) -> Result<(), Interruption> {
        let mut unpacked = self.limits.metered(MultiGzDecoder::new(BufReader::new(stream)));
        self.scan(path, &mut unpacked, None, depth + 1)
    }
}

#[cfg(test)]
mod tests;
