//! Which ways a program's control flow took, and how often: what fuzzers call coverage.
//!
//! What is counted is a matter of the program's instructions alone: of each conditional jump in the chosen files, how
//! often it was taken and how often it was not; and of each place to which an indirect branch went (`ret` among them),
//! how often one came there. All other ways follow from these. `loop` and `jrcxz` are left out, which compilers do not
//! make. The counting is done by copies of the code, with those that count branches.

use std::ops::Range;
use std::sync::Arc;

/// In which files' code ways are counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Modules {
    /// The program's and its libraries', but for the C library's, the sanitizers' and the dynamic linker.
    #[default]
    Own,
    /// All files'.
    All,
    /// Those of these paths in the guest, or file names.
    Named(Vec<String>),
}

/// File names of the C library and of the dynamic linker, up to their version (glibc's and musl's); and of the sanitizers'
/// run time, which stands before it (GCC's and LLVM's).
const C_LIBRARY: [&str; 16] = [
    "libasan.so",
    "libclang_rt.",
    "liblsan.so",
    "libtsan.so",
    "libubsan.so",
    "ld-linux-x86-64.so",
    "ld-musl-x86_64.so",
    "libc.so",
    "libc.musl-x86_64.so",
    "libm.so",
    "libmvec.so",
    "libpthread.so",
    "libdl.so",
    "librt.so",
    "libresolv.so",
    "libanl.so",
];

/// Whether a file is the C library's or the dynamic linker, by its path.
pub fn is_c_library(path: &str) -> bool {
    C_LIBRARY.iter().any(|library| file_name(path).starts_with(library))
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

impl Modules {
    /// Whether a file is one of them, by its path.
    pub(crate) fn has(&self, path: &str) -> bool {
        match self {
            Modules::Own => !is_c_library(path),
            Modules::All => true,
            Modules::Named(names) => names.iter().any(|wanted| wanted == path || wanted == file_name(path)),
        }
    }
}

/// How control flow went on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Way {
    /// A conditional jump was taken.
    Taken,
    /// A conditional jump was not taken.
    NotTaken,
    /// An indirect jump or call, or a return, came here.
    Entered,
}

/// A way that control flow took.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Edge {
    /// The file's path in the guest.
    pub file: Arc<str>,
    /// Where in the file the jump is, or the instruction that an indirect branch came to.
    pub offset: u64,
    /// How it went on.
    pub way: Way,
}

/// Memory that a process has of a file and cannot write: code, or constants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConstantMemory {
    /// The file's path in the guest.
    pub file: Arc<str>,
    /// Where in the file it begins, bytes.
    pub offset: u64,
    /// Where it is.
    pub addresses: Range<u64>,
    /// Whether it can be run.
    pub is_code: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_chosen() {
        let own = Modules::Own;
        assert!(
            own.has("/usr/bin/jq") && own.has("/usr/lib/libcares.so.2") && own.has("/usr/lib/libmagic.so.1")
        );
        assert!(!own.has("/lib/x86_64-linux-gnu/libc.so.6") && !own.has("/lib64/ld-linux-x86-64.so.2"));
        assert!(Modules::All.has("/lib/x86_64-linux-gnu/libc.so.6"));
        let named = Modules::Named(vec!["libjq.so.1".into(), "/usr/bin/jq".into()]);
        assert!(named.has("/usr/lib/libjq.so.1") && named.has("/usr/bin/jq") && !named.has("/bin/jq"));
    }
}
