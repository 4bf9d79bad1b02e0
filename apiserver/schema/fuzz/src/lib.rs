//! What the fuzz targets of the schema share.

pub mod drive;
