//! A transaction against a model of it, with commits that are durable or still on their way.

use super::storage::{KEY, VALUE};
use super::*;
use crate::config::Durability;
use crate::rooms::alarms::Alarms;
use crate::storage::Limits as StoreLimits;
use crate::storage::rocks::Rocks;
use crate::storage::rooms::{RoomKey, RoomStore};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Op {
    Put(Vec<u8>, u8),
    Delete(Vec<u8>),
    Scan(Vec<u8>, Option<Vec<u8>>, u32, bool),
    DeleteRange(Vec<u8>, Option<Vec<u8>>),
    /// Ends well; true: and is waited for.
    Commit(bool),
    Rollback,
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(0..4_u8, 1..3)
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (key(), any::<u8>()).prop_map(|(key, value)| Op::Put(key, value)),
        3 => key().prop_map(Op::Delete),
        4 => (key(), proptest::option::of(key()), 1..8_u32, any::<bool>())
            .prop_map(|(start, end, limit, reverse)| Op::Scan(start, end, limit, reverse)),
        1 => (key(), proptest::option::of(key())).prop_map(|(start, end)| Op::DeleteRange(start, end)),
        2 => any::<bool>().prop_map(Op::Commit),
        1 => Just(Op::Rollback),
    ]
}

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

fn within<'a>(
    model: &'a Model,
    start: &'a [u8],
    end: Option<&'a [u8]>,
) -> impl DoubleEndedIterator<Item = (&'a Vec<u8>, &'a Vec<u8>)> {
    model.iter().filter(move |(key, _)| {
        key.as_slice() >= start && end.is_none_or(|end| key.as_slice() < end)
    })
}

struct Harness {
    event: Option<Box<Event>>,
    early: mpsc::UnboundedSender<Pending>,
    settled: Arc<std::sync::atomic::AtomicU64>,
}

impl Harness {
    async fn new(store: &Arc<Rocks>, limits: Limits) -> Self {
        let epoch = store.claim().await.unwrap();
        let room = RoomKey { plugin: "p".into(), name: "r".into() };
        let (room, _) =
            Room::load(room, epoch, store.clone(), Arc::<Alarms>::default(), Arc::default())
                .await
                .unwrap();
        let settled = room.settled();
        let (early, _) = mpsc::unbounded_channel();
        let event = Some(Event::new(Box::new(room), limits, 1, early.clone()));
        Self { event, early, settled }
    }

    fn event(&mut self) -> &mut Event {
        self.event.as_mut().unwrap()
    }

    fn again(&mut self) {
        let event = self.event.take().unwrap();
        let limits = event.limits.clone();
        self.event = Some(Event::new(event.into_room(), limits, 1, self.early.clone()));
    }

    async fn commit(&mut self, wait: bool) {
        let pending = self.event().submit().await.unwrap();
        if let Some(durable) = pending.durable
            && wait
        {
            durable.await.unwrap().unwrap();
            self.settled.store(pending.number, std::sync::atomic::Ordering::Release);
        }
        self.again();
    }
}

