//! Pages of long lists.

use thiserror::Error;

/// Number of entries per page: 50 by default, at most 500, unless a list has other limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageSize(u16);

/// A negative page size.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("must not be negative")]
pub struct NegativePageSize;

impl PageSize {
    /// Default size.
    pub const DEFAULT: Self = Self(50);
    /// Maximum size.
    pub const MAX: Self = Self(500);

    /// Creates a size for a list with its own limits.
    #[must_use]
    pub const fn new(size: u16) -> Self {
        Self(size)
    }

    /// Returns the size for a requested number: 0 means the default; larger numbers are reduced to the
    /// maximum.
    ///
    /// # Errors
    /// When the number is negative.
    pub fn from_request(size: i32) -> Result<Self, NegativePageSize> {
        Self::from_request_within(size, (Self::DEFAULT, Self::MAX))
    }

    /// Like [`Self::from_request`], for a list with its own default and maximum.
    ///
    /// # Errors
    /// When the number is negative.
    pub fn from_request_within(size: i32, (default, max): (Self, Self)) -> Result<Self, NegativePageSize> {
        match size {
            ..0 => Err(NegativePageSize),
            0 => Ok(default),
            _ => Ok(Self(u16::try_from(size).unwrap_or(u16::MAX).min(max.0))),
        }
    }

    /// Returns the size.
    #[must_use]
    pub fn get(self) -> usize {
        usize::from(self.0)
    }
}

/// A request for a page: its size, and the entry after which it starts.
#[derive(Clone, Debug)]
pub struct PageRequest<Cursor> {
    /// Maximum number of entries.
    pub size: PageSize,
    /// The last entry of the previous page; `None` for the first page.
    pub after: Option<Cursor>,
}

/// A page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<Item, Cursor> {
    /// The entries.
    pub items: Vec<Item>,
    /// The cursor of the next page; `None` when this page is the last.
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
