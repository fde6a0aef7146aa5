//! Commands of gdb's `monitor`.

use std::collections::VecDeque;

use dejavm_sandbox::exit::ExitKind;

use super::Debugger;
use super::recorded::{Goto, Recorded};
use crate::looking;
use crate::text::format_exit;
use crate::timeline::{Moment, TimelineError};

/// What there is.
const HELP: &str = "\
monitor process [N]        the process that breakpoints and watchpoints are for
monitor tasks              the tasks of the program
monitor files              what the task that runs has open
";

/// What there is of recordings besides.
const HELP_OF_RECORDINGS: &str = "\
monitor when               the position: exits, and steps since the last
monitor seek POSITION      goes there: EXIT, EXIT+STEPS, or EXIT- for before it; gdb is not told: it has `seek POSITION`
monitor goto POSITION      the next step or run goes there instead, or to the `start`, so that gdb is told
monitor only-watchpoints on|off  whether moves stop at nothing else
monitor mark               remembers this place, for `monitor goto mark`
monitor exit N             goes behind exit N, as `seek` does
monitor log [N]            the exits around here
monitor syscalls [N]       the last system calls of the task that runs
monitor checkpoint         keeps the program as it is here, to come back to fast
monitor checkpoints        how many there are, and what they take
";

impl Debugger<'_> {
    /// Carries out a command, which the debugger may interrupt; errors are text, too.
    ///
    /// # Errors
    /// When it was interrupted, and the position is lost.
    pub fn monitor(&mut self, command: &str) -> Result<String, TimelineError> {
        let answered = {
            // Without them it goes as well, and gdb may have something to say of the time that it takes.
            let _signs = self.alive.show().ok();
            let _watch = self.inbox.watch(self.subject.stop_handle());
            self.answer(command)
        };
        match answered {
            Err(e @ TimelineError::Interrupted) => {
                self.inbox.give_up_command();
                self.subject.settle(&self.stops)?;
                Ok(format!("{e}\n"))
            }
            answered => Ok(answered.unwrap_or_else(|e| format!("{e}\n"))),
        }
    }

    fn answer(&mut self, command: &str) -> Result<String, TimelineError> {
        let mut words = command.split_whitespace();
        let (command, argument) = (words.next(), words.next());
        Ok(match (command, argument) {
            (Some("process"), None) => format!("{}\n", self.stops.process),
            (Some("process"), Some(number)) => match number.parse() {
                Ok(number) => {
                    self.stops.process = number;
                    String::new()
                }
                Err(_) => format!("{number:?} is no number of a process\n"),
            },
            (Some("tasks"), None) => self.tasks(),
            (Some("files"), None) => self.open_files(),
            _ => match self.subject.recorded() {
                Some(recorded) => {
                    let answer = recorded.answer(command, argument)?;
                    answer.unwrap_or_else(|| [HELP_OF_RECORDINGS, HELP].concat())
                }
                None => HELP.into(),
            },
        })
    }

    /// What the running task has open, and where it is.
    fn open_files(&self) -> String {
        let Some(program) = self.subject.machine().program() else { return String::new() };
        let line = |name: String, path: &[u8]| format!("{name:>3}  {}\n", path.escape_ascii());
        let open = program.descriptors();
        let open = open.iter().map(|(number, path)| line(number.to_string(), path));
        open.chain([line("cwd".into(), &program.working_directory())]).collect()
    }

    fn tasks(&self) -> String {
        let Some(program) = self.subject.machine().program() else { return String::new() };
        let kernel = &program.kernel;
        let mut text = String::new();
        for (tid, task) in kernel.task.iter() {
            let mark = if tid == kernel.tid() { "=> " } else { "   " };
            let rip = task.regs.general.rip;
            text.push_str(&format!("{mark}task {tid} of process {}, at {rip:#x}\n", task.process));
        }
        text
    }
}

impl Recorded {
    /// Carries out a command; none if there is no such.
    fn answer(
        &mut self,
        command: Option<&str>,
        argument: Option<&str>,
    ) -> Result<Option<String>, TimelineError> {
        Ok(Some(match (command, argument) {
            (Some("when"), None) => format!("{}\n", self.timeline.position()?),
            (Some("seek" | "exit"), Some(moment)) => match moment.parse::<Moment>() {
                Ok(moment) => {
                    // What was changed here is gone when it is moved on from here.
                    self.drop_copy();
                    self.timeline.seek(moment)?;
                    format!("at {moment}\n")
                }
                Err(e) => format!("{e}\n"),
            },
            (Some("goto"), Some("mark")) => match &self.mark {
                Some(mark) => {
                    self.goto = Some(Goto::Mark(mark.clone()));
                    String::new()
                }
                None => "there is no mark yet\n".into(),
            },
            (Some("goto"), Some("start")) => {
                self.goto = Some(Goto::Moment(self.timeline.start().into()));
                String::new()
            }
            (Some("goto"), Some(moment)) => match moment.parse::<Moment>() {
                Ok(moment) => {
                    self.goto = Some(Goto::Moment(moment));
                    String::new()
                }
                Err(e) => format!("{e}\n"),
            },
            (Some("only-watchpoints"), Some(only @ ("on" | "off"))) => {
                self.only_watchpoints = only == "on";
                String::new()
            }
            (Some("mark"), None) => {
                self.mark = Some(self.timeline.mark());
                String::new()
            }
            (Some("checkpoint"), None) => format!("at {}\n", self.timeline.keep_here()?),
            (Some("syscalls"), count) => self.calls(count.and_then(|count| count.parse().ok()).unwrap_or(10)),
            (Some("log"), count) => self.log(count.and_then(|count| count.parse().ok()).unwrap_or(10)),
            (Some("checkpoints"), None) => {
                let (count, bytes) = self.timeline.checkpoints();
                format!("{count} checkpoints, {} KiB\n", bytes >> 10)
            }
            _ => return Ok(None),
        }))
    }

    /// The last system calls of the running task.
    fn calls(&self, count: usize) -> String {
        let (exit, task) = (self.timeline.exit(), looking::current_task(self.timeline.machine()));
        let mut calls = VecDeque::new();
        for found in self.timeline.recording().exits_from(1) {
            match found {
                Ok(found) if found.number > exit => break,
                Ok(found) if found.task == task && matches!(found.kind, ExitKind::Syscall { .. }) => {
                    calls.push_back(format!("{}\n", format_exit(&found)));
                }
                Ok(_) => {}
                Err(e) => {
                    calls.push_back(format!("{e}\n"));
                    break;
                }
            }
            if calls.len() > count {
                calls.pop_front();
            }
        }
        calls.into_iter().collect()
    }

    /// Exits before and behind this position.
    fn log(&self, count: u64) -> String {
        let exit = self.timeline.exit();
        let first = exit.saturating_sub(count.saturating_sub(1)).max(1);
        let mut text = String::new();
        for found in self.timeline.recording().exits_from(first) {
            match found {
                Ok(found) if found.number < first => {}
                Ok(found) if found.number > exit.saturating_add(count) => break,
                Ok(found) => {
                    let mark = if found.number == exit { "=> " } else { "   " };
                    text.push_str(&format!("{mark}{}\n", format_exit(&found)));
                }
                Err(e) => {
                    text.push_str(&format!("{e}\n"));
                    break;
                }
            }
        }
        text
    }
}
