//! One row of the table of jobs.

/// How a job's run in the sandbox is compared with its native run. The exit status always is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compare {
    /// Byte for byte.
    Exact,
    /// The same lines in any order: the program writes what it finds in a directory, or in its
    /// environment, in the order of that, which is another natively.
    AnyOrder,
    /// Each run of digits, dots and spaces counts as one mark: the program prints times, speeds or
    /// inode numbers.
    Shape,
    /// Each hexadecimal number of eight digits or more counts as one mark: the program prints
    /// addresses, which the seed decides, or inode numbers.
    Addresses,
    /// As many bytes in each stream: the program prints randomness.
    Length,
    /// Not with the native run, which speaks of the host: standard output must be this, on every
    /// host.
    Says(&'static str),
}

/// What a job reads from standard input.
#[derive(Clone, Copy, Debug)]
pub enum Stdin {
    /// A pipe with these bytes.
    Pipe(&'static str),
    /// An input file.
    File(&'static str),
}

/// A program run on input files.
#[derive(Clone, Debug)]
pub struct Job {
    pub argv: Vec<&'static str>,
    pub stdin: Stdin,
    pub compare: Compare,
    /// More of the environment.
    pub env: Vec<(&'static str, &'static str)>,
    /// Megabytes of memory in the sandbox, if not as many as by default. The native run gets as
    /// much address space.
    pub memory: Option<u32>,
    /// Megabytes of memory in the sandbox, for a program that reserves much at its start. The native run
    /// has no limit.
    pub guest_memory: Option<u32>,
    /// Where the virtual clock starts, if not where it does by default.
    pub start_time: Option<&'static str>,
    /// A directory of the host that the sandbox shows, too.
    pub shows: Option<&'static str>,
    /// Programs that it runs, besides the one that is its command.
    pub needs: Vec<&'static str>,
    /// `--timer-step`, for a program that spins until a timer goes off.
    pub timer_step: Option<&'static str>,
    /// Whether it belongs to the sample of jobs that determinism is tested on by default.
    pub sampled: bool,
}

/// A job by its command line, in words parted by spaces.
pub fn job(line: &'static str) -> Job {
    Job {
        argv: line.split(' ').collect(),
        stdin: Stdin::Pipe(""),
        compare: Compare::Exact,
        env: Vec::new(),
        memory: None,
        guest_memory: None,
        start_time: None,
        shows: None,
        needs: Vec::new(),
        timer_step: None,
        sampled: false,
    }
}

impl Job {
    /// A job by its words.
    pub fn from_parts(argv: &[&'static str]) -> Job {
        Job { argv: argv.to_vec(), ..job("") }
    }

    /// One more argument, which may have spaces.
    pub fn arg(mut self, arg: &'static str) -> Job {
        self.argv.push(arg);
        self
    }

    /// More arguments, in words parted by spaces.
    pub fn on(mut self, line: &'static str) -> Job {
        self.argv.extend(line.split(' '));
        self
    }

    /// With this on standard input, which is a pipe.
    pub fn reads(mut self, text: &'static str) -> Job {
        self.stdin = Stdin::Pipe(text);
        self
    }

    /// With a file as standard input.
    pub fn from(mut self, file: &'static str) -> Job {
        self.stdin = Stdin::File(file);
        self
    }

    /// Compared in this way.
    pub fn by(mut self, compare: Compare) -> Job {
        self.compare = compare;
        self
    }

    /// With one more variable of the environment.
    pub fn env(mut self, name: &'static str, value: &'static str) -> Job {
        self.env.push((name, value));
        self
    }

    /// With so many megabytes of memory.
    pub fn memory(mut self, megabytes: u32) -> Job {
        self.memory = Some(megabytes);
        self
    }

    /// With so many megabytes of memory in the sandbox, and as much as there is natively.
    pub fn guest_memory(mut self, megabytes: u32) -> Job {
        self.guest_memory = Some(megabytes);
        self
    }

    /// With a virtual clock that starts then.
    pub fn starts(mut self, time: &'static str) -> Job {
        self.start_time = Some(time);
        self
    }

    /// With a directory of the host in sight.
    pub fn shows(mut self, dir: &'static str) -> Job {
        self.shows = Some(dir);
        self
    }

    /// Runs another program.
    pub fn needs(mut self, program: &'static str) -> Job {
        self.needs.push(program);
        self
    }

    /// Stepped, with this time for an instruction, while a timer is armed.
    pub fn stepped(mut self, time: &'static str) -> Job {
        self.timer_step = Some(time);
        self
    }

    /// One of the sample.
    pub fn sampled(mut self) -> Job {
        self.sampled = true;
        self
    }

    /// What a report calls it.
    pub fn name(&self) -> String {
        const LONGEST: usize = 90;
        let all = self.argv.join(" ").replace('\n', " ");
        all.chars().take(LONGEST).collect()
    }
}
