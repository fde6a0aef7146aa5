//! Each resource at its limit, from a program that means harm: it gets Linux's error or signal, the
//! deadline holds, and the host gives no more memory than was granted.
//!
//! One file a kind of resource. `DEJAVM_TEST_FULL=1` holds deadlines to 100 ms, as an idle machine does;
//! without it a busy machine is given time.

mod common;

#[path = "limits/answers.rs"]
mod answers;
#[path = "limits/deadline.rs"]
mod deadline;
#[path = "limits/files.rs"]
mod files;
#[path = "limits/harness.rs"]
mod harness;
#[path = "limits/mappings.rs"]
mod mappings;
#[path = "limits/memory.rs"]
mod memory;
#[path = "limits/objects.rs"]
mod objects;
#[path = "limits/rlimits.rs"]
mod rlimits;
#[path = "limits/shared_files.rs"]
mod shared_files;
#[path = "limits/streams.rs"]
mod streams;
#[path = "limits/texts.rs"]
mod texts;
#[path = "limits/time.rs"]
mod time;