async fn check(ops: Vec<Op>) {
    let folder = tempfile::tempdir().unwrap();
    let store =
        Rocks::open(folder.path(), StoreLimits::default(), Durability::Process, 8 << 20).unwrap();
    let mut harness = Harness::new(&store, Limits::default()).await;
    let (mut kept, mut model) = (Model::new(), Model::new());
    for op in ops {
        match op {
            Op::Put(key, value) => {
                harness.event().write(key.clone(), Some(vec![value].into())).await.unwrap();
                model.insert(key, vec![value]);
            }
            Op::Delete(key) => {
                harness.event().write(key.clone(), None).await.unwrap();
                model.remove(&key);
            }
            Op::Scan(start, end, limit, reverse) => {
                let found = harness.event().scan(&start, end.as_deref(), limit, reverse).await;
                let found: Vec<(Vec<u8>, Vec<u8>)> =
                    found.unwrap().into_iter().map(|(key, value)| (key, value.to_vec())).collect();
                let all = within(&model, &start, end.as_deref());
                let pairs = |(key, value): (&Vec<u8>, &Vec<u8>)| (key.clone(), value.clone());
                let expected: Vec<_> = if reverse {
                    all.rev().take(limit as usize).map(pairs).collect()
                } else {
                    all.take(limit as usize).map(pairs).collect()
                };
                assert_eq!(found, expected);
            }
            Op::DeleteRange(start, end) => {
                let deleted = harness.event().delete_range(&start, end.as_deref()).await.unwrap();
                let gone: Vec<Vec<u8>> =
                    within(&model, &start, end.as_deref()).map(|(key, _)| key.clone()).collect();
                assert_eq!(deleted as usize, gone.len());
                for key in gone {
                    model.remove(&key);
                }
            }
            Op::Commit(wait) => {
                harness.commit(wait).await;
                kept = model.clone();
            }
            Op::Rollback => {
                harness.again();
                model = kept.clone();
            }
        }
        let meta = harness.event().meta;
        assert_eq!(meta.keys as usize, model.len());
        assert_eq!(
            meta.bytes as usize,
            model.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>()
        );
    }
    // What was committed is what a fresh owner finds.
    harness.again();
    drop(harness);
    let mut harness = Harness::new(&store, Limits::default()).await;
    let found = harness.event().scan(&[], None, 1000, false).await.unwrap();
    assert_eq!(found.len(), kept.len());
    assert_eq!(harness.event().meta.keys as usize, kept.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_room_reads_what_it_wrote_and_keeps_what_it_committed(
        ops in proptest::collection::vec(op(), 1..60),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(check(ops));
    }
}

#[tokio::test]
async fn quotas_hold_at_their_edge_and_name_their_knob() {
    let folder = tempfile::tempdir().unwrap();
    let store =
        Rocks::open(folder.path(), StoreLimits::default(), Durability::Process, 8 << 20).unwrap();
    let limits = Limits { storage: 100, keys: 3, ..Limits::default() };
    let mut harness = Harness::new(&store, limits).await;
    let event = harness.event();
    let put = |size: usize| Some(Bytes::from(vec![0; size]));
    event.write(vec![1], put(99)).await.unwrap();
    let over = event.write(vec![2], put(0)).await;
    assert!(matches!(over, Err(Error::Limit(text)) if text.contains("rooms.storage")));
    event.write(vec![1], put(0)).await.unwrap();
    event.write(vec![2], put(0)).await.unwrap();
    event.write(vec![3], put(0)).await.unwrap();
    let over = event.write(vec![4], put(0)).await;
    assert!(matches!(over, Err(Error::Limit(text)) if text.contains("rooms.keys")));
    event.write(vec![3], None).await.unwrap();
    event.write(vec![4], put(0)).await.unwrap();
    assert!(matches!(event.write(Vec::new(), put(0)).await, Err(Error::Invalid(_))));
    assert!(event.write(vec![1; KEY], None).await.is_ok());
    assert!(matches!(event.write(vec![1; KEY + 1], None).await, Err(Error::Limit(_))));
    assert!(matches!(event.write(vec![1], put(VALUE + 1)).await, Err(Error::Limit(_))));
}

#[tokio::test]
async fn a_room_that_keeps_nothing_ceases_to_exist() {
    let folder = tempfile::tempdir().unwrap();
    let store =
        Rocks::open(folder.path(), StoreLimits::default(), Durability::Process, 8 << 20).unwrap();
    let mut harness = Harness::new(&store, Limits::default()).await;
    let exists = async || !store.rooms(None, None, 10).resolve().await.unwrap().is_empty();
    harness.commit(true).await;
    assert!(!exists().await);
    harness.event().write(vec![1], Some(Bytes::new())).await.unwrap();
    harness.commit(true).await;
    assert!(exists().await);
    harness.event().write(vec![1], None).await.unwrap();
    harness.event().set_alarm(Some(7));
    harness.commit(true).await;
    assert!(exists().await);
    harness.event().set_alarm(None);
    harness.commit(true).await;
    assert!(!exists().await);
    assert_eq!(store.alarms(None, 10).resolve().await.unwrap(), []);
}
