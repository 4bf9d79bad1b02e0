//! Closing TUN devices, and freeing tables, beside the packet path.
//!
//! Each close of a TUN waits some 25 ms in the kernel (measured), during which no packet must wait. Several threads
//! close at once, because the waits overlap: 200 pods would otherwise take five seconds to go down. A table of 10,000
//! Services takes some milliseconds to free.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use minisvc_translator::ServiceTable;

use crate::device::Device;

/// What takes a while to get rid of.
pub(crate) enum Waste {
    /// A device.
    Device(#[expect(dead_code, reason = "it is only dropped")] Device),
    /// A table that is no longer in use.
    Table(#[expect(dead_code, reason = "it is only dropped")] Arc<ServiceTable>),
}

/// Threads that close. They sleep otherwise.
const THREADS: usize = 16;

/// Waste waiting to be dropped; one more is dropped by whoever brings it.
const QUEUE: usize = 1024;

/// A few threads whose only work is dropping things.
pub(crate) struct Closers {
    queue: SyncSender<Waste>,
    threads: Vec<JoinHandle<()>>,
}

impl Closers {
    /// Starts the threads.
    ///
    /// # Errors
    /// When the system has no room for a thread.
    pub(crate) fn start() -> io::Result<Self> {
        let (queue, devices) = sync_channel(QUEUE);
        let devices = Arc::new(Mutex::new(devices));
        let threads = (0..THREADS)
            .map(|_| {
                let devices = Arc::clone(&devices);
                std::thread::Builder::new().name("netd-close".into()).spawn(move || close_until_ended(&devices))
            })
            .collect::<io::Result<_>>()?;
        Ok(Self { queue, threads })
    }

    /// Closes a device or frees a table soon, on another thread.
    pub(crate) fn dispose(&self, waste: Waste) {
        match self.queue.try_send(waste) {
            Ok(()) => {}
            Err(TrySendError::Full(waste) | TrySendError::Disconnected(waste)) => drop(waste),
        }
    }

    /// Closes these devices and all that were brought before; returns when they are closed.
    pub(crate) fn close_all(self, devices: impl Iterator<Item = Device>) {
        for device in devices {
            // Waits for room rather than closing in this thread: the others overlap their waits.
            if let Err(refused) = self.queue.send(Waste::Device(device)) {
                drop(refused);
            }
        }
        drop(self.queue);
        for thread in self.threads {
            // A thread that panicked has nothing left to close.
            let _ = thread.join();
        }
    }
}

fn close_until_ended(devices: &Mutex<Receiver<Waste>>) {
    loop {
        // The lock is held while waiting: whoever holds it is next in line, the others queue behind it.
        let next = devices.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match next {
            Ok(waste) => drop(waste),
            Err(_) => return,
        }
    }
}
