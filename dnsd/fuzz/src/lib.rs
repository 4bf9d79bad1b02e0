//! What the fuzz targets of the translator share.

pub mod drive;
