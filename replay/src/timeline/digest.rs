//! One number for all that a program has at a position.

use dejavm_sandbox::program::kernel::Kernel;
use dejavm_sandbox::program::mm::{AddressSpace, Backing, Vma};
use dejavm_sandbox::ram::{CHUNK_PAGES, PAGE_SIZE};
use xxhash_rust::xxh3::Xxh3Default;

use super::{Timeline, TimelineError};

/// Bytes of a page, and of the 2 MiB pieces that address spaces are used in.
const PAGE: u64 = PAGE_SIZE as u64;
const REGION: u64 = CHUNK_PAGES * PAGE;

impl Timeline {
    /// A digest (xxh3) of the registers of all tasks and of the memory of all address spaces. At one position it
    /// is the same however that was reached. Code of files that cannot be written is left out: it is what
    /// the file has.
    ///
    /// # Errors
    /// When KVM refuses; of a bare-metal guest, always.
    pub fn digest(&mut self) -> Result<u64, TimelineError> {
        let program = self.runner.machine_mut().program_mut().ok_or(TimelineError::BareMetal)?;
        let mut hash = Xxh3Default::new();
        let tasks = program.tasks()?;
        hash.update(&tasks.id().to_le_bytes());
        for (tid, task) in tasks.iter() {
            hash.update(format!("{tid} {:?}", task.regs).as_bytes());
            let fp = task.fp.as_ref().map(|fp| (**fp).clone().without_header());
            hash.update(format!("{fp:?}").as_bytes());
        }
        for (number, space) in program.kernel.space.iter() {
            hash.update(&number.to_le_bytes());
            add_space(&mut hash, &program.kernel, space);
        }
        Ok(hash.digest())
    }
}

fn add_space(hash: &mut Xxh3Default, kernel: &Kernel, space: &AddressSpace) {
    for (start, vma) in &space.state.vmas {
        hash.update(format!("{start:#x} {:#x} {:?}", vma.end, vma.protection).as_bytes());
        match &vma.backing {
            Backing::File { .. } if vma.protection.exec && !vma.protection.write => {}
            Backing::Anonymous => {
                let regions = space.state.regions.range(start / REGION..vma.end.div_ceil(REGION));
                for (number, _) in regions {
                    let first = (number * REGION).max(*start);
                    add_pages(hash, kernel, space, first, ((number + 1) * REGION).min(vma.end));
                }
            }
            _ => add_pages(hash, kernel, space, *start, end_of(*start, vma)),
        }
    }
}

/// Where there is nothing more of a mapping but zeros, or what is behind a file's end.
fn end_of(start: u64, vma: &Vma) -> u64 {
    match vma.backing {
        Backing::File { offset, len, .. } => {
            vma.end.min(start + len.saturating_sub(offset).next_multiple_of(PAGE))
        }
        _ => vma.end,
    }
}

fn add_pages(hash: &mut Xxh3Default, kernel: &Kernel, space: &AddressSpace, from: u64, to: u64) {
    let mut content = [0; PAGE_SIZE];
    for address in (from..to).step_by(PAGE_SIZE) {
        // What the recorded program never touched may be missing, here as there.
        if space.peek(&kernel.memory, address, &mut content).is_ok() && content != [0; PAGE_SIZE] {
            hash.update(&address.to_le_bytes());
            hash.update(&content);
        }
    }
}
