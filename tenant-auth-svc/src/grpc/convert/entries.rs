//! The entries of a list, of which each stands for itself: one that breaks the contract harms no other.

use crate::grpc::error::ApiError;

/// Entries as they were read.
#[derive(Debug)]
pub(crate) struct ParsedEntries<T> {
    valid: Vec<T>,
    errors: EntryErrors,
}

/// Where the others are, and what is wrong with each.
#[derive(Debug)]
pub(crate) struct EntryErrors(Vec<Option<ApiError>>);

impl<T> FromIterator<Result<T, ApiError>> for ParsedEntries<T> {
    fn from_iter<I: IntoIterator<Item = Result<T, ApiError>>>(entries: I) -> Self {
        let mut good = Vec::new();
        let places = entries.into_iter().map(|entry| entry.map(|entry| good.push(entry)).err()).collect();
        Self { valid: good, errors: EntryErrors(places) }
    }
}

impl<T> ParsedEntries<T> {
    /// Takes them apart: what to work on, and where to put what comes of it.
    pub(crate) fn into_parts(self) -> (Vec<T>, EntryErrors) {
        (self.valid, self.errors)
    }
}

impl EntryErrors {
    /// An outcome for each entry, from those of the good ones.
    pub(crate) fn merge_outcomes<R>(
        self,
        outcomes: impl IntoIterator<Item = Result<R, ApiError>>,
    ) -> impl Iterator<Item = Result<R, ApiError>> {
        let mut outcomes = outcomes.into_iter();
        self.0.into_iter().map_while(move |error| error.map(Err).or_else(|| outcomes.next()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_keep_the_positions_of_entries() {
        let wrong = || Err(ApiError::Invalid(Vec::new()));
        let entries: ParsedEntries<_> = [wrong(), Ok(1), wrong(), Ok(2), wrong()].into_iter().collect();
        let (good, places) = entries.into_parts();
        let outcomes = places.merge_outcomes(good.into_iter().map(|number| Ok(number * 10)));
        let shown: Vec<_> = outcomes.map(Result::ok).collect();
        assert_eq!(shown, [None, Some(10), None, Some(20), None]);
    }
}
