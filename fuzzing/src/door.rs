//! How an input comes to a program, where it was not said; and what a program built for a fuzzer needs to be told, so that
//! it leaves to this one what it would do itself.

use std::io;

use dejavm::{Host, Program, Sandbox};
use tempfile::TempDir;

use crate::{Door, Error, INPUT_PATH, Target};

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

/// A file with an input, which a program finds at [`INPUT_PATH`] with a suffix.
#[derive(Debug)]
pub(crate) struct InputFile {
    dir: TempDir,
    /// The file's path in the sandbox.
    pub path: String,
    /// An argument of the program's names it.
    is_named: bool,
}

impl InputFile {
    /// One with these bytes, for this program.
    pub fn new(program: &Program, input: &[u8]) -> io::Result<InputFile> {
        let path = named(program);
        let is_named = path.is_some();
        let path = path.unwrap_or_else(|| INPUT_PATH.into());
        let dir = tempfile::tempdir()?;
        std::fs::write(dir.path().join(name(&path)), input)?;
        Ok(InputFile { dir, path, is_named })
    }

    /// Shows it to a program, and gives it its name as its last argument, unless it has that.
    pub fn give(&self, program: Program) -> Program {
        let shown = self.path.len() - name(&self.path).len() - 1;
        let program = program.show(&self.path[..shown], self.dir.path());
        if self.is_named { program } else { program.arg(&self.path) }
    }
}

/// The file with the input that an argument of a program's names, with its suffix.
fn named(program: &Program) -> Option<String> {
    program.arguments().find_map(|argument| {
        let text = argument.to_string_lossy();
        let behind = &text[text.find(INPUT_PATH)? + INPUT_PATH.len()..];
        let suffix = behind.strip_prefix('.').unwrap_or_default();
        let end = suffix.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(suffix.len());
        Some(if end == 0 { INPUT_PATH.into() } else { format!("{INPUT_PATH}.{}", &suffix[..end]) })
    })
}

/// The last part of a path.
fn name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
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
            self.door = match named(&self.program) {
                _ if has => Door::Function(FUZZ_FUNCTION.into()),
                Some(_) => Door::File,
                None => Door::Input,
            };
        }
        if matches!(self.door, Door::Function(_)) && sandbox.symbol(LIBFUZZER).is_some() {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_the_name_that_an_argument_has() {
        let of = |argument: &str| named(&Program::new("/bin/a").arg("-x").arg(argument));
        assert_eq!(of("--in=/fuzz/input.png,1").as_deref(), Some("/fuzz/input.png"));
        assert_eq!(of("/fuzz/input").as_deref(), Some("/fuzz/input"));
        assert_eq!(of("/fuzz/input./..").as_deref(), Some("/fuzz/input"));
        assert_eq!(of("/fuzz/inp"), None);
    }
}
