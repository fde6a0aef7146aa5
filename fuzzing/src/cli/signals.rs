//! ^C and its like end a campaign well.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// How often a signal must come until the process ends at once. `timeout` sends each twice.
const ENOUGH: u32 = 3;

/// A flag that a signal sets.
pub fn stop_flag() -> io::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    let set = stop.clone();
    let wait = move || {
        let mut times = 0;
        for signal in signals.forever() {
            set.store(true, Ordering::Relaxed);
            times += 1;
            if times >= ENOUGH {
                std::process::exit(128 + signal);
            }
        }
    };
    thread::Builder::new().name("signals".into()).spawn(wait)?;
    Ok(stop)
}
