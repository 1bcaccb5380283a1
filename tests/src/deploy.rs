//! What tests of deployments need: builds that say who they are, and a house that can be looked into.

use crate::{House, PATIENCE, command, guest};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// What the guest `marker` has where a build of its own has its marker.
const MARKER: &str = "marker-0123456789abcdefghij";

/// A build of the guest `marker` that says this, filled up to the length of its marker.
#[must_use]
pub fn build(marker: &str) -> Vec<u8> {
    let mut wasm = std::fs::read(guest("marker")).unwrap();
    let full = full(marker);
    let places: Vec<usize> = wasm
        .windows(MARKER.len())
        .enumerate()
        .filter(|(_, window)| *window == MARKER.as_bytes())
        .map(|(at, _)| at)
        .collect();
    assert!(!places.is_empty(), "the guest `marker` has no marker");
    for at in places {
        wasm[at..at + MARKER.len()].copy_from_slice(full.as_bytes());
    }
    wasm
}

/// A marker as a build says it.
#[must_use]
pub fn full(marker: &str) -> String {
    format!("{marker:-<width$}", width = MARKER.len())
}

/// Puts a file in the place of another in one step, as a careful operator does.
pub fn put(path: &Path, bytes: &[u8]) {
    let temporary = path.with_extension("new");
    std::fs::write(&temporary, bytes).unwrap();
    std::fs::rename(temporary, path).unwrap();
}

impl House {
    /// Starts a house in a folder that may have been a house before; `variables` are added to its environment.
    #[must_use]
    pub fn start_again(folder: TempDir, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = command(folder.path());
        command.args(arguments).envs(variables.iter().copied());
        let house = Self::spawn(folder, command);
        house.wait_until_all_serve();
        house
    }

    /// Waits for the end of the process, and gives the folder back.
    #[must_use]
    pub fn into_folder(mut self) -> TempDir {
        let began = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            assert!(began.elapsed() < PATIENCE, "the house does not end:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
        std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap())
    }

    /// Ends the process as a crash would, and gives the folder back.
    #[must_use]
    pub fn crash(mut self) -> TempDir {
        self.child.kill().unwrap();
        self.into_folder()
    }

    /// The folder of the configuration.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes the configuration anew.
    pub fn configure(&self, config: &str) {
        put(&self.path().join("guesthouse.toml"), config.as_bytes());
    }

    /// Files of compiled code that are mapped.
    #[must_use]
    pub fn mapped_code(&self) -> Vec<String> {
        let maps = std::fs::read_to_string(format!("/proc/{}/maps", self.child.id())).unwrap();
        let mut files: Vec<String> = maps
            .lines()
            .filter_map(|line| line.split_once('/'))
            .filter(|(_, path)| path.contains(".cwasm"))
            .map(|(_, path)| path.rsplit('/').next().unwrap().to_owned())
            .collect();
        files.sort();
        files.dedup();
        files
    }

    /// The names in a folder of the data folder.
    #[must_use]
    pub fn files(&self, folder: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.data().join(folder)).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Waits until a folder of the data folder holds so many files.
    pub fn wait_for_files(&self, folder: &str, number: usize) {
        let began = Instant::now();
        while self.files(folder).len() != number {
            assert!(began.elapsed() < PATIENCE, "{number} expected: {:?}", self.files(folder));
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// A POST of the admin API: status and answer.
    #[must_use]
    pub fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.try_post(path, body).unwrap()
    }

    /// The same for a house that may not live to answer.
    ///
    /// # Errors
    /// It did not.
    pub fn try_post(&self, path: &str, body: &Value) -> Result<(u16, Value), reqwest::Error> {
        let url = format!("{}{path}", self.admin);
        let token = self.token();
        std::thread::scope(|scope| {
            let call = || {
                let runtime =
                    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    let request = reqwest::Client::new().post(url).bearer_auth(token).json(body);
                    let answer = request.send().await?;
                    Ok((answer.status().as_u16(), answer.json().await?))
                })
            };
            scope.spawn(call).join().unwrap()
        })
    }

    /// Deploys the configuration, new grants and all.
    pub fn deploy(&self) -> Value {
        let (status, answer) = self.post("/v1/deployments", &json!({"allow_new_grants": true}));
        assert_eq!(status, 200, "{answer}");
        answer
    }

    /// The sentence with which a deployment is refused.
    #[must_use]
    pub fn deploy_refused(&self) -> String {
        let (status, answer) = self.post("/v1/deployments", &json!({"allow_new_grants": true}));
        assert!(status >= 400, "{answer}");
        answer["error"]["message"].as_str().unwrap().to_owned()
    }

    /// Waits until nothing of a replaced version is left.
    pub fn wait_until_drained(&self) {
        let began = Instant::now();
        while self.api("/v1/deployments")["draining"] != json!([]) {
            assert!(began.elapsed() < PATIENCE, "{}", self.api("/v1/deployments"));
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The body of a GET.
    #[must_use]
    pub fn get(&self, path: &str) -> String {
        let answer = self.raw(
            format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
                .as_bytes(),
        );
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}\n{}", self.log());
        answer.lines().find(|line| line.starts_with("x-version: ")).map_or(answer.clone(), |line| {
            line.trim_start_matches("x-version: ").trim_end_matches('-').to_owned()
        })
    }
}

/// A folder with a configuration and one plugin, `guest`, that is the build with this marker.
#[must_use]
pub fn folder(marker: &str, settings: &str, table: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let component = folder.path().join("guest.wasm");
    put(&component, &build(marker));
    let config = format!(
        "{settings}\n[plugins.guest]\ncomponent = \"guest.wasm\"\nroutes = [\"/*\"]\n{table}\n"
    );
    put(&folder.path().join("guesthouse.toml"), config.as_bytes());
    (folder, component)
}
