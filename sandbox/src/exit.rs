//! What a run is made of: exits, and who watches them.

use serde::{Deserialize, Serialize};

use crate::world::WorldError;

/// What the guest left guest mode for, of the kinds that are a function of the run itself, and
/// that a replay must meet again in the same order.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ExitKind {
    /// A Linux system call.
    Syscall {
        /// Its number (x86-64 table).
        number: u64,
        /// RDI, RSI, RDX, R10, R8, R9.
        args: [u64; 6],
    },
    /// An instruction that traps to the monitor.
    Instruction(Trapped),
    /// An exception of the guest that becomes a signal.
    Exception {
        /// The vector (0 to 31; Intel SDM volume 3, table 7-1).
        vector: u8,
        /// The error code, 0 where the vector has none.
        code: u64,
        /// CR2 for a page fault, else RIP.
        address: u64,
    },
    /// The program ended.
    End {
        /// As `wait4` would give it, and for the ends that it does not know, numbers that it never gives.
        status: i32,
    },
    /// An interval timer went off behind an instruction that was stepped.
    Timer {
        /// Instructions stepped since the exit before.
        steps: u64,
    },
    /// A bare-metal guest read a port; the result is what it got, of more than 8 bytes the first 8.
    In {
        /// The port.
        port: u16,
        /// Bytes: 1, 2 or 4, or more of a string instruction.
        len: u32,
    },
    /// A bare-metal guest wrote a port; the result is what it wrote, of more than 8 bytes the first 8.
    Out {
        /// The port.
        port: u16,
        /// Bytes: 1, 2 or 4, or more of a string instruction.
        len: u32,
    },
    /// A task lost the CPU behind an instruction that was stepped.
    Preempted {
        /// Instructions stepped since the exit before.
        steps: u64,
    },
    /// A task lost the CPU, since it ran in a circle that nothing in it ends.
    Circle {
        /// Instructions of the circle.
        steps: u64,
    },
    /// A task lost the CPU, as its time slice was over.
    Sliced {
        /// Branches counted since the exit before.
        branches: u64,
    },
}

/// An instruction that the monitor answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Trapped {
    /// `RDTSC`.
    Rdtsc,
    /// `RDTSCP`.
    Rdtscp,
    /// `CPUID` with EAX and ECX.
    Cpuid {
        /// EAX at the instruction.
        leaf: u32,
        /// ECX at the instruction.
        subleaf: u32,
    },
    /// `RDRAND`.
    Rdrand,
    /// `RDSEED`.
    Rdseed,
    /// `PAUSE`, where another task could run or the clock has come to something.
    Pause,
    /// `RDPID`.
    Rdpid,
    /// `XGETBV` of XCR0.
    Xgetbv,
}

/// One compared exit, once it has been answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Its number in the run, from 1.
    pub number: u64,
    /// The task that made it, by its thread number; 0 for bare-metal guests.
    pub task: u32,
    /// What it was.
    pub kind: ExitKind,
    /// RIP of the instruction after a system call, a timer, a lost turn or a write of a port, or of the trapped
    /// instruction or the read of a port.
    pub rip: u64,
    /// What the guest got: RAX after the exit.
    pub result: u64,
    /// The digest of everything that the monitor wrote into guest memory to answer it
    /// (addresses and bytes, xxh3), and of the bytes of port accesses that are longer than the result;
    /// 0 when there is nothing of either.
    pub effects: u64,
    /// The virtual clock after the exit, nanoseconds since the Unix epoch; 0 for bare-metal guests,
    /// which have none.
    pub clock: u64,
}

/// One page brought in. Logged for its order, never compared: it depends on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// The number of the guest-physical page.
    pub page: u64,
    /// How it was found that the page was wanted.
    pub rung: Rung,
    /// Where its content came from.
    pub source: SourceKind,
}

/// How an absent page came to be known: the ladder, in the order in which it is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Rung {
    /// `KVM_EXIT_MEMORY_FAULT` with the address.
    Annotated,
    /// A poison marker's SIGBUS, with the host address.
    Poison,
    /// A bare `EFAULT`: the instruction at RIP, decoded.
    Decode,
    /// A `KVM_EXIT_MMIO` whose address lies in RAM.
    Mmio,
    /// An emulation failure at an absent instruction or operand page.
    Emulation,
    /// A guest page fault in a region that has no page table yet.
    Region,
    /// Everything that was absent brought in at once.
    Populate,
    /// The monitor itself needed the page, to answer an exit.
    Monitor,
    /// Brought in before it was wanted, in the order of an earlier run.
    Prefetch,
    /// Brought in beforehand, since KVM reads or writes it by itself and tells nobody.
    Kept,
    /// `KVM_RUN` did not come back: a page that KVM may be reading by itself.
    Watchdog,
    /// A triple fault, since KVM lacked pages that the delivery of an exception takes.
    Delivery,
}

