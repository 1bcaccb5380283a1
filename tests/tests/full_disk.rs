//! A disk without room: what was acknowledged stays, what can't be kept is refused, and when there is room again the
//! house goes on without a restart.

use guesthouse_tests::deploy::folder;
use guesthouse_tests::{House, PATIENCE};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A disk of its own, where a folder is expected.
struct SmallDisk(TempDir);

impl SmallDisk {
    /// None where it takes more rights than the test has.
    fn mount(instead_of: &Path) -> Option<Self> {
        let disk = Self(tempfile::tempdir().unwrap());
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=192m", "tmpfs"])
            .arg(disk.0.path())
            .status()
            .is_ok_and(|status| status.success());
        if !mounted {
            eprintln!("SKIPPED: no disk can be mounted: run the tests as root");
            return None;
        }
        std::os::unix::fs::symlink(disk.0.path(), instead_of).unwrap();
        Some(disk)
    }

    /// Takes all the room that is left.
    fn fill(&self) -> PathBuf {
        let path = self.0.path().join("filler");
        let mut file = File::create(&path).unwrap();
        for piece in [1 << 20, 4096, 1] {
            while file.write_all(&vec![0; piece]).is_ok() {}
        }
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

const PIECE: usize = 256 << 10;

async fn put(house: &House, number: usize) -> u16 {
    let url = format!("{}/v1/kv/default/{number}", house.admin);
    let request = reqwest::Client::new().put(url).bearer_auth(house.token());
    request.body(vec![number as u8; PIECE]).send().await.unwrap().status().as_u16()
}

async fn check(house: &House, numbers: impl Iterator<Item = usize>) {
    for number in numbers {
        let url = format!("{}/v1/kv/default/{number}", house.admin);
        let request = reqwest::Client::new().get(url).bearer_auth(house.token());
        let value = request.send().await.unwrap().bytes().await.unwrap();
        assert!(value == vec![number as u8; PIECE], "{number}: {} bytes", value.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_are_refused_while_there_is_no_room_and_taken_again_without_a_restart() {
    let (folder, _) = folder("one", "", "kv = [\"default\"]");
    let Some(disk) = SmallDisk::mount(&folder.path().join("data")) else { return };
    let house = House::start_again(folder, &[], &[]);
    for number in 0..8 {
        assert_eq!(put(&house, number).await, 200);
    }
    let filler = disk.fill();
    // The log of the database has some room of its own.
    let mut kept = 8;
    while put(&house, kept).await == 200 {
        kept += 1;
        assert!(kept < 1000, "the disk has no end");
    }
    assert_eq!(put(&house, kept).await, 503);
    check(&house, 0..kept).await;
    assert!(house.get("/").contains("one"), "what serves goes on");

    std::fs::remove_file(filler).unwrap();
    let began = Instant::now();
    while put(&house, kept).await != 200 {
        assert!(began.elapsed() < PATIENCE, "writes stay refused:\n{}", house.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    check(&house, 0..=kept).await;
    let house = House::start_again(house.crash(), &[], &[]);
    check(&house, 0..=kept).await;
}
