//! Images that are nearly some: programs, interpreters, scripts, bare-metal images. An error with a name, or a
//! run that ends in time, and whose replay does the same.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use dejavm::sandbox::machine::{Crash, RunError, StartError};
use dejavm::sandbox::vcpu::Exit as VcpuExit;
use dejavm::{Error, Evict, Grant, Host, Kernel, Outcome, Program, Protocol, Replay, Report, Sandbox, View};

use crate::harness::{Draw, Fuzzer, build, kind_of, name_of};

/// The longest that one may run.
const DEADLINE: Duration = Duration::from_millis(300);
const MEMORY: u64 = 64 << 20;
const DISK: u64 = 8 << 20;

/// What is changed.
struct Real {
    dir: PathBuf,
    fixed: Vec<u8>,
    dynamic: Vec<u8>,
    interpreter: Vec<u8>,
    /// Bare-metal images: ELF, with a PVH note, bzImages, with a packed ELF image.
    kernels: Vec<Vec<u8>>,
}

/// A bare-metal guest: says a word on its serial port and ends.
const KERNEL: &str = "
.globl _start
_start: mov $0x3f8, %dx
mov $'h', %al
out %al, %dx
mov $0x300000, %rsp
push %rax
call 1f
1: mov $3, %al
mov $0xf4, %dx
out %al, %dx
hlt
.section .note.Xen, \"a\", @note
.long 4, 4, 18
.asciz \"Xen\"
.long _start
.data
.fill 9000, 1, 7
.bss
.fill 20000
";

fn gcc(dir: &Path, args: &[&str]) {
    let done = Command::new("gcc").args(args).current_dir(dir).status();
    assert!(done.expect("gcc builds the guests: install it (Debian: gcc, libc6-dev)").success());
}

/// A bzImage around a kernel, with `payload` at offset 0x300 of it (`Documentation/arch/x86/boot.rst`).
fn bzimage(code: &[u8], payload: &[u8]) -> Vec<u8> {
    // The 64-bit entry is at 0x200.
    let mut kernel = vec![0x90; 0x200];
    kernel.extend(code);
    kernel.resize(0x300.max(kernel.len()), 0x90);
    kernel.extend(payload);
    kernel.resize(kernel.len().next_multiple_of(16), 0);
    let mut image = vec![0; 4 * 512];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    put(0x1f1, &[3]);
    put(0x1f4, &(kernel.len() as u32 / 16).to_le_bytes());
    put(0x1fe, &[0x55, 0xaa, 0xeb, 0x6a]);
    put(0x202, b"HdrS\x0f\x02");
    put(0x211, &[1]);
    put(0x214, &0x10_0000u32.to_le_bytes());
    put(0x22c, &0x7fff_ffffu32.to_le_bytes());
    put(0x230, &0x20_0000u32.to_le_bytes());
    put(0x234, &[1, 21, 1, 0]);
    put(0x238, &2047u32.to_le_bytes());
    put(0x248, &(if payload.is_empty() { 0 } else { 0x300u32 }).to_le_bytes());
    put(0x24c, &(payload.len() as u32).to_le_bytes());
    put(0x258, &0x20_0000u64.to_le_bytes());
    put(0x260, &0x10_0000u32.max(kernel.len() as u32).to_le_bytes());
    image.extend(kernel);
    image
}

impl Real {
    fn make(dir: &Path) -> Real {
        let read = |path: &Path| std::fs::read(path).expect("a file");
        let fixed = read(&build(dir, "guests/fuzz_image.c", &["-static"]));
        let dynamic = read(&build(dir, "guests/fuzz_image.c", &["-Wl,--dynamic-linker=/guest/interpreter"]));
        std::fs::write(dir.join("kernel.S"), KERNEL).expect("a file");
        let flags = ["-nostdlib", "-static", "-no-pie", "-Wl,-Ttext=0x200000", "-Wl,-z,max-page-size=0x1000"];
        gcc(dir, &[&flags[..], &["-Wl,--build-id=none", "kernel.S", "-o", "kernel"]].concat());
        let elf = read(&dir.join("kernel"));
        // As the kernel's build packs it: with the unpacked size behind.
        let mut packed = zstd::bulk::compress(&elf, 3).expect("zstd");
        packed.extend((elf.len() as u32).to_le_bytes());
        let code = b"\x66\xba\xf8\x03\xb0h\xee\x66\xba\xf4\x00\xb0\x03\xee\xf4";
        Real {
            dir: dir.to_owned(),
            fixed,
            dynamic,
            interpreter: read(Path::new("/lib64/ld-linux-x86-64.so.2")),
            kernels: vec![elf, bzimage(code, &[]), bzimage(code, &packed)],
        }
    }

