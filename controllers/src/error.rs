//! What can go wrong in a run of a controller.

/// Why a run has failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The API server refused, or could not be reached.
    #[error("{doing}: {source}")]
    Api {
        /// What was attempted.
        doing: &'static str,
        /// The client's error.
        #[source]
        source: kube::Error,
    },
    /// Something the run depends on is not there yet.
    #[error("{0} is not known yet")]
    Missing(String),
    /// A load balancer cannot have an address.
    #[error("{0}")]
    NoAddress(String),
    /// A bug of ours.
    #[error("panicked: {0}")]
    Panicked(String),
}

impl Error {
    /// For `map_err`.
    pub(crate) fn api(doing: &'static str) -> impl FnOnce(kube::Error) -> Self {
        move |source| Self::Api { doing, source }
    }

    /// Whether somebody else's write came first: nothing is wrong, the run only has to see it.
    pub(crate) fn is_lost_race(&self) -> bool {
        match self {
            Self::Api { source, .. } => is_status(source, 409) || is_status(source, 404),
            Self::Missing(_) | Self::NoAddress(_) | Self::Panicked(_) => false,
        }
    }
}

/// Whether the server answered with this HTTP code.
pub(crate) fn is_status(error: &kube::Error, code: u16) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == code)
}

/// The server's sentence for the user, or the client's.
pub(crate) fn sentence(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}
