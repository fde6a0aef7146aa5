//! Memory of a program's, as far as it is there.

use dejavm::Sandbox;

const PAGE: u64 = 4096;

/// Memory, with zeros where there is none to be read.
pub(crate) fn read(sandbox: &mut Sandbox, address: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let mut done = 0;
    while done < len {
        let to_page_end = (PAGE - (address + done as u64) % PAGE) as usize;
        let part = done..len.min(done + to_page_end);
        done = part.end;
        let _ = sandbox.read_memory(address + part.start as u64, &mut bytes[part]);
    }
    bytes
}
