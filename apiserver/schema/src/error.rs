//! The one error of all patch formats.

/// Why a patch could not be applied. The texts are complete sentences of the answer to the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The patch itself is not well formed: 400 BadRequest.
    #[error("{0}")]
    Malformed(String),
    /// The patch is well formed but does not fit the object: 422 Invalid.
    #[error("{0}")]
    Failed(String),
    /// The patch asks for more work than one request may: 413 RequestEntityTooLarge.
    #[error("{0}")]
    TooLarge(String),
}
