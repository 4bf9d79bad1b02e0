//! Asks a container: exec, HTTP or TCP.
