//! The frame that the CPU pushes for an exception in 64-bit mode (Intel SDM volume 3, section 6.14.2).

/// What the CPU pushed for an exception, above the error code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// Instruction pointer.
    pub rip: u64,
    /// Code segment.
    pub cs: u64,
    /// Flags.
    pub rflags: u64,
    /// Stack pointer.
    pub rsp: u64,
    /// Stack segment.
    pub ss: u64,
}

impl Frame {
    /// Number of 8-byte words of a frame.
    pub const WORDS: usize = 5;

    /// Takes the words of a frame, in the order of their addresses.
    pub fn from_words([rip, cs, rflags, rsp, ss]: [u64; Frame::WORDS]) -> Frame {
        Frame { rip, cs, rflags, rsp, ss }
    }

    /// Gives the words of the frame, in the order of their addresses.
    pub fn words(&self) -> [u64; Frame::WORDS] {
        [self.rip, self.cs, self.rflags, self.rsp, self.ss]
    }
}
