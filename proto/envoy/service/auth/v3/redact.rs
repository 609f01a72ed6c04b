//! `Debug` of an HTTP request, whose headers and path may contain a key.

use std::fmt;

use super::attribute_context::HttpRequest;

impl fmt::Debug for HttpRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpRequest")
            .field("id", &self.id)
            .field("method", &self.method)
            .finish_non_exhaustive()
    }
}
