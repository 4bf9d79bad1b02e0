//! The embedded backend. The only file that imports sled, and the place for everything one must know about it.
//!
//! - `flush` on Linux ends in `sync_file_range`, which leaves the drive's cache and the file's size alone; so every
//!   commit is followed by an `fdatasync` of the database file through a handle of our own.
//! - An item makes its leaf grow, and a leaf of more than a quarter segment goes to a blob file that is never synced.
//!   Leaves hold up to 17 items (20 after a merge), so values are split into chunks small enough that this cannot happen.
//! - A batch writes a note of its own to the log before its items, and waits for the disk once more for it; so what is one
//!   item is not written as a batch.
//! - A damaged snapshot file makes it refuse to open although the log has everything; such files are set aside.
//! - After an I/O error a handle answers nothing but that error, so it is dropped and opened again.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bytes::BytesMut;
use tracing::warn;

use crate::backend::{Backend, BackendError, Batch, Change, Loaded, Stored};
use crate::pack::{self, Packer};
use crate::store::OpenError;
use crate::types::{Key, Revision};

/// The format of the state directory that this version writes.
pub const FORMAT: u32 = 2;
/// An earlier one that is read too, and becomes the present one: it had no packed records.
const EARLIER_FORMAT: u32 = 1;

/// The version of a record's encoding, its first byte: the object as it is.
const PLAIN: u8 = 1;
/// The same for an object that was packed.
const PACKED: u8 = 2;
/// Bytes of a segment of the log. sled moves a leaf out of the log at a quarter of this.
const SEGMENT: usize = 2 << 20;
/// Most bytes of a chunk with its header. 20 of them with the longest keys (about 600 bytes) are 332 KiB of the 512 KiB.
const CHUNK: usize = 16 << 10;
/// Version, revision and number of chunks, before the first chunk's data.
const FIRST_HEADER: usize = 1 + 8 + 2;
/// The revision, before the data of the others.
const NEXT_HEADER: usize = 8;
/// Where [`Batch::floor`] is kept. No record's key begins with NUL, because a resource has a name.
const FLOOR_KEY: &[u8] = b"\0floor";

/// Makes the database file durable.
pub type SyncFn = dyn Fn(&File) -> io::Result<()> + Send + Sync;

/// How the database is run.
#[derive(Clone)]
pub struct SledOptions {
    /// Most bytes of sled's page cache. All records are in memory anyway, so it only serves writing.
    pub cache_bytes: u64,
    /// What makes the database file durable; tests count it.
    pub sync: Arc<SyncFn>,
}

impl Default for SledOptions {
    fn default() -> Self {
        Self { cache_bytes: 64 << 20, sync: Arc::new(File::sync_data) }
    }
}

/// Keeps records in a directory: `lock`, `format`, and sled's files in `objects`.
pub struct SledBackend {
    objects: PathBuf,
    options: SledOptions,
    /// `None` after a failure, until it could be opened again.
    open: Option<Open>,
    /// Set when what was written may be missing on the disk although the kernel shows it. Nothing written behind such
    /// a hole would be found after a power cut, so nothing more is promised.
    broken: bool,
    /// Held, and with it the lock, as long as the backend lives.
    _lock: File,
}

struct Open {
    db: sled::Db,
    /// sled's `db` file.
    file: File,
    /// How many chunks each record has that has more than one, by the encoded key without chunk number.
    chunks: HashMap<Vec<u8>, u16>,
    packer: Packer,
}

