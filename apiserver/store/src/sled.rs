//! The embedded backend. The only file that imports sled.
