//! The engine against a model of it, against crashes, and against the clock.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use super::*;
use crate::storage::{Condition, Expiry};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

fn open(folder: &Path) -> Arc<Rocks> {
    Rocks::open(folder, Limits::default(), Durability::Process, 8 << 20).unwrap()
}

fn put(key: &str, value: impl Into<Bytes>, condition: Condition) -> Operation {
    let options = PutOptions { condition, ..PutOptions::default() };
    Operation::Put { key: key.to_owned(), value: value.into(), options }
}

async fn get(store: &Rocks, key: &str) -> Option<Bytes> {
    store.get("ns", key).resolve().await.unwrap().map(|entry| entry.value)
}

#[tokio::test]
async fn a_value_is_read_back_with_what_belongs_to_it_also_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let first = {
        let store = open(folder.path());
        let options = PutOptions { metadata: Bytes::from_static(b"meta"), ..PutOptions::default() };
        let operation =
            Operation::Put { key: "k".into(), value: Bytes::from_static(b"v"), options };
        store.write("ns", vec![operation]).await.unwrap()
    };
    let store = open(folder.path());
    let entry = store.get("ns", "k").resolve().await.unwrap().unwrap();
    assert_eq!((&entry.value[..], &entry.info.metadata[..]), (&b"v"[..], &b"meta"[..]));
    assert_eq!(first, [Effect::Written { version: entry.info.version }]);
    let next = store.write("ns", vec![put("k", "w", Condition::None)]).await.unwrap();
    assert!(matches!(next[0], Effect::Written { version } if version > entry.info.version));
}

#[tokio::test]
async fn a_storage_that_was_dropped_is_closed_and_has_done_what_was_sent() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..50 {
        let store = open(folder.path());
        let mut writes = Vec::new();
        for n in 0..10 {
            let mut write =
                store.write("ns", vec![put(&format!("{round}-{n}"), "v", Condition::None)]);
            // Sent, and not waited for. tokio's budget of a task would make some of them wait.
            match futures::poll!(tokio::task::unconstrained(&mut write)) {
                std::task::Poll::Ready(done) => _ = done.unwrap(),
                std::task::Poll::Pending => writes.push(write),
            }
        }
        drop(store);
        for write in writes {
            write.await.unwrap();
        }
    }
    let store = open(folder.path());
    let page = store.list("ns", ListOptions::default()).resolve().await.unwrap();
    assert_eq!(page.keys.len(), 500);
}

