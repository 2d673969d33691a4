//! What a check finds.

/// One thing that a check found.
pub(crate) struct Finding(pub(crate) String);

impl Finding {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}
