//! Commands of gdb's `monitor`.

use super::{Debugger, Goto};
use crate::text::format_exit;
use crate::timeline::{Moment, TimelineError};

/// What there is.
const HELP: &str = "\
monitor when               the position: exits, and steps since the last
monitor seek POSITION      goes there: EXIT, EXIT+STEPS, or EXIT- for before it; gdb is not told: it has `seek POSITION`
monitor goto POSITION      the next step or run goes there instead, so that gdb is told
monitor mark               remembers this place, for `monitor goto mark`
monitor process [N]        the process that breakpoints and watchpoints are for
monitor log [N]            the exits around here
monitor tasks              the tasks of the program
monitor checkpoints        how many there are, and what they take
";

impl Debugger {
    /// Carries out a command, which the debugger may interrupt; errors are text, too.
    ///
    /// # Errors
    /// When it was interrupted, and the position is lost.
    pub fn monitor(&mut self, command: &str) -> Result<String, TimelineError> {
        // What was changed here is gone when it is moved on from here.
        let moves = command.trim_start().starts_with("seek");
        if moves {
            self.copy = None;
        }
        let answered = {
            // Without them it goes as well, and gdb may have something to say of the time that it takes.
            let _signs = self.alive.show().ok();
            let _watch = self.inbox.watch(self.timeline.stop_handle());
            self.answer(command)
        };
        match answered {
            Err(e @ TimelineError::Interrupted) => {
                self.inbox.give_up_command();
                self.timeline.settle()?;
                Ok(format!("{e}\n"))
            }
            answered => Ok(answered.unwrap_or_else(|e| format!("{e}\n"))),
        }
    }

    fn answer(&mut self, command: &str) -> Result<String, TimelineError> {
        let mut words = command.split_whitespace();
        Ok(match (words.next(), words.next()) {
            (Some("when"), None) => format!("{}\n", self.timeline.position()?),
            (Some("seek"), Some(moment)) => match moment.parse::<Moment>() {
                Ok(moment) => {
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
            (Some("goto"), Some(moment)) => match moment.parse::<Moment>() {
                Ok(moment) => {
                    self.goto = Some(Goto::Moment(moment));
                    String::new()
                }
                Err(e) => format!("{e}\n"),
            },
            (Some("mark"), None) => {
                self.mark = Some(self.timeline.mark());
                String::new()
            }
            (Some("process"), None) => format!("{}\n", self.stops.process),
            (Some("process"), Some(number)) => match number.parse() {
                Ok(number) => {
                    self.stops.process = number;
                    String::new()
                }
                Err(_) => format!("{number:?} is no number of a process\n"),
            },
            (Some("log"), count) => self.log(count.and_then(|count| count.parse().ok()).unwrap_or(10)),
            (Some("tasks"), None) => self.tasks(),
            (Some("checkpoints"), None) => {
                let (count, bytes) = self.timeline.checkpoints();
                format!("{count} checkpoints, {} KiB\n", bytes >> 10)
            }
            _ => HELP.into(),
        })
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

    fn tasks(&self) -> String {
        let Some(program) = self.timeline.machine().program() else { return String::new() };
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
