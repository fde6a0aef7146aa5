//! What there is to see of a machine with a program, whether it runs or is replayed.

use dejavm_sandbox::guest::Machine;
use dejavm_sandbox::machine::RunError;
use dejavm_sandbox::vcpu::registers::{ExtendedState, UserRegisters};

use crate::text::call_name;

/// The tasks of the process that runs, by thread number.
pub(crate) fn tasks(machine: &Machine) -> Vec<u32> {
    machine.program().map_or(Vec::new(), |program| program.kernel.tasks_of(program.kernel.pid()))
}

/// The task that runs; 0 of a bare-metal guest.
pub(crate) fn current_task(machine: &Machine) -> u32 {
    machine.program().map_or(0, |program| program.kernel.tid())
}

/// A task in a few words: its name, and the system call that it waits in.
pub(crate) fn described(machine: &Machine, tid: u32) -> Option<String> {
    let kernel = &machine.program()?.kernel;
    let name = String::from_utf8_lossy(&kernel.task.of(tid)?.name).escape_debug().to_string();
    Some(match kernel.waits_in(tid) {
        Some(number) => format!("{name}, waits in {}", call_name(number)),
        None => name,
    })
}

/// The registers of a task: general ones and segment bases, and the vector state.
///
/// # Errors
/// When KVM refuses.
pub(crate) fn task(
    machine: &mut Machine,
    tid: u32,
) -> Result<Option<(UserRegisters, ExtendedState)>, RunError> {
    let Some(program) = machine.program_mut() else { return Ok(None) };
    let tasks = program.tasks()?;
    Ok(tasks.of(tid).map(|task| {
        let fp = task.fp.as_ref().map_or_else(ExtendedState::initial, |fp| (**fp).clone());
        (task.regs, fp)
    }))
}

/// Reads memory of the running task, as far as it is there; how many bytes.
pub(crate) fn memory(machine: &Machine, address: u64, out: &mut [u8]) -> usize {
    let Some(program) = machine.program() else { return 0 };
    program.kernel.space.look(&program.kernel.memory, address, out)
}

/// The running program's auxiliary vector, as in `/proc/PID/auxv`.
pub(crate) fn auxv(machine: &Machine) -> Vec<u8> {
    let Some(program) = machine.program() else { return Vec::new() };
    let image = &program.kernel.space.state.image;
    image.auxv.iter().flat_map(|(key, value)| [key.to_le_bytes(), value.to_le_bytes()].concat()).collect()
}

/// The path of the running program's file.
pub(crate) fn executable(machine: &Machine) -> Option<Vec<u8>> {
    machine.program().map(|program| program.kernel.space.state.image.exe.to_vec())
}
