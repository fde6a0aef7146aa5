//! The floating-point state in a signal frame (`arch/x86/kernel/fpu/signal.c`): an XSAVE image whose
//! legacy region says in its last bytes how long it is and what is in it.

use crate::program::mm::{AddressSpace, MemError, Memory};
use crate::vcpu::registers::{ExtendedState, MXCSR_BITS};
use crate::x86::xstate::{AVX, HEADER_END, LEGACY_BYTES, MXCSR, SSE, X87};

/// `FP_XSTATE_MAGIC1`, `FP_XSTATE_MAGIC2` (`arch/x86/include/uapi/asm/sigcontext.h`).
const MAGIC1: u32 = 0x4650_5853;
const MAGIC2: u32 = 0x4650_5845;
/// Bytes of the second, behind the image.
const MAGIC2_BYTES: usize = 4;
/// Offset of `struct _fpx_sw_bytes` in the legacy region: first magic, size with the second one,
/// components, size.
const SOFTWARE: usize = 464;
/// Offset of the x87 registers, of the XMM registers, and the end of these.
const X87_REGISTERS: usize = 32;
const XMM: usize = 160;
const XMM_END: usize = 416;
/// What an image must be aligned to for `XRSTOR`, and for `FXRSTOR`.
const XRSTOR_ALIGN: u64 = 64;
const FXRSTOR_ALIGN: u64 = 16;

fn word(area: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|i| area[at + i]))
}

fn half(area: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|i| area[at + i]))
}

fn put(area: &mut [u8], at: usize, bytes: &[u8]) {
    area[at..at + bytes.len()].copy_from_slice(bytes);
}

/// What a frame holds of a state: all components are marked as being there, since which of them the
/// CPU takes to be in their initial state depends on more than the program.
pub(super) fn image(fp: &ExtendedState, size: usize, components: u64) -> Vec<u8> {
    let mut area = fp.image(size);
    put(&mut area, SOFTWARE, &MAGIC1.to_le_bytes());
    put(&mut area, SOFTWARE + 4, &((size + MAGIC2_BYTES) as u32).to_le_bytes());
    put(&mut area, SOFTWARE + 8, &components.to_le_bytes());
    put(&mut area, SOFTWARE + 16, &(size as u32).to_le_bytes());
    put(&mut area, LEGACY_BYTES, &components.to_le_bytes());
    area.extend_from_slice(&MAGIC2.to_le_bytes());
    area
}

/// Reads the state at an address of a frame, of at most `size` bytes and these components. `None` where
/// the CPU would refuse it.
///
/// # Errors
/// When it cannot be read.
pub(super) fn read(
    memory: &mut Memory,
    space: &mut AddressSpace,
    address: u64,
    size: usize,
    components: u64,
) -> Result<Option<ExtendedState>, MemError> {
    if address == 0 {
        return Ok(Some(ExtendedState::initial()));
    }
    let mut area = vec![0u8; size.max(HEADER_END)];
    space.read(memory, address, &mut area[..LEGACY_BYTES])?;
    let told = half(&area, SOFTWARE + 16) as usize;
    let with_magic = half(&area, SOFTWARE + 4) as usize;
    let mut is_xsave =
        half(&area, SOFTWARE) == MAGIC1 && (HEADER_END..=size).contains(&told) && told <= with_magic;
    if is_xsave {
        let mut magic = [0u8; MAGIC2_BYTES];
        space.read(memory, address.wrapping_add(told as u64), &mut magic)?;
        is_xsave = u32::from_le_bytes(magic) == MAGIC2;
    }
    if !is_xsave {
        let aligned = address.is_multiple_of(FXRSTOR_ALIGN);
        return Ok(if aligned { restored(&area, X87 | SSE, X87 | SSE) } else { None });
    }
    space.read(memory, address, &mut area[..told])?;
    if !address.is_multiple_of(XRSTOR_ALIGN) || !is_header_good(&area, components) {
        return Ok(None);
    }
    let wanted = word(&area, SOFTWARE + 8) & components;
    Ok(restored(&area, wanted, word(&area, LEGACY_BYTES)))
}

/// Whether `XRSTOR` takes the header: no component that the CPU lacks, and the standard format.
fn is_header_good(area: &[u8], components: u64) -> bool {
    word(area, LEGACY_BYTES) & !components == 0
        && word(area, LEGACY_BYTES + 8) == 0
        && word(area, LEGACY_BYTES + 16) == 0
}

/// The state that `XRSTOR` makes of an image, when `wanted` components are asked for and `present` ones
/// are marked in it: the others get their initial state. `None` for a reserved bit of MXCSR.
fn restored(area: &[u8], wanted: u64, present: u64) -> Option<ExtendedState> {
    let mut clean = ExtendedState::initial().image(area.len());
    if wanted & (SSE | AVX) != 0 {
        // Loaded also where the image has no SSE state.
        let mxcsr = half(area, MXCSR);
        if mxcsr & !MXCSR_BITS != 0 {
            return None;
        }
        put(&mut clean, MXCSR, &mxcsr.to_le_bytes());
    }
    if wanted & present & X87 != 0 {
        put(&mut clean, 0, &area[..MXCSR]);
        put(&mut clean, X87_REGISTERS, &area[X87_REGISTERS..XMM]);
    }
    if wanted & present & SSE != 0 {
        put(&mut clean, XMM, &area[XMM..XMM_END]);
    }
    put(&mut clean, HEADER_END, &area[HEADER_END..]);
    put(&mut clean, LEGACY_BYTES, &(wanted & present | X87 | SSE).to_le_bytes());
    Some(ExtendedState::from_bytes(&clean))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: usize = HEADER_END + 256;
    const COMPONENTS: u64 = X87 | SSE | AVX;

    fn area() -> Vec<u8> {
        let mut area = image(&ExtendedState::initial(), SIZE, COMPONENTS);
        area.truncate(SIZE);
        put(&mut area, XMM, &[7; 16]);
        put(&mut area, HEADER_END, &[9; 16]);
        area
    }

    #[test]
    fn components_that_are_not_there_are_initial() {
        let all = restored(&area(), COMPONENTS, COMPONENTS).expect("a good image").image(SIZE);
        assert_eq!((all[XMM], all[HEADER_END], all[LEGACY_BYTES]), (7, 9, 7));
        let no_sse = restored(&area(), COMPONENTS, X87).expect("a good image").image(SIZE);
        assert_eq!((no_sse[XMM], no_sse[LEGACY_BYTES]), (0, 3));
        assert_eq!(half(&no_sse, MXCSR), 0x1f80);
    }

    #[test]
    fn what_the_cpu_refuses() {
        let good = area();
        assert!(is_header_good(&good, COMPONENTS));
        for (at, byte) in [
            (LEGACY_BYTES + 1, 1),
            (LEGACY_BYTES + 7, 0x80),
            (LEGACY_BYTES + 8, 1),
            (LEGACY_BYTES + 15, 0x80),
            (LEGACY_BYTES + 16, 1),
        ] {
            let mut bad = good.clone();
            bad[at] = byte;
            assert!(!is_header_good(&bad, COMPONENTS), "byte {at}");
        }
        let mut bad = good.clone();
        bad[MXCSR + 3] = 0xff;
        assert!(restored(&bad, COMPONENTS, 0).is_none());
        assert!(restored(&bad, X87, X87).is_some(), "MXCSR is not asked for");
    }
}