#[tokio::test]
async fn a_write_with_a_stale_version_is_refused_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    store.write("ns", vec![put("a", "1", Condition::Absent)]).await.unwrap();
    let both = vec![put("b", "2", Condition::None), put("a", "2", Condition::Version(999))];
    assert_eq!(store.write("ns", both).await, Err(StoreError::Conflict(1)));
    assert_eq!(get(&store, "a").await.unwrap(), "1");
    assert_eq!(get(&store, "b").await, None);
    let again = store.write("ns", vec![put("a", "2", Condition::Absent)]).await;
    assert_eq!(again, Err(StoreError::Conflict(0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_compare_and_set_loses_no_update() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    store.write("ns", vec![put("n", "0", Condition::None)]).await.unwrap();
    let adders = (0..8).map(|_| {
        let store = store.clone();
        tokio::spawn(async move {
            for _ in 0..100 {
                loop {
                    let entry = store.get("ns", "n").resolve().await.unwrap().unwrap();
                    let n: u64 = std::str::from_utf8(&entry.value).unwrap().parse().unwrap();
                    let condition = Condition::Version(entry.info.version);
                    let write = vec![put("n", (n + 1).to_string(), condition)];
                    match store.write("ns", write).await {
                        Ok(_) => break,
                        Err(StoreError::Conflict(_)) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            }
        })
    });
    for adder in adders.collect::<Vec<_>>() {
        adder.await.unwrap();
    }
    assert_eq!(get(&store, "n").await.unwrap(), "800");
}

#[tokio::test]
async fn a_large_value_that_is_replaced_while_it_is_read_is_read_to_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let old: Bytes = (0..3_000_000_u32).map(|n| n as u8).collect::<Vec<_>>().into();
    store.write("ns", vec![put("k", old.clone(), Condition::None)]).await.unwrap();
    let mut stream = store.stream("ns", "k", 0, None).resolve().await.unwrap().unwrap();
    let mut read = stream.body.next().await.unwrap().unwrap().to_vec();
    store.write("ns", vec![put("k", "new", Condition::None)]).await.unwrap();
    while let Some(piece) = stream.body.next().await {
        read.extend_from_slice(&piece.unwrap());
    }
    assert!(read == old);
    drop(stream);
    // The writer removes the chunks with the next write that it does.
    store.write("ns", vec![put("x", "", Condition::None)]).await.unwrap();
    store.write("ns", vec![put("x", "", Condition::None)]).await.unwrap();
    assert_eq!(chunks_left(&store), 0);
}

fn chunks_left(store: &Rocks) -> usize {
    let family = store.inner.family(CHUNKS).unwrap();
    store.inner.db.iterator_cf(family, rocksdb::IteratorMode::Start).count()
}

#[tokio::test]
async fn ranges_of_large_and_small_values_are_exact() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let large: Bytes = (0..700_000_u32).map(|n| (n / 7) as u8).collect::<Vec<_>>().into();
    store.write("ns", vec![put("l", large.clone(), Condition::None)]).await.unwrap();
    store.write("ns", vec![put("s", "0123456789", Condition::None)]).await.unwrap();
    for (offset, length) in [
        (0, None),
        (262_143, Some(2)),
        (262_144, Some(1)),
        (699_999, None),
        (700_000, None),
        (1 << 40, Some(5)),
    ] {
        let stream = store.stream("ns", "l", offset, length).resolve().await.unwrap().unwrap();
        let read = stream.body.map(|piece| piece.unwrap().to_vec()).concat().await;
        let start = usize::try_from(offset).unwrap().min(large.len());
        let end = length.map_or(large.len(), |l| large.len().min(start + l as usize));
        assert!(read == large[start..end], "{offset} {length:?}");
        assert_eq!(stream.info.size, 700_000);
    }
    let stream = store.stream("ns", "s", 3, Some(4)).resolve().await.unwrap().unwrap();
    assert_eq!(stream.body.map(|piece| piece.unwrap().to_vec()).concat().await, b"3456");
}

#[tokio::test]
async fn an_upload_that_breaks_off_changes_nothing_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let piece = || Ok(Bytes::from(vec![1; 1 << 20]));
    let broken = Err(StoreError::Invalid("cut off".to_owned()));
    let body = futures::stream::iter([piece(), piece(), broken]).boxed();
    assert!(store.put_stream("ns", "k", body, PutOptions::default()).await.is_err());
    assert_eq!(get(&store, "k").await, None);
    assert_eq!(chunks_left(&store), 0);
    let body = futures::stream::iter((0..26).map(move |_| piece())).boxed();
    let too_large = store.put_stream("ns", "k", body, PutOptions::default()).await;
    assert!(matches!(too_large, Err(StoreError::TooLarge(_))));
    assert_eq!(chunks_left(&store), 0);
}

#[tokio::test]
async fn a_key_ceases_to_exist_when_its_time_has_come() {
    let folder = tempfile::tempdir().unwrap();
    let now = Arc::new(AtomicU64::new(1_000_000));
    let clock: Clock = {
        let now = now.clone();
        Arc::new(move || now.load(Relaxed))
    };
    let store = Rocks::open_with_clock(
        folder.path(),
        Limits::default(),
        Durability::Process,
        8 << 20,
        clock,
    )
    .unwrap();
    let options = PutOptions { expires: Expiry::Ttl(10), ..PutOptions::default() };
    let operation = Operation::Put { key: "k".into(), value: Bytes::from_static(b"v"), options };
    store.write("ns", vec![operation]).await.unwrap();
    now.fetch_add(9_999, Relaxed);
    assert!(get(&store, "k").await.is_some());
    now.fetch_add(1, Relaxed);
    assert_eq!(get(&store, "k").await, None);
    assert!(store.list("ns", ListOptions::default()).resolve().await.unwrap().keys.is_empty());
    store.write("ns", vec![put("k", "w", Condition::Absent)]).await.unwrap();
}

#[tokio::test]
async fn limits_hold_at_their_edges() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let write = |key: String| store.write("ns", vec![put(&key, "v", Condition::None)]);
    assert!(write("k".repeat(512)).await.is_ok());
    assert!(matches!(write("k".repeat(513)).await, Err(StoreError::TooLarge(_))));
    assert!(matches!(write(String::new()).await, Err(StoreError::Invalid(_))));
    let value = |size: usize| store.write("ns", vec![put("v", vec![0; size], Condition::None)]);
    assert!(value(25 << 20).await.is_ok());
    assert!(matches!(value((25 << 20) + 1).await, Err(StoreError::TooLarge(_))));
    let metadata = |size: usize| {
        let options = PutOptions { metadata: vec![0; size].into(), ..PutOptions::default() };
        let put = Operation::Put { key: "m".into(), value: Bytes::new(), options };
        store.write("ns", vec![put])
    };
    assert!(metadata(1024).await.is_ok());
    assert!(matches!(metadata(1025).await, Err(StoreError::TooLarge(_))));
    let many = |count: usize| {
        let all = (0..count).map(|n| put(&format!("k{n}"), "", Condition::None)).collect();
        store.write("many", all)
    };
    assert!(many(1000).await.is_ok());
    assert!(matches!(many(1001).await, Err(StoreError::TooLarge(_))));
    let twice = vec![put("a", "", Condition::None), put("a", "", Condition::None)];
    assert!(matches!(store.write("ns", twice).await, Err(StoreError::Invalid(_))));
    let list = |limit| store.list("many", ListOptions { limit, ..ListOptions::default() });
    assert_eq!(list(1000).resolve().await.unwrap().keys.len(), 1000);
    assert!(matches!(list(1001).resolve().await, Err(StoreError::Invalid(_))));
}

