//! The harness of the end-to-end tests: a real house on free ports, with data of its own.

pub mod asking;
pub mod clients;
pub mod cms;
mod compiled;
pub mod deploy;
pub mod live;
mod port;
pub mod relay;
pub mod websocket;

pub mod handmade;

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub use port::port;

pub mod ai;
pub mod upstream;

/// How long anything may take that is not a matter of speed.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// Where `cargo xtask test` put the house.
#[must_use]
pub fn house_folder() -> PathBuf {
    folder("GUESTHOUSE_HOUSE")
}

/// The component of a test guest.
#[must_use]
pub fn guest(name: &str) -> PathBuf {
    folder("GUESTHOUSE_GUESTS").join(format!("guest_{name}.wasm"))
}

fn folder(variable: &str) -> PathBuf {
    std::env::var_os(variable).map(PathBuf::from).unwrap_or_else(|| {
        panic!("{variable} is not set: run the end-to-end tests with `cargo xtask test`")
    })
}

/// A house that runs.
pub struct House {
    child: Child,
    folder: TempDir,
    log: Arc<Mutex<String>>,
    /// `http://127.0.0.1:…` for clients.
    pub url: String,
    /// The same for the operator.
    pub admin: String,
}

/// A plugin's table in the configuration.
#[must_use]
pub fn plugin(name: &str, component: &Path, rest: &str) -> String {
    format!("[plugins.{name}]\ncomponent = {:?}\n{rest}\n", component.display().to_string())
}

impl House {
    /// Starts a house and waits until its plugins serve.
    #[must_use]
    pub fn start(config: &str) -> Self {
        Self::start_with(config, &[])
    }

