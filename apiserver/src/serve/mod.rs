//! How requests arrive from outside: TLS and a Unix socket, and who is asking.
