//! The deadline, wherever the program is.

use std::time::Duration;

use crate::harness::hostile;

#[test]
fn a_loop_without_exits() {
    hostile("int main() { for (;;) ; }").run_until_deadline(Duration::from_millis(300), &[]).within(64 << 20);
}

#[test]
fn a_loop_of_system_calls() {
    hostile("int main() { for (;;) syscall(SYS_getppid); }")
        .run_until_deadline(Duration::from_millis(300), &[])
        .within(64 << 20);
}