    fn program(&self, host: &Host, draw: &mut Draw, dir: &Path) -> Result<String, String> {
        let guest = dir.join("guest");
        std::fs::create_dir(&guest).map_err(|e| e.to_string())?;
        let (mut fixed, mut dynamic) = (self.fixed.clone(), self.dynamic.clone());
        let mut interpreter = self.interpreter.clone();
        let (what, file) = match draw.below(8) {
            0..3 => {
                spoil_elf(&mut fixed, draw);
                ("static", "fixed")
            }
            3..5 => {
                spoil_elf(&mut dynamic, draw);
                ("dynamic", "dynamic")
            }
            5 | 6 => {
                spoil_elf(&mut interpreter, draw);
                ("interpreter", "dynamic")
            }
            _ => {
                let lines: [&[u8]; 6] = [
                    b"#!/guest/fixed a\n",
                    b"#!",
                    b"#! \t/guest/script\n",
                    b"#!/guest/dynamic\0x\n",
                    b"#!/guest/nothing",
                    b"#!./fixed\n",
                ];
                let mut script = draw.one_of(&lines).to_vec();
                if draw.once_in(2) {
                    draw.spoil(&mut script[2..]);
                }
                if draw.once_in(3) {
                    script.splice(2..2, vec![b' '; draw.below(5000)]);
                }
                write(&guest, "script", &script);
                ("script", "script")
            }
        };
        write(&guest, "fixed", &fixed);
        write(&guest, "dynamic", &dynamic);
        write(&guest, "interpreter", &interpreter);
        let program = Program::new(format!("/guest/{file}"))
            .view(
                View::nothing()
                    .show("/guest", Grant::directory(&guest))
                    .show("/usr", Grant::directory("/usr")),
            )
            .env("LD_LIBRARY_PATH", "/usr/lib/x86_64-linux-gnu")
            .memory(MEMORY)
            .disk(DISK)
            .capture_output()
            .deadline(DEADLINE);
        let recording = dir.join("recording");
        let records = draw.once_in(3);
        let program = if records { program.record(&recording) } else { program };
        let end = ran(program.start(host), records.then_some(&*recording), host)?;
        Ok(format!("{what:11} {end}"))
    }

    fn kernel(&self, host: &Host, draw: &mut Draw, dir: &Path) -> Result<String, String> {
        let number = draw.below(self.kernels.len());
        let mut image = self.kernels[number].clone();
        match number {
            0 => spoil_elf(&mut image, draw),
            _ if draw.once_in(2) => draw.spoil(&mut image[0x1f1..0x270]),
            _ => draw.spoil(&mut image[0x800..]),
        }
        if draw.once_in(8) {
            image.truncate(draw.below(image.len()));
        }
        let file = write(dir, "kernel", &image);
        let mut kernel = Kernel::new(file)
            .memory(16 << 20)
            .unpack(number == 2 && !draw.once_in(4))
            .stdin("input\n")
            .capture_output()
            .deadline(DEADLINE);
        if draw.once_in(3) {
            kernel = kernel.protocol(*draw.one_of(&[Protocol::Pvh, Protocol::Linux64]));
        }
        let recording = dir.join("recording");
        let records = draw.once_in(3);
        let kernel = if records { kernel.record(&recording) } else { kernel };
        let end = ran(kernel.start(host), records.then_some(&*recording), host)?;
        Ok(format!("{:11} {end}", ["kernel", "bzimage", "packed"][number]))
    }
}

fn write(dir: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let path = dir.join(name);
    std::fs::write(&path, bytes).expect("room");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("a mode");
    path
}