impl SledBackend {
    /// Opens the state directory `path`, creating it if need be.
    ///
    /// # Errors
    /// [`OpenError::Locked`] when another process uses it, [`OpenError::Format`] when another version wrote it, and
    /// [`OpenError::Backend`] when it cannot be read or written.
    pub fn open(path: &Path, options: SledOptions) -> Result<Self, OpenError> {
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| io_error(path, error))?;
        let lock = lock(path)?;
        let objects = path.join("objects");
        check_format(path, &objects)?;
        let open = Open::new(&objects, &options)?;
        for directory in [&objects, path] {
            sync_directory(directory)?;
        }
        Ok(Self { objects, options, open: Some(open), broken: false, _lock: lock })
    }

    fn write(&mut self, open: &mut Open, batch: &Batch) -> Result<(), BackendError> {
        let failed = |source| BackendError::Database { path: self.objects.clone(), source };
        let mut writes = Vec::new();
        for change in &batch.changes {
            open.stage(change, &mut writes);
        }
        if let Some(floor) = batch.floor {
            writes.push((FLOOR_KEY.to_vec(), Some(encode_floor(floor))));
        }
        let flushed = apply(&open.db, writes).and_then(|()| open.db.flush());
        if let Err(error) = flushed {
            // A full disk refuses the write itself. Any other error may have eaten pages that were written before.
            self.broken = !is_full(&error);
            return Err(failed(error));
        }
        (self.options.sync)(&open.file).map_err(|source| {
            self.broken = true;
            BackendError::Io { path: self.objects.join("db"), source }
        })
    }
}

impl Backend for SledBackend {
    fn load(&mut self) -> Result<Loaded, BackendError> {
        let open = match self.open.take() {
            Some(open) => open,
            None => Open::new(&self.objects, &self.options)?,
        };
        self.open.insert(open).load()
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), BackendError> {
        if self.broken {
            return Err(BackendError::Broken(self.objects.clone()));
        }
        // Taken out, so that neither an error nor a panic of sled leaves a handle behind that will only repeat it.
        let mut open = match self.open.take() {
            Some(open) => open,
            None => {
                let mut open = Open::new(&self.objects, &self.options)?;
                // For the numbers of chunks: the failed write may have changed them.
                open.load()?;
                open
            }
        };
        self.write(&mut open, batch)?;
        self.open = Some(open);
        Ok(())
    }
}

impl Open {
    fn new(objects: &Path, options: &SledOptions) -> Result<Self, BackendError> {
        let database = |source| BackendError::Database { path: objects.to_owned(), source };
        let config = sled::Config::new()
            .path(objects)
            .cache_capacity(options.cache_bytes)
            .segment_size(SEGMENT)
            // The background thread also collects garbage.
            .flush_every_ms(Some(1000));
        let db = match open_unlocked(&config) {
            Ok(db) => db,
            // Only the snapshot is checked this strictly; a torn end of the log is cut off without an error.
            Err(error @ sled::Error::Corruption { .. }) if set_snapshots_aside(objects, &error)? => {
                open_unlocked(&config).map_err(database)?
            }
            Err(error) => return Err(database(error)),
        };
        let path = objects.join("db");
        let file = OpenOptions::new().read(true).write(true).open(&path).map_err(|error| io_error(&path, error))?;
        Ok(Self { db, file, chunks: HashMap::new(), packer: Packer::new() })
    }

    fn load(&mut self) -> Result<Loaded, BackendError> {
        self.chunks.clear();
        let mut loaded = Loaded::default();
        let mut items = self.db.iter();
        while let Some(item) = items.next() {
            let (key, value) = item.map_err(|error| BackendError::BadRecord(error.to_string()))?;
            if key == FLOOR_KEY {
                loaded.floor = decode_floor(&value)?;
                continue;
            }
            let first = First::decode(&key, &value)?;
            let mut data = BytesMut::from(first.data);
            for number in 1..first.chunks {
                let next = items.next().transpose().map_err(|error| BackendError::BadRecord(error.to_string()))?;
                let (next_key, next_value) = next.ok_or_else(|| bad(&first.key, "its end is missing"))?;
                let expected = chunk_key(first.prefix, number);
                let same = next_value.get(..NEXT_HEADER) == Some(&first.revision.0.to_be_bytes());
                if next_key != expected || !same {
                    return Err(bad(&first.key, "it is torn"));
                }
                data.extend_from_slice(&next_value[NEXT_HEADER..]);
            }
            if first.chunks > 1 {
                self.chunks.insert(first.prefix.to_vec(), first.chunks);
            }
            let value = match first.packed {
                true => pack::unpack(&data).ok_or_else(|| bad(&first.key, "it cannot be unpacked"))?.into(),
                false => data.freeze(),
            };
            loaded.records.push(Stored { key: first.key, revision: first.revision, value });
        }
        Ok(loaded)
    }

