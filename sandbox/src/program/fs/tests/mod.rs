//! Tests of the whole file system.

mod against_tmpfs;
mod content;
mod host;
mod hostile;
mod lower;
mod names;
mod system;