#[tokio::test]
async fn adding_counts_and_refuses_what_is_no_number() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let add = |key: &str, delta| {
        store.write("ns", vec![Operation::Increment { key: key.to_owned(), delta }])
    };
    assert_eq!(add("n", 5).await.unwrap(), [Effect::Counted { value: 5 }]);
    assert_eq!(add("n", -7).await.unwrap(), [Effect::Counted { value: -2 }]);
    assert!(matches!(add("n", i64::MIN).await, Err(StoreError::Invalid(_))));
    store.write("ns", vec![put("t", "text", Condition::None)]).await.unwrap();
    assert!(matches!(add("t", 1).await, Err(StoreError::Invalid(_))));
}

#[tokio::test]
async fn a_database_that_is_open_elsewhere_is_refused_with_advice() {
    let folder = tempfile::tempdir().unwrap();
    let _open = open(folder.path());
    let error = Rocks::open(folder.path(), Limits::default(), Durability::Process, 8 << 20);
    assert!(error.err().unwrap().to_string().contains("another process has it open"));
}

/// Run by the test below in a process of its own, which is killed.
#[test]
fn writes_until_killed() {
    let Some(folder) = std::env::var_os("GUESTHOUSE_TEST_STORE") else { return };
    let store = open(Path::new(&folder));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        for number in 0_u64.. {
            let value = vec![number as u8; if number % 10 == 0 { 300_000 } else { 10 }];
            store
                .write("ns", vec![put(&number.to_string(), value, Condition::None)])
                .await
                .unwrap();
            println!("\nacknowledged {number}");
        }
    });
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "storage::rocks::tests::writes_until_killed", "--nocapture"])
        .env("GUESTHOUSE_TEST_STORE", folder.path())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut last = None;
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        if let Some(number) = line.unwrap().strip_prefix("acknowledged ") {
            last = Some(number.parse::<u64>().unwrap());
            if last == Some(100) {
                child.kill().unwrap();
            }
        }
    }
    child.wait().unwrap();
    let store = open(folder.path());
    for number in 0..=last.unwrap() {
        let value = get(&store, &number.to_string()).await.unwrap();
        assert!(value.iter().all(|byte| *byte == number as u8), "{number}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn it_does_what_a_plain_map_does(
        steps in proptest::collection::vec((0..5_u8, "[a-c]{1,2}", 0..100_000_usize), 1..30)
    ) {
        let folder = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let mut model: BTreeMap<String, Bytes> = BTreeMap::new();
        let mut store = Some(open(folder.path()));
        for (what, key, size) in steps {
            let opened = store.get_or_insert_with(|| open(folder.path())).clone();
            let value = Bytes::from(vec![size as u8; size]);
            match what {
                0 | 1 => {
                    runtime.block_on(opened.write("ns", vec![put(&key, value.clone(), Condition::None)])).unwrap();
                    model.insert(key, value);
                }
                2 => {
                    let delete = Operation::Delete { key: key.clone(), condition: Condition::None };
                    let effects = runtime.block_on(opened.write("ns", vec![delete])).unwrap();
                    prop_assert_eq!(&effects[..], &[Effect::Deleted { existed: model.remove(&key).is_some() }]);
                }
                3 => {
                    let write = runtime.block_on(opened.write("ns", vec![put(&key, value.clone(), Condition::Absent)]));
                    prop_assert_eq!(write.is_ok(), !model.contains_key(&key));
                    model.entry(key).or_insert(value);
                }
                _ => {
                    drop(opened);
                    let old = store.take().unwrap();
                    drop(old);
                }
            }
        }
        let opened = store.get_or_insert_with(|| open(folder.path())).clone();
        let mut cursor = None;
        let mut found = BTreeMap::new();
        loop {
            let options = ListOptions { limit: 2, cursor, ..ListOptions::default() };
            let page = runtime.block_on(opened.list("ns", options).resolve()).unwrap();
            for (key, _) in page.keys {
                let value = runtime.block_on(get(&opened, &key)).unwrap();
                found.insert(key, value);
            }
            cursor = page.cursor;
            if cursor.is_none() {
                break;
            }
        }
        prop_assert!(found == model, "{:?} {:?}", found.keys(), model.keys());
    }
}