    fn stage(&mut self, change: &Change, writes: &mut Vec<Item>) {
        let prefix = key_prefix(&change.key);
        let had = self.chunks.remove(&prefix).unwrap_or(1);
        let has = match &change.value {
            Some(value) => match self.packer.pack(value) {
                Some(packed) => stage_value(&prefix, change.revision, PACKED, packed, writes),
                None => stage_value(&prefix, change.revision, PLAIN, value, writes),
            },
            None => 0,
        };
        for number in has..had {
            writes.push((chunk_key(&prefix, number), None));
        }
        if has > 1 {
            self.chunks.insert(prefix, has);
        }
    }
}

/// An item of the database, and what it becomes; `None` removes it.
type Item = (Vec<u8>, Option<Vec<u8>>);

/// Does all of `writes` or none.
fn apply(db: &sled::Db, mut writes: Vec<Item>) -> sled::Result<()> {
    if writes.len() == 1
        && let Some((key, value)) = writes.pop()
    {
        return match value {
            Some(value) => db.insert(key, value).map(drop),
            None => db.remove(key).map(drop),
        };
    }
    let mut batch = sled::Batch::default();
    for (key, value) in writes {
        match value {
            Some(value) => batch.insert(key, value),
            None => batch.remove(key),
        }
    }
    db.apply_batch(batch)
}

/// Writes a value's chunks and says how many there are.
fn stage_value(prefix: &[u8], revision: Revision, version: u8, value: &[u8], writes: &mut Vec<Item>) -> u16 {
    let (first, rest) = value.split_at(value.len().min(CHUNK - FIRST_HEADER));
    // Values end at 8 MiB, which is 513 chunks.
    let chunks = u16::try_from(1 + rest.len().div_ceil(CHUNK - NEXT_HEADER)).unwrap_or(u16::MAX);
    let head = [&[version][..], &revision.0.to_be_bytes(), &chunks.to_be_bytes(), first].concat();
    writes.push((chunk_key(prefix, 0), Some(head)));
    for (number, data) in (1..chunks).zip(rest.chunks(CHUNK - NEXT_HEADER)) {
        writes.push((chunk_key(prefix, number), Some([&revision.0.to_be_bytes()[..], data].concat())));
    }
    chunks
}

/// A record's first chunk.
struct First<'a> {
    key: Key,
    prefix: &'a [u8],
    revision: Revision,
    chunks: u16,
    packed: bool,
    data: &'a [u8],
}

impl<'a> First<'a> {
    fn decode(key: &'a [u8], value: &'a [u8]) -> Result<Self, BackendError> {
        let unreadable = || BackendError::BadRecord(format!("{:?}", String::from_utf8_lossy(key)));
        let (prefix, number) = key.split_last_chunk::<2>().ok_or_else(unreadable)?;
        let name = parse_prefix(prefix).ok_or_else(unreadable)?;
        if u16::from_be_bytes(*number) != 0 {
            return Err(bad(&name, "its beginning is missing"));
        }
        let (version, rest) = value.split_first().ok_or_else(unreadable)?;
        if ![PLAIN, PACKED].contains(version) {
            return Err(bad(&name, &format!("it has encoding {version}, this minisvc reads {PLAIN} and {PACKED}")));
        }
        let (revision, rest) = rest.split_first_chunk::<8>().ok_or_else(unreadable)?;
        let (chunks, data) = rest.split_first_chunk::<2>().ok_or_else(unreadable)?;
        let revision = Revision(u64::from_be_bytes(*revision));
        let packed = *version == PACKED;
        Ok(Self { key: name, prefix, revision, chunks: u16::from_be_bytes(*chunks), packed, data })
    }
}

/// The parts of a key, each ended by NUL, so that the chunks of one record are neighbours.
fn key_prefix(key: &Key) -> Vec<u8> {
    [key.resource.as_bytes(), b"\0", key.namespace.as_bytes(), b"\0", key.name.as_bytes(), b"\0"].concat()
}

fn parse_prefix(prefix: &[u8]) -> Option<Key> {
    let mut parts = std::str::from_utf8(prefix).ok()?.strip_suffix('\0')?.split('\0');
    let key = Key::new(parts.next()?, parts.next()?, parts.next()?);
    parts.next().is_none().then_some(key)
}

