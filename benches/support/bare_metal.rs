//! A bare-metal guest with a lot in its memory.

use std::path::Path;
use std::time::{Duration, Instant};

use dejavm::sandbox::guest::save_start;
use dejavm::sandbox::kernel::load::{Boot, load};
use dejavm::sandbox::kernel::start::search_on;
use dejavm::sandbox::kernel::state::KernelState;
use dejavm::sandbox::machine::MachineOptions;
use dejavm::snapshot::PAGE_SIZE;
use dejavm::{Host, Image, MachineState, Outcome, PauseAt};

use super::Result;

/// Where the code is.
const CODE: u64 = 1 << 20;
/// `out 0xf5, al; hlt`: its first instruction is an exit.
const PROGRAM: [u8; 3] = [0xe6, 0xf5, 0xf4];
/// Where memory is filled from.
const FIRST: u64 = 2 << 20;

const DEADLINE: Duration = Duration::from_secs(60);

/// An ELF64 image of [`PROGRAM`] (System V ABI, "ELF-64 Object File Format").
fn image() -> Vec<u8> {
    let mut image = b"\x7fELF\x02\x01\x01".to_vec();
    image.resize(16, 0);
    // ET_EXEC, EM_X86_64, version 1, entry, program headers at 64.
    image.extend([2, 0, 62, 0, 1, 0, 0, 0]);
    [CODE, 64, 0].iter().for_each(|word| image.extend(word.to_le_bytes()));
    // Flags; sizes of the header and of one program header, of which there is one; no sections.
    image.extend([0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    // PT_LOAD, read and execute; where it is in the file, its addresses, sizes, alignment.
    image.extend([1, 0, 0, 0, 5, 0, 0, 0]);
    let len = PROGRAM.len() as u64;
    [120, CODE, CODE, len, len, 4096].iter().for_each(|word: &u64| image.extend(word.to_le_bytes()));
    image.extend(PROGRAM);
    image
}

/// Writes the snapshot of one whose memory of so many MiB is full.
pub fn snapshot(host: &Host, path: &Path, mib: u64) -> Result<()> {
    let image = image();
    let boot =
        Boot { image: &image, initrd: None, cmdline: b"", memory: mib << 20, protocol: None, unpack: false };
    let mut loaded = load(&boot)?;
    let mut page = [0u8; PAGE_SIZE];
    for gpa in (FIRST..mib << 20).step_by(PAGE_SIZE) {
        for (word, bytes) in page.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            // No entry of a page table: its low bit is clear.
            *bytes = ((gpa | word as u64) << 20 | 0xace).to_le_bytes();
        }
        loaded.memory.write(gpa, &page)?;
    }
    let profile = host.profile();
    let search = search_on(profile, &MachineOptions::default())?;
    let state = KernelState::start(&loaded, b"bench".to_vec(), Vec::new(), profile.cpu.clone(), search);
    let pages = state.pages();
    save_start(path, &MachineState::Kernel(Box::new(state)), &loaded.memory, pages)?;
    Ok(())
}

/// From opening to the first instruction.
pub fn first_instruction(host: &Host, path: &Path) -> Result<Duration> {
    let start = Instant::now();
    let mut sandbox = Image::open(path)?.restore().deadline(DEADLINE).start(host)?;
    match sandbox.run_until(PauseAt::Ready)? {
        Outcome::Paused => Ok(start.elapsed()),
        other => Err(format!("the bare-metal guest ended: {other:?}").into()),
    }
}
