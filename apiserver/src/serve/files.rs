//! The PEM files of a state directory, or nowhere for a lab that keeps nothing.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::CaError;

/// A directory of small files that only their owner may read.
#[derive(Debug)]
pub(super) struct Files {
    directory: Option<PathBuf>,
}

impl Files {
    pub(super) fn open(directory: Option<&Path>) -> Result<Self, CaError> {
        if let Some(path) = directory {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
            made.map_err(|source| CaError::Io { path: path.to_owned(), source })?;
        }
        Ok(Self { directory: directory.map(Path::to_owned) })
    }

    /// Where `name` is, for messages.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.as_deref().unwrap_or_else(|| Path::new("(memory)")).join(name)
    }

    /// The content of a file, `None` when there is none.
    pub(super) fn read(&self, name: &str) -> Result<Option<String>, CaError> {
        if self.directory.is_none() {
            return Ok(None);
        }
        match fs::read_to_string(self.path(name)) {
            Ok(content) => Ok(Some(content)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(CaError::Io { path: self.path(name), source }),
        }
    }

    /// Replaces a file as a whole, readable by its owner only, durable when this returns.
    pub(super) fn write(&self, name: &str, content: &str) -> Result<(), CaError> {
        let Some(directory) = &self.directory else { return Ok(()) };
        let path = self.path(name);
        let new = directory.join(format!("{name}.new"));
        let write = || {
            // A left-over of an earlier crash may have other rights.
            match fs::remove_file(&new) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
            file.write_all(content.as_bytes())?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            fs::File::open(directory)?.sync_all()
        };
        write().map_err(|source| CaError::Io { path: path.clone(), source })
    }
}
