//! Programs that tests run: with a time limit, killed when a test gives up on them.

use std::{
    fmt,
    io::{Read, Write},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};

use crate::wait;

/// How long a command may run.
const LIMIT: Duration = Duration::from_secs(60);

/// What a command that has ended said.
#[derive(Clone, Debug)]
pub struct Run {
    /// The command line.
    pub line: String,
    /// Its exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            line,
            code,
            stdout,
            stderr,
        } = self;
        write!(
            f,
            "`{line}` ended with {code:?}\n--- stdout\n{stdout}\n--- stderr\n{stderr}\n---"
        )
    }
}

impl Run {
    /// Insists on an exit code.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "expected {code}: {self}");
        self
    }

    /// Standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("not JSON: {error}: {self}"))
    }
}

/// A running command; killed when dropped.
pub struct Running {
    line: String,
    child: Child,
    stdout: Pipe,
    stderr: Pipe,
}

/// What came out of a pipe, while it comes.
struct Pipe {
    text: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

/// Starts a command from the words of a line.
pub fn start(line: &str) -> Running {
    let mut words = line.split_whitespace();
    let mut command = Command::new(words.next().expect("a command"));
    command.args(words);
    start_command(command, line, "")
}

/// Runs a command from the words of a line.
pub fn run(line: &str) -> Run {
    start(line).end()
}

/// The same, with a text for its standard input.
pub fn run_with(line: &str, input: &str) -> Run {
    let mut words = line.split_whitespace();
    let mut command = Command::new(words.next().expect("a command"));
    command.args(words);
    start_command(command, line, input).end()
}

/// Starts a prepared command; `line` is for messages.
pub fn start_command(mut command: Command, line: &str, input: &str) -> Running {
    let mut child = command
        .stdin(if input.is_empty() {
            Stdio::null()
        } else {
            Stdio::piped()
        })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot run `{line}`: {error}"));
    if let Some(mut stdin) = child.stdin.take() {
        // One that does not read to the end has its reasons; its exit code tells.
        let _closed = stdin.write_all(input.as_bytes());
    }
    let stdout = Pipe::new(child.stdout.take().expect("it is piped"));
    let stderr = Pipe::new(child.stderr.take().expect("it is piped"));
    Running {
        line: line.to_owned(),
        child,
        stdout,
        stderr,
    }
}

impl Pipe {
    fn new(mut pipe: impl Read + Send + 'static) -> Self {
        let text = Arc::new(Mutex::new(Vec::new()));
        let copy = Arc::clone(&text);
        let reader = thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = pipe.read(&mut buffer) {
                copy.lock()
                    .expect("readers do not panic")
                    .extend(&buffer[..count]);
            }
        });
        Self {
            text,
            reader: Some(reader),
        }
    }

    fn so_far(&self) -> String {
        String::from_utf8_lossy(&self.text.lock().expect("readers do not panic")).into_owned()
    }

    fn all(&mut self) -> String {
        if let Some(reader) = self.reader.take() {
            reader.join().expect("a pipe can be read");
        }
        self.so_far()
    }
}

impl Running {
    /// The number of its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the end.
    #[track_caller]
    pub fn end(mut self) -> Run {
        let status = wait::within(LIMIT, || self.try_wait());
        assert!(
            status.is_some(),
            "`{}` runs for more than {LIMIT:?}",
            self.line
        );
        self.finish(status)
    }

    /// What it wrote to standard error up to now.
    pub fn stderr(&self) -> String {
        self.stderr.so_far()
    }

    /// What it wrote to standard output up to now.
    pub fn stdout(&self) -> String {
        self.stdout.so_far()
    }

    /// Sends it a signal.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        let process = i32::try_from(self.child.id()).expect("a process id");
        kill(Pid::from_raw(process), signal).expect("a child can be sent signals");
    }

    /// True if it has not ended.
    pub fn is_running(&mut self) -> bool {
        self.try_wait().is_none()
    }

    /// Sends a signal to it and to all processes of its group: it must lead one.
    pub fn signal_all(&self, signal: Signal) {
        killpg(self.process(), signal).expect("it leads a group of processes");
    }

    fn process(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it with SIGKILL.
    pub fn kill(mut self) -> Run {
        let _ended = self.child.kill();
        let status = self.child.wait().ok();
        self.finish(status)
    }

    fn try_wait(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    fn finish(&mut self, status: Option<ExitStatus>) -> Run {
        let (stdout, stderr) = (self.stdout.all(), self.stderr.all());
        Run {
            line: self.line.clone(),
            code: status.and_then(|status| status.code()),
            stdout,
            stderr,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _gone = self.child.wait();
    }
}
