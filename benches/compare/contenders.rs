//! The servers that are compared: each a process of its own on a free port of loopback, which
//! ends when its [`Contender`] is dropped, whatever happens in between.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};

use crate::echo;
use crate::measure::Result;

pub const HOST: &str = "127.0.0.1";

const DSMQ: &str = env!("CARGO_BIN_EXE_dsmq");
const DSMQ_FLAGS: [&str; 6] = ["--host", HOST, "--port", "0", "--log", "error"];

const START_TIME_MAX: Duration = Duration::from_secs(10);
const RETRY_AFTER: Duration = Duration::from_millis(10);

const PYTHON_DSMQ: &[&str] = &["dsmq==0.2.0"];
const PYTHON_RESTMQ: &[&str] = &["aiohttp==3.14.5", "redis==8.1.0", "hiredis==3.5.0"];

/// A running server.
pub struct Contender {
    child: Child,
    pub port: u16,
    /// From its start until it was known to listen.
    pub ready: Duration,
}

impl Drop for Contender {
    fn drop(&mut self) {
        // Errors mean that it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Contender {
    pub fn dsmq() -> Result<Contender> {
        Contender::dsmq_with(&[])
    }

    pub fn dsmq_with(flags: &[&str]) -> Result<Contender> {
        says_where(Command::new(DSMQ).args(DSMQ_FLAGS).args(flags))
    }

    /// dsmq under callgrind, which writes the instructions that it has counted into `counts` when
    /// the server stops.
    pub fn dsmq_counted(flags: &[&str], counts: &Path) -> Result<Contender> {
        let mut command = Command::new("valgrind");
        // In turn, so that the counts do not depend on which thread is quicker.
        command.args(["--quiet", "--tool=callgrind", "--fair-sched=yes"]);
        command.arg(format!("--callgrind-out-file={}", counts.display())).arg(DSMQ);
        says_where(command.args(DSMQ_FLAGS).args(flags))
            .map_err(|error| format!("valgrind ({error}): apt-get install valgrind").into())
    }

    /// The raw echo of requests and replies of these lengths.
    pub fn echo(request: usize, reply: usize) -> Result<Contender> {
        let sizes = [request.to_string(), reply.to_string()];
        says_where(Command::new(std::env::current_exe()?).arg(echo::FLAG).args(sizes))
    }

    /// axum with an answer that is ready.
    pub fn constant() -> Result<Contender> {
        says_where(Command::new(std::env::current_exe()?).arg(echo::CONSTANT_FLAG))
    }

    /// What RestMQ's stack is today: aiohttp over Redis.
    pub fn restmq(redis: &Contender) -> Result<Contender> {
        const SERVER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/http/restmq.py");
        let mut command = Command::new(python_environment(PYTHON_RESTMQ)?.join("bin/python"));
        let redis = redis.port.to_string();
        told_where(command.arg(SERVER), |command, port| command.args([&port.to_string(), &redis]))
    }

    /// Redis as Debian has it, but writing no file, and patient with subscribers that lag.
    pub fn redis() -> Result<Contender> {
        let mut command = Command::new("redis-server");
        command.args(["--bind", HOST, "--save", "", "--appendonly", "no"]);
        command.args(["--dir", env!("CARGO_TARGET_TMPDIR")]);
        command.args(["--client-output-buffer-limit", "pubsub", "0", "0", "0"]);
        told_where(&mut command, |command, port| command.args(["--port", &port.to_string()]))
            .map_err(|error| format!("redis-server ({error}): apt-get install redis-server").into())
    }

    /// beanstalkd as Debian has it, writing no file.
    pub fn beanstalkd() -> Result<Contender> {
        let mut command = Command::new("beanstalkd");
        command.args(["-l", HOST]);
        told_where(&mut command, |command, port| command.args(["-p", &port.to_string()]))
            .map_err(|error| format!("beanstalkd ({error}): apt-get install beanstalkd").into())
    }

    /// The Python server of the package from PyPI, in a virtual environment under `target`.
    pub fn python() -> Result<Contender> {
        let mut command = Command::new(python_environment(PYTHON_DSMQ)?.join("bin/python"));
        let run = |port| format!("from dsmq.dsmq import run; run({HOST:?}, {port})");
        told_where(&mut command, |command, port| command.args(["-c", &run(port)]))
    }

    pub fn resident_bytes(&self) -> Result<u64> {
        self.status_bytes("VmRSS:")
    }

    /// The most that was ever resident.
    pub fn resident_bytes_max(&self) -> Result<u64> {
        self.status_bytes("VmHWM:")
    }

    fn status_bytes(&self, name: &str) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).ok_or("no such line")?;
        Ok(kib.parse::<u64>()? * 1024)
    }

    pub fn processor_time(&self) -> Result<Duration> {
        processor_time(self.child.id())
    }

    /// Ends it as an operator does, and waits until it has ended.
    pub fn stop(mut self) -> Result<()> {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM)?;
        let status = self.child.wait()?;
        if status.success() { Ok(()) } else { Err(format!("ended with {status}").into()) }
    }

    /// Files and sockets that the server has open.
    pub fn descriptors(&self) -> Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.child.id()))?.count())
    }
}

