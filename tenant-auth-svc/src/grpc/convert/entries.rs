//! Entries of a list that succeed or fail independently.

use crate::grpc::error::ApiError;

/// The parsed entries.
#[derive(Debug)]
pub(crate) struct ParsedEntries<T> {
    valid: Vec<T>,
    errors: EntryErrors,
}

/// The errors of the invalid entries, by index.
#[derive(Debug)]
pub(crate) struct EntryErrors(Vec<Option<ApiError>>);

impl<T> FromIterator<Result<T, ApiError>> for ParsedEntries<T> {
    fn from_iter<I: IntoIterator<Item = Result<T, ApiError>>>(entries: I) -> Self {
        let mut valid = Vec::new();
        let errors = entries.into_iter().map(|entry| entry.map(|entry| valid.push(entry)).err()).collect();
        Self { valid, errors: EntryErrors(errors) }
    }
}

impl<T> ParsedEntries<T> {
    /// Splits into the valid entries and the errors, to which the outcomes are added later.
    pub(crate) fn into_parts(self) -> (Vec<T>, EntryErrors) {
        (self.valid, self.errors)
    }
}

impl EntryErrors {
    /// Merges the outcomes of the valid entries with the errors, in the order of the entries.
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
        let (valid, errors) = entries.into_parts();
        let outcomes = errors.merge_outcomes(valid.into_iter().map(|number| Ok(number * 10)));
        let shown: Vec<_> = outcomes.map(Result::ok).collect();
        assert_eq!(shown, [None, Some(10), None, Some(20), None]);
    }
}
