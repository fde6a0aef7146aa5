//! The rows: one access each while a page is absent, and a guest that makes KVM do it.

mod kernel;
mod kvm;
mod slots;
mod system;
mod user;
mod walk;

use crate::guest::{Guest, IN_HANDLER};

/// The exit status of a guest that came to its end.
pub const DONE: u32 = 7;

/// Vectors of exceptions (Intel SDM volume 3, table 7-1).
pub const DE: u8 = 0;
pub const UD: u8 = 6;
pub const DF: u8 = 8;
pub const GP: u8 = 13;
pub const PF: u8 = 14;

/// The rows, by what they are about.
pub const GROUPS: [(&str, &[Row]); 6] = [
    ("Code of CPL 3", user::ROWS),
    ("Code of CPL 0", kernel::ROWS),
    ("Tables, exceptions and returns", system::ROWS),
    ("Page-table walks", walk::ROWS),
    ("Pages that a guest names to KVM", kvm::ROWS),
    ("Memory that KVM has not been told of", slots::ROWS),
];

/// One access while a page is absent.
pub struct Row {
    /// Its name in the table.
    pub id: &'static str,
    /// What is accessed.
    pub access: &'static str,
    /// Where the kernel does it, and what the source says becomes of it.
    pub kernel: &'static str,
    /// The guest.
    pub guest: fn() -> Guest,
    /// The pages that are absent.
    pub absent: &'static [u64],
    /// The guest's exit status where all is present.
    pub status: u8,
    /// How the access is prevented: the guest gets an exception instead, and the page stays absent.
    pub prevented: Option<&'static str>,
    /// What is said on hosts where the guest does not come to that even with all memory present.
    pub lacking: Option<&'static str>,
}

/// A row whose guest comes to its end.
const fn row(
    id: &'static str,
    access: &'static str,
    kernel: &'static str,
    absent: &'static [u64],
    guest: fn() -> Guest,
) -> Row {
    Row { id, access, kernel, guest, absent, status: DONE as u8, prevented: None, lacking: None }
}

impl Row {
    /// A row whose guest ends in the handler of an exception.
    const fn raises(self, vector: u8) -> Row {
        Row { status: IN_HANDLER + vector, ..self }
    }

    /// A row that not every host can run at all.
    const fn needs(self, lacking: &'static str) -> Row {
        Row { lacking: Some(lacking), ..self }
    }

    /// A row whose access is prevented by an exception.
    const fn prevented(self, vector: u8, how: &'static str) -> Row {
        Row { prevented: Some(how), ..self.raises(vector) }
    }
}
