//! Which CPU a thread runs on.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Puts this thread on the CPU of vCPU number `vcpu`: they are spread over the CPUs that the
/// process may use.
pub fn pin(vcpu: usize) {
    let Ok(allowed) = sched_getaffinity(None) else { return };
    let cpus: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).collect();
    if cpus.is_empty() {
        return;
    }
    let mut set = CpuSet::new();
    set.set(cpus[vcpu % cpus.len()]);
    // Where it is refused, the thread stays where the scheduler puts it.
    let _ = sched_setaffinity(None, &set);
}
