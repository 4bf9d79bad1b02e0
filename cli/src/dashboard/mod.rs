//! The live page: its files, the stream that feeds it, and the questions its panel asks.
//!
//! It is served through [`crate::gateway`], which lets in only the lab's owner; beside it stands the lab's whole API.

mod answers;
mod feed;
mod files;
mod flow;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};

use crate::api::LabApi;
use crate::error::CliError;
use crate::gateway;
use crate::home::LabHome;

/// What every answer needs.
pub(crate) struct Page {
    home: LabHome,
    api: LabApi,
}

/// Everything the page asks for.
///
/// # Errors
/// When the lab does not run.
pub(crate) fn router(home: &LabHome) -> Result<Router, CliError> {
    let page = Arc::new(Page { home: home.clone(), api: LabApi::of(home)? });
    let own = Router::new()
        .route("/dashboard/feed", get(feed::feed))
        .route("/dashboard/flows", get(answers::flows))
        .route("/dashboard/why", get(answers::why))
        .route("/dashboard/try", post(answers::attempt))
        .with_state(page);
    Ok(gateway::api(home).merge(own).merge(files::router()))
}