/// How long cores have been busy with a process.
pub fn processor_time(process: u32) -> Result<Duration> {
    // Linux counts in hundredths of a second, whatever its own clock does.
    const TICK: Duration = Duration::from_millis(10);
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The second field is a name, which may have anything in it but this.
    let (_, fields) = stat.rsplit_once(") ").ok_or("no name")?;
    let ticks = |field: usize| -> Result<u32> {
        Ok(fields.split(' ').nth(field).ok_or("no such field")?.parse()?)
    };
    Ok(TICK * (ticks(11)? + ticks(12)?))
}

/// Starts a server that chooses its port and says so in its first line.
fn says_where(command: &mut Command) -> Result<Contender> {
    let start = Instant::now();
    let child = command.stdout(Stdio::piped()).spawn()?;
    let mut server = Contender { child, port: 0, ready: Duration::ZERO };
    let mut line = String::new();
    // The pipe stays open in `child`: the server may say more.
    let output = server.child.stdout.as_mut().ok_or("no standard output")?;
    BufReader::new(output).read_line(&mut line)?;
    server.ready = start.elapsed();
    let port = line.split_once(&format!("{HOST}:")).map(|(_, rest)| rest);
    let digits = port.and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next());
    server.port = digits
        .and_then(|digits| digits.parse().ok())
        .ok_or_else(|| format!("no port in {line:?}"))?;
    Ok(server)
}

/// Starts a server that is told its port, and waits until it listens there.
pub fn told_where(
    command: &mut Command,
    tell: impl FnOnce(&mut Command, u16) -> &mut Command,
) -> Result<Contender> {
    let port = TcpListener::bind((HOST, 0))?.local_addr()?.port();
    let start = Instant::now();
    let child = tell(command, port).stdout(Stdio::null()).spawn()?;
    let mut server = Contender { child, port, ready: Duration::ZERO };
    while TcpStream::connect((HOST, port)).is_err() {
        if let Some(status) = server.child.try_wait()? {
            return Err(format!("ended with {status}").into());
        }
        if start.elapsed() > START_TIME_MAX {
            return Err(format!("does not listen after {START_TIME_MAX:?}").into());
        }
        thread::sleep(RETRY_AFTER);
    }
    server.ready = start.elapsed();
    Ok(server)
}

/// A virtual environment with these packages.
fn python_environment(packages: &[&str]) -> Result<PathBuf> {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(packages.join("+"));
    let installed = directory.join("installed");
    if !installed.exists() {
        succeed(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&directory))
            .map_err(|error| format!("{error}: apt-get install python3-venv"))?;
        let pip = directory.join("bin/pip");
        succeed(Command::new(pip).args(["install", "--quiet"]).args(packages))?;
        fs::write(installed, "")?;
    }
    Ok(directory)
}

pub fn succeed(command: &mut Command) -> Result<()> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)).into())
}

/// Asks `redis-benchmark` how fast it finds the same server: requests a second.
pub fn redis_benchmark(server: &Contender, args: &[&str]) -> Result<f64> {
    let mut command = Command::new("redis-benchmark");
    command.args(["-h", HOST, "-p", &server.port.to_string(), "--csv"]).args(args);
    let output = command.output().map_err(|error| format!("redis-benchmark: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    // "test","requests a second",...
    let rate = text.lines().last().and_then(|line| line.split(',').nth(1));
    let rate = rate.ok_or_else(|| format!("{command:?} printed {text:?}"))?;
    Ok(rate.trim_matches('"').parse()?)
}

/// Thousands of connections need a descriptor at each end; the servers inherit the limit.
pub fn raise_descriptor_limit() -> Result<()> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    Ok(setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?)
}

/// While it lives, one core runs the load generator and every server that is started. A request
/// at a time leaves all other cores idle anyway, and which core answers, a running one or one that
/// must be woken, takes longer than the answer: 13 or 50 microseconds here.
pub struct OneCore {
    all: String,
}

impl OneCore {
    pub fn new() -> Result<OneCore> {
        let status = fs::read_to_string("/proc/self/status")?;
        let all = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        let all = all.ok_or("no Cpus_allowed_list")?.trim().to_owned();
        run_on(all.rsplit([',', '-']).next().unwrap_or(&all))?;
        Ok(OneCore { all })
    }
}

impl Drop for OneCore {
    fn drop(&mut self) {
        if let Err(error) = run_on(&self.all) {
            eprintln!("compare: all that follows runs on one core: {error}");
        }
    }
}

/// Threads and processes inherit it from this thread.
fn run_on(cores: &str) -> Result<()> {
    succeed(Command::new("taskset").args(["-cp", cores, &std::process::id().to_string()]))
}
