//! The layout against a map, restarts and older owners.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use super::*;
use crate::config::Durability;
use crate::storage::Limits;
use crate::storage::rooms::{Alarm, RoomWrite};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;

fn open(folder: &Path) -> Arc<Rocks> {
    Rocks::open(folder, Limits::default(), Durability::Process, 8 << 20).unwrap()
}

fn room(name: &str) -> RoomKey {
    RoomKey { plugin: "chat".into(), name: name.into() }
}

fn write(key: &[u8], value: Option<&[u8]>) -> RoomWrite {
    RoomWrite { table: Table::Data, key: key.into(), value: value.map(Bytes::copy_from_slice) }
}

fn commit(name: &str, epoch: u64, writes: Vec<RoomWrite>) -> Commit {
    Commit { room: room(name), epoch, writes, meta: None, due_before: None }
}

async fn durable(store: &Rocks, commit: Commit) -> Result<(), CommitError> {
    store.commit(commit).await?.await.unwrap()
}

fn all(reverse: bool) -> Scan {
    Scan { start: Vec::new(), end: None, limit: 100, bytes: usize::MAX, reverse }
}

#[tokio::test]
async fn an_owner_of_an_older_epoch_is_fenced() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let first = store.claim().await.unwrap();
    durable(&store, commit("a", first, vec![write(b"k", Some(b"1"))])).await.unwrap();
    let second = store.claim().await.unwrap();
    assert!(second > first);
    let late = durable(&store, commit("a", first, vec![write(b"k", Some(b"late"))])).await;
    assert_eq!(late, Err(CommitError::Fenced));
    durable(&store, commit("a", second, vec![write(b"j", Some(b"2"))])).await.unwrap();
    drop(store);
    let store = open(folder.path());
    assert_eq!(store.get(&room("a"), b"k").resolve().await.unwrap().unwrap(), "1");
    assert!(store.claim().await.unwrap() > second);
}

#[tokio::test]
async fn no_room_reads_anothers_keys() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let epoch = store.claim().await.unwrap();
    for name in ["a", "ab", "b"] {
        let value = Some(name.as_bytes());
        durable(&store, commit(name, epoch, vec![write(b"k", value)])).await.unwrap();
    }
    for name in ["a", "ab", "b"] {
        for reverse in [false, true] {
            let found = store.scan(&room(name), Table::Data, all(reverse)).resolve().await.unwrap();
            assert_eq!(found, [(Bytes::from("k"), Bytes::from(name.to_owned()))]);
        }
    }
    let other = RoomKey { plugin: "other".into(), name: "a".into() };
    assert_eq!(store.scan(&other, Table::Data, all(false)).resolve().await.unwrap(), []);
}

#[tokio::test]
async fn an_alarm_moves_in_the_index_with_its_commit() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let epoch = store.claim().await.unwrap();
    let at = |due| RoomMeta {
        alarm: Some(Alarm { scheduled_at: due, due: Some(due), retries: 0 }),
        ..RoomMeta::default()
    };
    for (name, due) in [("late", 300), ("soon", 100)] {
        let meta = Some(MetaWrite::Put(at(due)));
        durable(&store, Commit { meta, ..commit(name, epoch, vec![]) }).await.unwrap();
    }
    let alarms = store.alarms(None, 10).resolve().await.unwrap();
    assert_eq!(alarms, [(100, room("soon")), (300, room("late"))]);
    let after = store.alarms(Some((100, room("soon"))), 10).resolve().await.unwrap();
    assert_eq!(after, [(300, room("late"))]);
    let moved = Commit {
        meta: Some(MetaWrite::Put(at(400))),
        due_before: Some(100),
        ..commit("soon", epoch, vec![])
    };
    durable(&store, moved).await.unwrap();
    let gone = Commit {
        meta: Some(MetaWrite::Delete),
        due_before: Some(300),
        ..commit("late", epoch, vec![])
    };
    durable(&store, gone).await.unwrap();
    assert_eq!(store.alarms(None, 10).resolve().await.unwrap(), [(400, room("soon"))]);
    let rooms = store.rooms(Some("chat"), None, 10).resolve().await.unwrap();
    assert_eq!(rooms, [(room("soon"), at(400))]);
    assert_eq!(store.rooms(Some("chat"), Some(&room("soon")), 9).resolve().await.unwrap(), []);
    assert_eq!(store.rooms(Some("cha"), None, 9).resolve().await.unwrap(), []);
}

#[tokio::test]
async fn rooms_with_open_connections_are_found_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    {
        let store = open(folder.path());
        let epoch = store.claim().await.unwrap();
        for name in ["x", "y"] {
            let row = |id: u64| RoomWrite {
                table: Table::Connections,
                key: id.to_be_bytes().to_vec(),
                value: Some(Bytes::new()),
            };
            durable(&store, commit(name, epoch, vec![row(1), row(2)])).await.unwrap();
        }
        durable(&store, commit("z", epoch, vec![write(b"k", Some(b"v"))])).await.unwrap();
    }
    let store = open(folder.path());
    let found = store.with_connections().resolve().await.unwrap();
    assert_eq!(found, [room("x"), room("y")]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn scans_agree_with_a_map(
        writes in proptest::collection::vec((proptest::collection::vec(any::<u8>(), 1..4), any::<bool>()), 1..60),
        start in proptest::collection::vec(any::<u8>(), 0..3),
        end in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..3)),
        limit in 1..20_usize,
        reverse: bool,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let epoch = store.claim().await.unwrap();
            let mut model = BTreeMap::new();
            for (key, keep) in &writes {
                let value = keep.then_some(&b"v"[..]);
                durable(&store, commit("r", epoch, vec![write(key, value)])).await.unwrap();
                if *keep { model.insert(key.clone(), ()); } else { model.remove(key); }
            }
            let inside = |key: &&Vec<u8>| **key >= start && end.as_ref().is_none_or(|end| *key < end);
            let mut expected: Vec<Vec<u8>> = model.keys().filter(inside).cloned().collect();
            if reverse { expected.reverse(); }
            expected.truncate(limit);
            let scan = Scan { start: start.clone(), end: end.clone(), limit, bytes: usize::MAX, reverse };
            let found = store.scan(&room("r"), Table::Data, scan).resolve().await.unwrap();
            let found: Vec<Vec<u8>> = found.into_iter().map(|(key, _)| key.to_vec()).collect();
            assert_eq!(found, expected);
        });
    }
}