/// Changes headers mostly: the ELF header, program headers, section headers, dynamic entries; or its end.
fn spoil_elf(image: &mut Vec<u8>, draw: &mut Draw) {
    let count = usize::from(u16::from_le_bytes([image[56], image[57]]));
    for _ in 0..1 + draw.below(2) {
        match draw.below(10) {
            0 | 1 => draw.spoil(&mut image[..64]),
            2..7 => {
                // One field of a program header.
                let (at, len) =
                    *draw.one_of(&[(0, 4), (4, 4), (8, 8), (16, 8), (24, 8), (32, 8), (40, 8), (48, 8)]);
                let header = 64 + draw.below(count) * 56;
                draw.spoil(&mut image[header + at..][..len]);
            }
            7 => {
                let (from, to) = (64 + draw.below(count) * 56, 64 + draw.below(count) * 56);
                image.copy_within(from..from + 56, to);
            }
            8 => {
                let at = draw.below(image.len() - 4096);
                draw.spoil(&mut image[at..at + 4096]);
            }
            _ => {
                let len = draw.below(image.len() - 4096) + 4096;
                image.truncate(len);
                return;
            }
        }
    }
}

/// Runs what was started; a guest's image may be refused, and that is all that may go wrong.
fn ran(start: Result<Sandbox, Error>, recording: Option<&Path>, host: &Host) -> Result<String, String> {
    let mut sandbox = match start {
        Ok(sandbox) => sandbox,
        Err(e) => {
            let named = match &e {
                Error::Image { .. } | Error::Loading(_) | Error::NotFound { .. } => true,
                Error::Start(start) => matches!(**start, StartError::Program { .. }),
                _ => false,
            };
            return if named {
                Ok(format!("not started: {}", name_of(&e)))
            } else {
                Err(format!("start: {e}"))
            };
        }
    };
    let Report { outcome, stdout, exits, not_deterministic, .. } = match sandbox.run() {
        Ok(report) => report,
        // Where KVM emulates CPL 0, there are instructions that it does not know: the error says which.
        Err(Error::Run(e)) if matches!(&*e, RunError::Crash(crash) if is_not_emulated(crash)) => {
            return Ok("failed: not emulated by this KVM".into());
        }
        Err(e) => return Err(format!("run: {e:?}: {e}")),
    };
    drop(sandbox);
    // Code at CPL 0 may have what nothing traps: then it says so.
    if let Some(recording) = recording
        && not_deterministic.is_empty()
    {
        let replay = Replay::open(recording)
            .and_then(|replay| replay.capture_output().evict(Evict { every: 9, seed: 1 }).start(host)?.run());
        let again = replay.map_err(|e| format!("{outcome:?}, and its replay: {e}"))?;
        if (again.outcome, &again.stdout, again.exits) != (outcome, &stdout, exits) {
            return Err(format!("{outcome:?}, and replayed {:?}", again.outcome));
        }
    }
    Ok(kind_of(outcome))
}

/// Whether a guest came to an instruction that KVM would have to emulate, and cannot.
fn is_not_emulated(crash: &Crash) -> bool {
    matches!(crash.exit, VcpuExit::InternalError { suberror: 1, .. })
}

#[test]
fn images() {
    let dir = tempfile::tempdir().expect("a directory");
    let host = Host::probe().expect("KVM");
    let real = Real::make(dir.path());
    let fuzzer = Fuzzer { name: "images", cases: 120, time: DEADLINE * 4, grants: MEMORY + DISK };
    fuzzer.run(|seed| {
        let mut draw = Draw::new(seed);
        let at = tempfile::tempdir_in(&real.dir).map_err(|e| e.to_string())?;
        if draw.once_in(3) {
            real.kernel(&host, &mut draw, at.path())
        } else {
            real.program(&host, &mut draw, at.path())
        }
    });
}

/// Bytes that are no instruction are the guest's invalid opcode, also where KVM emulates it.
#[test]
fn a_kernel_at_no_instruction() {
    let dir = tempfile::tempdir().expect("a directory");
    let host = Host::probe().expect("KVM");
    let image = write(dir.path(), "kernel", &bzimage(&[0xdf, 0xff], &[]));
    let run = Kernel::new(image).memory(16 << 20).deadline(DEADLINE).start(&host).and_then(|mut k| k.run());
    assert_eq!(run.expect("a run").outcome, Outcome::TripleFault);
}
