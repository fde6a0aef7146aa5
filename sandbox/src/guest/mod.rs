//! A guest of either kind: what knows both of Linux programs and of bare-metal guests. Its state, its
//! machine, and the snapshots that hold either.

mod machine;
mod save;
mod state;

pub use machine::{Checkpoint, Machine, ResetPoint};
pub use save::{save_start, state_of};
pub use state::{Anew, Claims, MachineState};
