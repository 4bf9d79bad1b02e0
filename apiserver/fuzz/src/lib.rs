//! What the fuzz targets of the API server share.

pub mod drive;
