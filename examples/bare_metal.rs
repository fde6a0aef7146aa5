//! A bare-metal guest: run to where it is ready, kept there, and restored for each input.
//!
//! `examples/guests/build && cargo run --release --example bare_metal`

use std::time::Duration;

use dejavm::{Host, Image, Kernel, Outcome, PauseAt, WriteOptions};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let image = std::env::args().nth(1).unwrap_or_else(|| "target/guests/guest".into());
    let host = Host::probe()?;
    let file = std::env::temp_dir().join(format!("bare-metal-{}.dvm", std::process::id()));

    let mut guest = Kernel::new(image)
        .memory(16 << 20)
        .capture_output()
        .deadline(Duration::from_secs(10))
        .start(&host)?;
    if guest.run_until(PauseAt::Serial(b"ready\n".to_vec()))? != Outcome::Paused {
        return Err("the guest ended before it was ready".into());
    }
    guest.snapshot(&file, &WriteOptions::default())?;

    let ready = Image::open(&file)?;
    let kept = ready.state().kernel().map_or(0, |kernel| kernel.kept.len());
    println!("{kept} pages are there before it runs, the others come when they are touched");
    for input in ["one line\n", "two\nlines\n"] {
        let restore = ready.restore().stdin(input).capture_output().deadline(Duration::from_secs(10));
        let report = restore.start(&host)?.run()?;
        let text = String::from_utf8_lossy(&report.stdout);
        let digest = text.lines().last().unwrap_or_default();
        println!("{:?}, {} page faults, {digest}", report.outcome, report.stats.faults());
    }
    std::fs::remove_file(&file)?;
    Ok(())
}
