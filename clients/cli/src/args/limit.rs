//! The maximum length of a list.

use clap::Args;

#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Limit {
    /// Maximum number of items to list
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..), value_name = "N")]
    limit: u32,

    /// List all items
    #[arg(long, conflicts_with = "limit")]
    all: bool,
}

impl Limit {
    /// Returns the maximum number of items; `None` for all.
    pub(crate) fn max_items(self) -> Option<usize> {
        (!self.all).then(|| usize::try_from(self.limit).unwrap_or(usize::MAX))
    }
}