fn chunk_key(prefix: &[u8], number: u16) -> Vec<u8> {
    [prefix, &number.to_be_bytes()].concat()
}

fn encode_floor(floor: Revision) -> Vec<u8> {
    [&[PLAIN][..], &floor.0.to_be_bytes()].concat()
}

fn decode_floor(value: &[u8]) -> Result<Revision, BackendError> {
    match value.split_first() {
        Some((&PLAIN, rest)) => rest.try_into().ok(),
        _ => None,
    }
    .map(|bytes| Revision(u64::from_be_bytes(bytes)))
    .ok_or_else(|| BackendError::BadRecord("the mark of used revisions".to_owned()))
}

fn bad(key: &Key, why: &str) -> BackendError {
    BackendError::BadRecord(format!("{key}: {why}"))
}

/// Takes the directory's lock, which ends with the process, however that ends.
fn lock(directory: &Path) -> Result<File, OpenError> {
    let path = directory.join("lock");
    let failed = |error| io_error(&path, error);
    let mut options = OpenOptions::new();
    let mut file =
        options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            // For the message only: a holder that has not written its pid yet goes unnamed.
            let pid = file.read_to_string(&mut pid).ok().and_then(|_| pid.trim().parse().ok());
            return Err(OpenError::Locked { path: directory.to_owned(), pid });
        }
        Err(TryLockError::Error(error)) => return Err(failed(error).into()),
    }
    file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(failed)?;
    Ok(file)
}

/// Refuses a directory of another format, and marks a new one and one of the earlier format.
fn check_format(directory: &Path, objects: &Path) -> Result<(), OpenError> {
    let path = directory.join("format");
    let found = match fs::read_to_string(&path) {
        Ok(found) => found.trim().to_owned(),
        // The mark is made before anything else, so objects without one are not ours.
        Err(error) if error.kind() == io::ErrorKind::NotFound && objects.exists() => "unknown".to_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return mark_format(directory, &path),
        Err(error) => return Err(io_error(&path, error).into()),
    };
    match found.parse() {
        Ok(FORMAT) => Ok(()),
        // Marked before a record is written that an earlier program would not understand.
        Ok(EARLIER_FORMAT) => mark_format(directory, &path),
        _ => Err(OpenError::Format { path: directory.to_owned(), found, expected: FORMAT }),
    }
}

fn mark_format(directory: &Path, path: &Path) -> Result<(), OpenError> {
    let new = directory.join("format.new");
    let write = || {
        let mut file = File::create(&new)?;
        writeln!(file, "{FORMAT}")?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    write().map_err(|error| io_error(path, error))?;
    Ok(sync_directory(directory)?)
}

fn sync_directory(directory: &Path) -> Result<(), BackendError> {
    File::open(directory).and_then(|file| file.sync_all()).map_err(|error| io_error(directory, error))
}

/// Opens the database, waiting for a handle of ours that was just dropped: sled's threads hold its lock a little longer.
fn open_unlocked(config: &sled::Config) -> sled::Result<sled::Db> {
    let is_locked = |error: &sled::Error| error.to_string().contains("could not acquire lock");
    for _ in 0..40 {
        match config.open() {
            Err(error) if is_locked(&error) => thread::sleep(Duration::from_millis(50)),
            other => return other,
        }
    }
    config.open()
}

/// Moves snapshot files out of the way, so that the whole log is replayed. False when there was none to blame.
fn set_snapshots_aside(objects: &Path, why: &sled::Error) -> Result<bool, BackendError> {
    let failed = |error| io_error(objects, error);
    let mut moved = false;
    for entry in fs::read_dir(objects).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| name.starts_with("snap.")) else { continue };
        let aside = objects.join(format!("set-aside.{name}"));
        fs::rename(entry.path(), &aside).map_err(failed)?;
        warn!(path = %aside.display(), error = %why, "a damaged snapshot is set aside and the log replayed");
        moved = true;
    }
    Ok(moved)
}

fn is_full(error: &sled::Error) -> bool {
    let sled::Error::Io(error) = error else { return false };
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn io_error(path: &Path, source: io::Error) -> BackendError {
    BackendError::Io { path: path.to_owned(), source }
}
