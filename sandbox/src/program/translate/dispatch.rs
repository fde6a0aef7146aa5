//! Where indirect branches go on: a routine that looks the copy up in a table.
//!
//! The table is open and searched from a number that follows from the target on, without flags: targets are there
//! negated, so that a sum of 0 is a hit.

use iced_x86::Register::{RAX, RCX, RDX};

use super::block::count;
use super::emit::Emitter;
use super::layout::{CODE, ENTRY_BYTES, HASH_BITS, JUMP, SAVED_RAX, SAVED_RCX, SAVED_RDX, TABLE, TARGET};
use super::piece::{Landing, Leaves, Piece, Saved};

/// Where the routine is. RCX is saved, and the target known.
pub(super) const DISPATCH: u64 = CODE;
/// `hlt`.
const HLT: u8 = 0xf4;

/// The routine, and what the program is in it; and its `hlt` for a program that is to be left at its target.
pub(super) fn dispatch() -> (Vec<u8>, Vec<Piece>, u64) {
    let mut e = Emitter::new(DISPATCH);
    let mut pieces = Vec::new();
    let mut is = |e: &Emitter, landing| pieces.push(Piece { at: e.here(), landing, same: false });
    is(&e, Landing::target(Saved::Rcx).to_count());
    count(&mut e);
    is(&e, Landing::target(Saved::Rcx));
    let none_left = e.jump_if_rcx_is_0(0);
    // `jmp` over what follows.
    e.bytes(&[0xeb, 0]);
    let behind_jump = e.here();
    e.is_here(none_left);
    e.load(RCX, SAVED_RCX);
    let over = e.here();
    is(&e, Landing::target(Saved::Nothing).leaves(Leaves::Over));
    e.bytes(&[HLT]);
    e.is_here((behind_jump - DISPATCH) as usize - 1);

    is(&e, Landing::target(Saved::Rcx));
    e.store(RAX, SAVED_RAX);
    e.store(RDX, SAVED_RDX);
    is(&e, Landing::target(Saved::All));
    e.load(RCX, TARGET);
    // `movzx edx, word [TARGET + 1]`, `lea edx, [rcx + rdx]`, `lea edx, [rdx * SCALE]`, `movzx edx, dx`.
    e.bytes(&[0x0f, 0xb7, 0x15]);
    e.bytes(&((TARGET + 1).wrapping_sub(e.here() + 4) as u32).to_le_bytes());
    e.bytes(&[0x8d, 0x14, 0x11]);
    e.bytes(&[0x8d, 0x14, (SCALE.trailing_zeros() as u8) << 6 | 0x15, 0, 0, 0, 0]);
    e.bytes(&[0x0f, 0xb7, 0xd2]);
    e.address_of(RAX, TABLE);
    // `lea rax, [rax + rdx * REST]`.
    e.bytes(&[0x48, 0x8d, 0x04, (REST.trailing_zeros() as u8) << 6 | 0x10]);
    let next = e.here();
    // `mov rdx, [rax]`, `lea rcx, [rcx + rdx]`.
    e.bytes(&[0x48, 0x8b, 0x10]);
    e.bytes(&[0x48, 0x8d, 0x0c, 0x11]);
    let hit = e.jump_if_rcx_is_0(0);
    // `mov rcx, rdx`: an entry without a target is the last.
    e.bytes(&[0x48, 0x89, 0xd1]);
    let miss = e.jump_if_rcx_is_0(0);
    e.load(RCX, TARGET);
    // `lea rax, [rax + 16]`.
    e.bytes(&[0x48, 0x8d, 0x40, ENTRY_BYTES as u8]);
    e.jump(next);

    e.is_here(miss);
    restore(&mut e);
    is(&e, Landing::target(Saved::Nothing).leaves(Leaves::Miss));
    e.bytes(&[HLT]);

    e.is_here(hit);
    is(&e, Landing::target(Saved::All));
    // `mov rax, [rax + 8]`.
    e.bytes(&[0x48, 0x8b, 0x40, 8]);
    e.store(RAX, JUMP);
    restore(&mut e);
    is(&e, Landing::target(Saved::Nothing));
    e.jump_through(JUMP);
    (e.finish(), pieces, over)
}

fn restore(e: &mut Emitter) {
    e.load(RCX, SAVED_RCX);
    e.load(RAX, SAVED_RAX);
    e.load(RDX, SAVED_RDX);
}

/// Numbers of entries times this have 16 bits, of which the routine takes the lowest; and what is left then to where an
/// entry is.
const SCALE: u64 = 1 << (16 - HASH_BITS);
/// The same.
const REST: u64 = ENTRY_BYTES / SCALE;

/// The number of the entry that the search for a target begins with.
pub(super) fn first_entry(target: u64) -> u64 {
    (target & 0xffff_ffff).wrapping_add(target >> 8 & 0xffff) & ((1 << HASH_BITS) - 1)
}

#[cfg(test)]
mod tests {
    use iced_x86::{Decoder, DecoderOptions};

    use super::*;

    #[test]
    fn the_routine() {
        let (code, pieces, over) = dispatch();
        let mut decoder = Decoder::with_ip(64, &code, DISPATCH, DecoderOptions::NONE);
        let (mut text, mut starts) = (Vec::new(), Vec::new());
        while decoder.can_decode() {
            starts.push(decoder.ip());
            text.push(decoder.decode().to_string());
        }
        assert!(pieces.iter().all(|piece| starts.contains(&piece.at)) && starts.contains(&over));
        let expected = "movzx edx,word [rel 7FFFFF010029h]";
        assert!(text.iter().any(|line| line == expected), "{text:#?}");
        assert_eq!(text.iter().filter(|line| *line == "hlt").count(), 2);
        for line in [
            "lea edx,[rcx+rdx]",
            "lea edx,[rdx*8]",
            "movzx edx,dx",
            "lea rax,[rax+rdx*2]",
            "lea rcx,[rcx+rdx]",
        ] {
            assert!(text.iter().any(|made| made == line), "{line}: {text:#?}");
        }
        // No instruction changes a flag.
        let mut decoder = Decoder::with_ip(64, &code, DISPATCH, DecoderOptions::NONE);
        while decoder.can_decode() {
            assert_eq!(decoder.decode().rflags_modified(), 0);
        }
    }

    #[test]
    fn entries_are_in_the_table() {
        assert_eq!(first_entry(0), 0);
        assert_eq!(first_entry(0x7fff_f7dd_1230), (0xf7dd_1230u64 + 0xdd12) & 0x1fff);
        assert!(first_entry(u64::MAX) < 1 << HASH_BITS);
    }
}