/// Where a page's content came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum SourceKind {
    /// A page of zeros.
    Zero,
    /// The snapshot.
    Snapshot,
    /// A mapped file.
    File,
    /// Set aside by fault injection.
    Aside,
}

/// A guest's memory, for an observer to read, and what the running task has open. Nothing changes for the guest.
pub trait GuestMemory {
    /// Reads from `address` on, whatever the memory's protection; returns how many bytes there were before the
    /// first that is not mapped, or whose page cannot be had. Nothing changes for the guest, and no page is
    /// brought in.
    fn read(&self, address: u64, out: &mut [u8]) -> usize;

    /// What the process holds besides; `None` where that is not known.
    fn holdings(&self) -> Option<Holdings> {
        None
    }

    /// The path of what a descriptor of the task is open on, as `/proc/self/fd` has it; `None` where it is not open,
    /// or that is not known.
    fn path_of(&self, _descriptor: u32) -> Option<Vec<u8>> {
        None
    }

    /// The path of the task's working directory; `None` where that is not known.
    fn working_directory(&self) -> Option<Vec<u8>> {
        None
    }

    /// The task's process, and how many tasks that has; `None` where that is not known.
    fn process(&self) -> Option<(u32, usize)> {
        None
    }
}

/// What a process holds at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holdings {
    /// Bytes of its address space that are mapped.
    pub mapped: u64,
    /// Open descriptors of the running task.
    pub descriptors: u64,
}

/// A system call that a task begins to make.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MadeCall {
    /// The task, by its thread number.
    pub task: u32,
    /// Its process.
    pub process: u32,
    /// The virtual clock, nanoseconds since the Unix epoch. An exit takes its time before it is answered, so that
    /// a call that does not wait has the same clock in its [`Exit`].
    pub clock: u64,
    /// The call's number (x86-64 table).
    pub number: u64,
    /// Its arguments.
    pub args: [u64; 6],
}

/// A signal that reaches a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeliveredSignal {
    /// The task, by its thread number.
    pub task: u32,
    /// Its process.
    pub process: u32,
    /// The virtual clock, nanoseconds since the Unix epoch.
    pub clock: u64,
    /// Compared exits so far: the signal comes behind the last of them.
    pub exits: u64,
    /// The signal's number.
    pub signal: u32,
    /// `si_code`.
    pub code: i32,
    /// What it does.
    pub effect: SignalEffect,
}

/// What a delivered signal does. One that is ignored is not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignalEffect {
    /// The handler at this address runs.
    Handler(u64),
    /// The process ends.
    Ends,
    /// The process stops until it is continued.
    Stops,
}

/// Watches a run: a recorder, a replayer, or the embedder's own.
pub trait Observer: Send {
    /// A compared exit was answered; the guest has not gone on yet.
    ///
    /// # Errors
    /// Ends the run.
    fn exit(&mut self, exit: &Exit) -> Result<(), WorldError>;

    /// A page was brought in. Told before the next compared exit, or when the run comes back, in order.
    fn fault(&mut self, _fault: &Fault) {}

    /// Whether nothing that it does looks at a clock, as `Instant::now` does, a log or an allocator. It is told on
    /// the vCPU's thread, where RDTSC may fault; to have it run again costs some microseconds at each exit.
    fn reads_no_clock(&self) -> bool {
        false
    }

    /// Whether it is told of [`made`](Observer::made) and [`answered`](Observer::answered) calls, and of
    /// [`signal`](Observer::signal)s.
    fn reads_memory(&self) -> bool {
        false
    }

    /// A system call is about to be answered: what its arguments point to is as the program left it. Told once,
    /// however long the call waits. A call whose task ends meanwhile has no exit.
    fn made(&mut self, _call: &MadeCall, _memory: &dyn GuestMemory) {}

    /// A system call was answered: told behind [`exit`](Observer::exit) of it, and before the guest goes on.
    ///
    /// # Errors
    /// Ends the run.
    fn answered(&mut self, _exit: &Exit, _memory: &dyn GuestMemory) -> Result<(), WorldError> {
        Ok(())
    }

    /// A signal is delivered: told behind the exit that it comes with, and before the task goes on.
    fn signal(&mut self, _signal: &DeliveredSignal) {}
}
