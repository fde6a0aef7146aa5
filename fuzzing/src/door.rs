//! How an input comes to a program, where it was not said; and what a program built for a fuzzer needs to be told, so that
//! it leaves to this one what it would do itself.

use std::io;

use dejavm::{Host, Program, Sandbox};
use tempfile::TempDir;

use crate::{Door, Error, Target};

/// The function of targets that were built for libFuzzer, AFL++'s driver, honggfuzz and others
/// (<https://llvm.org/docs/LibFuzzer.html#fuzz-target>).
pub const FUZZ_FUNCTION: &str = "LLVMFuzzerTestOneInput";

/// A function that an executable has which libFuzzer is in: `fuzzer::FuzzerDriver(int *, char ***, UserCallback)`
/// (`compiler-rt/lib/fuzzer/FuzzerDriver.cpp`).
const LIBFUZZER: &str = "_ZN6fuzzer12FuzzerDriverEPiPPPcPFiPKhmE";
/// It is not to handle signals, nor to watch its memory on a thread of its own.
const LIBFUZZER_OPTIONS: [&str; 9] = [
    "-handle_segv=0",
    "-handle_bus=0",
    "-handle_abrt=0",
    "-handle_ill=0",
    "-handle_fpe=0",
    "-handle_int=0",
    "-handle_term=0",
    "-rss_limit_mb=0",
    "-malloc_limit_mb=0",
];

/// AddressSanitizer's beginning.
const ASAN: &str = "__asan_init";
/// Sanitizers by a function of theirs, and their variables. What they find ends the program by `SIGABRT`, and signals are
/// left to the kernel. Leaks are not looked for: that takes `ptrace`; names are looked up in the recording, and would take a
/// second here. As AFL++ has it.
const SANITIZERS: [(&str, &str, &str); 2] = [
    (
        ASAN,
        "ASAN_OPTIONS",
        "abort_on_error=1:handle_segv=0:handle_sigbus=0:handle_abort=0:handle_sigill=0:handle_sigfpe=0:detect_leaks=0:\
         symbolize=0:detect_odr_violation=0:allocator_may_return_null=1",
    ),
    ("__ubsan_handle_add_overflow", "UBSAN_OPTIONS", "halt_on_error=1:abort_on_error=1:symbolize=0"),
];

/// Whether a program has AddressSanitizer.
pub(crate) fn has_asan(sandbox: &Sandbox) -> bool {
    sandbox.symbol(ASAN).is_some()
}

/// Where a program finds the file with an input.
const SHOWN: &str = "/fuzz";

/// A file with an input, for the main function of a program with [`FUZZ_FUNCTION`].
#[derive(Debug)]
pub(crate) struct InputFile(TempDir);

impl InputFile {
    /// One with these bytes.
    pub fn new(input: &[u8]) -> io::Result<InputFile> {
        let dir = tempfile::tempdir()?;
        std::fs::write(dir.path().join("input"), input)?;
        Ok(InputFile(dir))
    }

    /// Gives a program the file's name, as its last argument.
    pub fn give(&self, program: Program) -> Program {
        program.show(SHOWN, self.0.path()).arg(format!("{SHOWN}/input"))
    }
}

impl Target {
    /// This target, with how inputs come to it, and with the arguments that its program needs for that.
    ///
    /// # Errors
    /// Those of the sandbox.
    pub(crate) fn settled(mut self, host: &Host) -> Result<Target, Error> {
        // It is loaded, and does not run.
        let sandbox = self.program.clone().start(host)?;
        if self.door == Door::Any {
            let has = sandbox.symbol(FUZZ_FUNCTION).is_some();
            self.door = if has { Door::Function(FUZZ_FUNCTION.into()) } else { Door::Input };
        }
        if self.door != Door::Input && sandbox.symbol(LIBFUZZER).is_some() {
            self.program = self.program.args(LIBFUZZER_OPTIONS);
        }
        Ok(self)
    }

    /// Gives its program the sanitizers' variables, if it has sanitizers and is to have them: to be started anew then.
    /// They may be libraries, which are loaded by now.
    pub(crate) fn give_sanitizer_options(&mut self, sandbox: &Sandbox) -> bool {
        let given = std::mem::take(&mut self.sanitizer_options);
        let found = SANITIZERS.iter().filter(|(symbol, ..)| given && sandbox.symbol(symbol).is_some());
        let before = self.program.clone();
        let (program, any) =
            found.fold((before, false), |(program, _), (_, name, value)| (program.env(name, value), true));
        self.program = program;
        any
    }
}
