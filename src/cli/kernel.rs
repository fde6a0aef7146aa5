//! `dejavm kernel`

use std::path::PathBuf;

use super::conclude;
use super::options::{KernelOptions, RunOptions};
use super::signals::Signals;
use super::{Result, Voice, confine, guest, parse};

/// Runs a bare-metal image in a sandbox: an ELF64 image, loaded by its physical addresses, or a
/// Linux bzImage.
///
/// It is entered in 64-bit mode by Linux's boot protocol, or by PVH, and owns the machine: its page
/// tables, its descriptor tables, CPL 0. What it sends to its serial port (COM1, 0x3f8) is its
/// standard output, what it sends to the debug port 0xe9 its standard error. Port 0x5d0 gives the
/// next byte of its input, 0x5d1 whether there is one. A write to 0xf4 ends it with the status
/// written; one to 0xf5 is the point `ready` of `dejavm snapshot`. There are no interrupts.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Where KVM emulates CPL 0 (`dejavm doctor`, kernel-speed), an instruction takes about a microsecond,
and some, SSE's among them, do not work at all.

Examples:
  dejavm kernel target/guests/guest --cmdline 'exit=3' --input words
  dejavm kernel vmlinuz --unpack --cmdline 'earlyprintk=serial nokaslr' --deadline 1m
  dejavm record -o rec --kernel target/guests/guest < words
  dejavm snapshot -o guest.dvm --at serial:ready --kernel target/guests/guest
  dejavm restore guest.dvm < words")]
pub struct Args {
    /// The image.
    #[arg(id = "kernel", value_name = "IMAGE")]
    image: PathBuf,
    /// Its memory, from address 0 up, with K, M or G behind the number: 3G at most [default: 128M].
    #[arg(long, value_name = "SIZE", value_parser = parse::size, help_heading = "The guest")]
    memory: Option<u64>,
    /// Records the run in this directory, which is made, or empty.
    #[arg(long, value_name = "DIR")]
    record: Option<PathBuf>,
    /// Ends a recorded run, with exit status 119, when its log would pass this size, such as 100M.
    #[arg(long, requires = "record", value_name = "SIZE", value_parser = parse::size)]
    max_log: Option<u64>,
    #[command(flatten)]
    options: KernelOptions,
    #[command(flatten)]
    run: RunOptions,
}

pub fn main(args: Args, voice: Voice) -> Result {
    let signals = Signals::block()?;
    let host = super::host()?;
    let Args { image, memory, record, max_log, options, run } = args;
    let record = record.as_deref().map(|dir| guest::Recorded { dir, max_log, checkpoints: None, ring: None });
    let sandbox = signals
        .while_loading(|stop| guest::kernel(&image, &options, &run, memory, record, &host, Some(stop)))?;
    guest::warn_of_unpacking(&sandbox, &host, voice);
    confine::confine(&sandbox, run.no_confine, None)?;
    conclude::run(sandbox, &signals, &image.to_string_lossy(), &run, None, voice)
}