    /// The same with environment variables.
    #[must_use]
    pub fn start_with(config: &str, variables: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("guesthouse.toml"), config).unwrap();
        compiled::take(&folder.path().join("data"));
        let house = Self::start_in(folder, variables);
        house.wait_until_all_serve();
        compiled::keep(&house.data());
        house
    }

    /// Starts a house and returns as soon as its doors are open, whatever is still being compiled.
    #[must_use]
    pub fn start_at_once(config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("guesthouse.toml"), config).unwrap();
        Self::start_in(folder, &[])
    }

    /// The same, with so many open files at most.
    #[must_use]
    pub fn start_with_files(config: &str, files: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("guesthouse.toml"), config).unwrap();
        let plain = command(folder.path());
        let mut limited = Command::new("sh");
        limited.args(["-c", &format!("ulimit -n {files} && exec \"$0\" \"$@\"")]);
        limited.arg(plain.get_program()).args(plain.get_args());
        for (name, value) in plain.get_envs() {
            match value {
                Some(value) => limited.env(name, value),
                None => limited.env_remove(name),
            };
        }
        limited.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let house = Self::spawn(folder, limited);
        house.wait_until_all_serve();
        house
    }

    fn start_in(folder: TempDir, variables: &[(&str, &str)]) -> Self {
        let mut command = command(folder.path());
        command.envs(variables.iter().copied());
        Self::spawn(folder, command)
    }

    fn spawn(folder: TempDir, mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let stderr = child.stderr.take().unwrap();
        std::thread::spawn({
            let log = log.clone();
            move || {
                for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                    writeln!(log.lock().unwrap(), "{line}").unwrap();
                }
            }
        });
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut address = || match lines.next() {
            Some(Ok(line)) => line.split_once(" on ").unwrap().1.to_owned(),
            _ => {
                std::thread::sleep(Duration::from_millis(200));
                panic!("the house did not start:\n{}", log.lock().unwrap())
            }
        };
        let (url, admin) = (address(), address());
        Self { child, folder, log, url, admin }
    }

    /// What a house says that can't start with this configuration.
    #[must_use]
    pub fn refuses(config: &str) -> String {
        Self::refuses_with(config, &[])
    }

    /// The same with environment variables.
    #[must_use]
    pub fn refuses_with(config: &str, variables: &[(&str, &str)]) -> String {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("guesthouse.toml"), config).unwrap();
        let output = command(folder.path()).envs(variables.iter().copied()).output().unwrap();
        assert!(!output.status.success(), "the house started with\n{config}");
        String::from_utf8(output.stderr).unwrap()
    }

    /// Waits until every component is compiled.
    pub fn wait_until_all_serve(&self) {
        let began = Instant::now();
        loop {
            let status = self.api("/v1/plugins");
            let states = status["plugins"].as_array().unwrap();
            if states.iter().all(|plugin| plugin["state"] == "serving") {
                return;
            }
            let failed = states.iter().find(|plugin| plugin["state"] == "failed");
            assert!(failed.is_none(), "{failed:?}");
            assert!(began.elapsed() < PATIENCE, "still compiling: {status}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends the process as a crash would, and starts it again on the same data.
    #[must_use]
    pub fn crash_and_restart(mut self) -> Self {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let folder = std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap());
        drop(self);
        let house = Self::start_in(folder, &[]);
        house.wait_until_all_serve();
        house
    }

    /// The process.
    #[must_use]
    pub fn pid(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(&self.child)
    }

    /// Descriptors that the process has open.
    #[must_use]
    pub fn descriptors(&self) -> u64 {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count() as u64
    }

    /// Closes the house as an operator would, and opens it again on the same data.
    #[must_use]
    pub fn restart(self) -> Self {
        self.restart_with(&[])
    }

    /// The same with environment variables.
    #[must_use]
    pub fn restart_with(mut self, variables: &[(&str, &str)]) -> Self {
        self.terminate();
        self.child.wait().unwrap();
        let folder = std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap());
        drop(self);
        let house = Self::start_in(folder, variables);
        house.wait_until_all_serve();
        house
    }

    /// SIGTERM.
    pub fn terminate(&self) {
        rustix::process::kill_process(self.pid(), rustix::process::Signal::TERM).unwrap();
    }

    /// Waits for the end; the exit code.
    pub fn wait(&mut self) -> i32 {
        self.child.wait().unwrap().code().unwrap_or(-1)
    }

    /// Everything on standard error so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits until the log has this.
    pub fn wait_for_log(&self, text: &str) {
        let began = Instant::now();
        while !self.log().contains(text) {
            assert!(began.elapsed() < PATIENCE, "no {text:?} in\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The admin token.
    #[must_use]
    pub fn token(&self) -> String {
        std::fs::read_to_string(self.data().join("admin-token")).unwrap()
    }

    /// The data folder.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// A GET of the admin API.
    #[must_use]
    pub fn api(&self, path: &str) -> serde_json::Value {
        let url = format!("{}{path}", self.admin);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let token = self.token();
        std::thread::scope(|scope| {
            scope
                .spawn(move || {
                    runtime.block_on(async {
                        reqwest::Client::new()
                            .get(url)
                            .bearer_auth(token)
                            .send()
                            .await
                            .unwrap()
                            .json()
                            .await
                    })
                })
                .join()
                .unwrap()
                .unwrap()
        })
    }

    /// Runs a command of the binary against this house: whether it succeeded, and what it printed.
    #[must_use]
    pub fn run(&self, arguments: &[&str]) -> (i32, String) {
        let output = Command::new(house_folder().join("guesthouse"))
            .args(arguments)
            .env("GUESTHOUSE_ADMIN", &self.admin)
            .env("GUESTHOUSE_DATA", self.data())
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&text).into_owned())
    }

    /// Publishes a folder.
    pub fn publish(&self, folder: &Path) {
        let (code, text) = self.run(&["assets", "publish", folder.to_str().unwrap()]);
        assert_eq!(code, 0, "{text}");
    }

    /// Resident memory in KiB.
    #[must_use]
    pub fn rss_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// `host:port` for raw connections.
    #[must_use]
    pub fn address(&self) -> &str {
        self.url.trim_start_matches("http://")
    }

    /// Sends bytes over a connection of its own and reads to the end.
    #[must_use]
    pub fn raw(&self, request: &[u8]) -> String {
        use std::io::Write;
        let mut stream = std::net::TcpStream::connect(self.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(request).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }
}

impl Drop for House {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

fn command(folder: &Path) -> Command {
    let mut command = Command::new(house_folder().join("guesthouse"));
    command
        .args(["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--config"])
        .arg(folder.join("guesthouse.toml"))
        .arg("--data")
        .arg(folder.join("data"))
        .env_remove("GUESTHOUSE_TOKEN")
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}
