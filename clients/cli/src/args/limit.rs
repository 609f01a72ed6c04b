//! How much of a list.

use clap::Args;

#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Limit {
    /// List this many at most
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..), value_name = "N")]
    limit: u32,

    /// List everything
    #[arg(long, conflicts_with = "limit")]
    all: bool,
}

impl Limit {
    /// The most to list; `None`: everything.
    pub(crate) fn max_items(self) -> Option<usize> {
        (!self.all).then(|| usize::try_from(self.limit).unwrap_or(usize::MAX))
    }
}
