//! Processes under measurement: where they run, what they use.

use anyhow::{Context, Result, bail};
use rustix::thread::CpuSet;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The core that servers run on.
pub const SERVER_CORE: usize = 0;
/// The core that clients, and servers behind servers, run on.
pub const CLIENT_CORE: usize = 1;

/// Ticks of the clock in which the kernel counts CPU time in `/proc/PID/stat`.
const TICKS: f64 = 100.0;

/// Pins the calling thread, and what it starts from now on.
pub fn pin(core: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    rustix::thread::sched_setaffinity(None, &set).with_context(|| {
        format!("this thread can't be pinned to core {core}: two cores are needed")
    })
}

/// Sets how nice this process is, and what it starts from now on, where that is allowed.
pub fn prefer(niceness: i32) {
    _ = rustix::process::setpriority_process(None, niceness);
}

/// A server that is ended with the bench.
pub struct Server {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Server {
    /// Starts a program on the servers' core and waits until its address accepts connections.
    pub fn start(command: Command, address: SocketAddr) -> Result<Self> {
        Self::start_on(SERVER_CORE, command, address)
    }

    /// The same on another core.
    pub fn start_on(core: usize, command: Command, address: SocketAddr) -> Result<Self> {
        let child = spawn(core, command)?;
        let server = Self { child, address };
        server.wait_until_open()?;
        Ok(server)
    }

    /// A process whose address is known already.
    pub fn of(child: Child, address: SocketAddr) -> Self {
        Self { child, address }
    }

    fn wait_until_open(&self) -> Result<()> {
        let began = Instant::now();
        while TcpStream::connect(self.address).is_err() {
            if began.elapsed() > Duration::from_secs(20) {
                bail!("nothing listens on {} after 20 s", self.address);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Waits until it has done what was still in its queue, half a minute at most: the next one has the same core.
    pub fn settle(&self) {
        const LOOK: Duration = Duration::from_millis(100);
        let began = Instant::now();
        let mut before = self.cpu();
        while began.elapsed() < Duration::from_secs(30) {
            std::thread::sleep(LOOK);
            let now = self.cpu();
            if now - before < LOOK.as_secs_f64() / 4.0 {
                break;
            }
            before = now;
        }
    }

    /// CPU seconds so far, of all its threads and of the processes that it started.
    pub fn cpu(&self) -> f64 {
        fn tree(pid: u32) -> f64 {
            let children = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten();
            let children = children
                .flatten()
                .filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
            let pids: Vec<u32> = children
                .flat_map(|text| {
                    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()
                })
                .collect();
            cpu(pid) + pids.into_iter().map(tree).sum::<f64>()
        }
        tree(self.child.id())
    }

    /// Resident memory in KiB.
    pub fn rss(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))
            .unwrap_or_default();
        status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
            .unwrap_or(0)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// Starts a program on a core.
pub fn spawn(core: usize, mut command: Command) -> Result<Child> {
    pin(core)?;
    let child = command
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .spawn()
        .with_context(|| format!("{command:?} could not be started"));
    pin(CLIENT_CORE)?;
    child
}

/// User and system time in seconds, of its threads that ended, too.
fn cpu(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: f64 =
        after_name.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<f64>().ok()).sum();
    ticks / TICKS
}

/// The addresses that a house prints: for clients and for the operator.
pub fn printed_addresses(child: &mut Child) -> Result<(SocketAddr, SocketAddr)> {
    let mut lines = BufReader::new(child.stdout.take().context("no output")?).lines();
    let mut address = || -> Result<SocketAddr> {
        let line = lines.next().context("the house did not start")??;
        let (_, address) = line.split_once("http://").context("no address")?;
        Ok(address.trim().parse()?)
    };
    Ok((address()?, address()?))
}
