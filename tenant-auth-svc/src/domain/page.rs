//! Pages of long lists.

use thiserror::Error;

/// How many entries a page holds: 50 unless asked otherwise, 500 at most, where a list does not say otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageSize(u16);

/// A negative page size.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("must not be negative")]
pub struct NegativePageSize;

impl PageSize {
    /// The default.
    pub const DEFAULT: Self = Self(50);
    /// The largest.
    pub const MAX: Self = Self(500);

    /// A size of a list's own.
    #[must_use]
    pub const fn new(size: u16) -> Self {
        Self(size)
    }

    /// Takes a caller's wish: 0 is the default, more than the largest is the largest.
    ///
    /// # Errors
    /// When it is negative.
    pub fn from_request(size: i32) -> Result<Self, NegativePageSize> {
        Self::from_request_within(size, (Self::DEFAULT, Self::MAX))
    }

    /// The same for a list with a default and a largest size of its own.
    ///
    /// # Errors
    /// When it is negative.
    pub fn from_request_within(size: i32, (default, max): (Self, Self)) -> Result<Self, NegativePageSize> {
        match size {
            ..0 => Err(NegativePageSize),
            0 => Ok(default),
            _ => Ok(Self(u16::try_from(size).unwrap_or(u16::MAX).min(max.0))),
        }
    }

    /// The size.
    #[must_use]
    pub fn get(self) -> usize {
        usize::from(self.0)
    }
}

/// A page to read: how much, and after which entry.
#[derive(Clone, Debug)]
pub struct PageRequest<Cursor> {
    /// How many entries at most.
    pub size: PageSize,
    /// The last entry of the page before; `None` for the first page.
    pub after: Option<Cursor>,
}

/// A page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<Item, Cursor> {
    /// The entries.
    pub items: Vec<Item>,
    /// Where the next page starts; `None` when this is the last.
    pub next: Option<Cursor>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requested_page_sizes_are_bounded() {
        assert_eq!(PageSize::from_request(-1), Err(NegativePageSize));
        assert_eq!(PageSize::from_request(0), Ok(PageSize::DEFAULT));
        assert_eq!(PageSize::from_request(7).unwrap().get(), 7);
        assert_eq!(PageSize::from_request(i32::MAX), Ok(PageSize::MAX));
    }
}
