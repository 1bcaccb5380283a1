//! Rooms: durable actors with a single owner, and the WebSockets of the people in them.
//!
//! Owns which rooms are in memory, on which thread each one runs, and how anything reaches it. `wit/rooms.wit`
//! says what a room is promised. A room runs on one thread of its own kind, and its sockets are moved there from
//! wherever they were accepted: between a socket and its room there is no lock that anyone waits for, and rooms
//! can't slow down plain requests.
//!
//! | file | owns |
//! |---|---|
//! | `door` | what must hold before a WebSocket is let in |
//! | `doorway` | how plugins find the rooms |
//! | `mailbox` | what can happen to a room, and how much of it may wait |
//! | `actor` | the order of events, and the instance |
//! | `event` | one event: a transaction |
//! | `state` | what outlives the instance |
//! | `gate` | nothing leaves before it is durable |
//! | `socket` | one client |
//! | `relay` | what the host relays without asking the room |
//! | `usage` | what all rooms of a plugin use together |
//! | `alarms` | alarms of all rooms |
//! | `fault` | places to die at, for tests |

mod actor;
mod alarms;
pub mod door;
mod doorway;
pub mod event;
mod fault;
mod gate;
mod mailbox;
pub mod relay;
pub mod socket;
pub mod state;
pub mod usage;

pub use doorway::Doorway;
pub use event::{Opened, RoomFailure};
pub use mailbox::{Asked, Input, Mailbox, Order};

use crate::auth::Caller;
use crate::config;
use crate::engine::Version;
use crate::line_quota::LineQuota;
use crate::storage::StoreError;
use crate::storage::rooms::{CommitError, RoomKey, RoomStore};
use actor::Actor;
use alarms::Alarms;
use guesthouse_bindings::rooms::types::{CloseInfo, Principal, Request, Response};
use parking_lot::Mutex;
use socket::{Socket, SocketLimits, Stream};
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use usage::Usages;

/// Bits of a connection's id that count; those above are the epoch.
const COUNTED: u32 = 40;
/// How often it is looked for instances of versions that have been replaced.
const SWEEP_EVERY: Duration = Duration::from_millis(500);
/// Lines about lost posts in a second.
const LOST_POSTS: u32 = 20;
/// Rooms that are asked to sleep when instances are short.
const EVICTED: usize = 8;

/// Milliseconds since 1970.
#[must_use]
pub fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX))
}

/// The code of a room.
pub enum Active {
    /// This version.
    Ready(Arc<Version>),
    /// It is being made ready.
    Later,
    /// There is no such plugin, or it has no rooms.
    Gone,
}

/// Says which version runs a room. Asked at every event: that is how code is swapped under open sockets.
pub trait Versions: Send + Sync + 'static {
    /// The version for this room.
    fn active(&self, room: &RoomKey) -> Active;
}

/// All rooms of the house.
pub struct Rooms {
    store: Arc<dyn RoomStore>,
    versions: Box<dyn Versions>,
    epoch: u64,
    directory: Mutex<HashMap<RoomKey, Arc<Mailbox>>>,
    threads: Vec<Handle>,
    running: Mutex<Vec<JoinHandle<()>>>,
    over: CancellationToken,
    connections: AtomicU64,
    alarms: Arc<Alarms>,
    usages: Usages,
    closing: AtomicBool,
    lost_posts: LineQuota,
}

impl Rooms {
    /// Takes ownership of all rooms and starts so many threads for them.
    ///
    /// # Errors
    /// The storage failed, or a thread could not be started.
    pub async fn open(
        store: Arc<dyn RoomStore>,
        versions: Box<dyn Versions>,
        threads: usize,
    ) -> Result<Arc<Self>, RoomsError> {
        let epoch = store.claim().await?;
        let usages = Usages::count(&store).await?;
        let (mut handles, mut running) = (Vec::new(), Vec::new());
        let over = CancellationToken::new();
        for number in 0..threads.max(1) {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .thread_keep_alive(Duration::from_secs(10))
                .build()?;
            handles.push(runtime.handle().clone());
            let over = over.clone();
            let thread = std::thread::Builder::new()
                .name(format!("rooms-{number}"))
                .spawn(move || runtime.block_on(over.cancelled()))?;
            running.push(thread);
        }
        let rooms = Arc::new(Self {
            store,
            versions,
            epoch,
            directory: Mutex::default(),
            threads: handles,
            running: Mutex::new(running),
            over,
            connections: AtomicU64::new(0),
            alarms: Arc::default(),
            usages,
            closing: AtomicBool::new(false),
            lost_posts: LineQuota::new(LOST_POSTS),
        });
        if let Some(first) = rooms.threads.first() {
            first.spawn(Alarms::run(rooms.clone()));
            first.spawn(rooms.clone().sweep());
            first.spawn(rooms.clone().close_what_a_crash_left());
        }
        Ok(rooms)
    }

    /// Rooms with connections of a process that ended without closing them are woken, so that nobody seems
    /// to be there who is not.
    async fn close_what_a_crash_left(self: Arc<Self>) {
        match self.store.with_connections().resolve().await {
            Ok(rooms) => {
                for room in rooms {
                    self.deliver(&room, Input::Sleep);
                    // One after the other: this is not urgent, and may be many.
                    tokio::task::yield_now().await;
                }
            }
            Err(error) => tracing::error!("connections left open can't be looked for: {error}"),
        }
    }

    /// Instances whose code has been replaced do not wait for their room's next event.
    async fn sweep(self: Arc<Self>) {
        loop {
            tokio::time::sleep(SWEEP_EVERY).await;
            let awake: Vec<Arc<Mailbox>> =
                self.directory.lock().values().filter(|room| room.is_awake()).cloned().collect();
            for room in awake {
                let runs = room.view.version.load(Relaxed);
                let replaced = match self.versions.active(&room.key) {
                    Active::Ready(version) => runs != Arc::as_ptr(&version) as usize,
                    Active::Later => false,
                    Active::Gone => true,
                };
                if replaced && !room.view.busy.load(Relaxed) {
                    room.send(Input::Sleep);
                }
            }
        }
    }

    /// Instances are short: those rooms sleep that have been idle for longest.
    fn evict(&self) {
        let mut idle: Vec<(u64, Arc<Mailbox>)> = self
            .directory
            .lock()
            .values()
            .filter(|room| room.is_awake() && !room.view.busy.load(Relaxed))
            .map(|room| (room.view.last_event.load(Relaxed), room.clone()))
            .collect();
        idle.sort_by_key(|(last, _)| *last);
        for (_, room) in idle.into_iter().take(EVICTED) {
            room.send(Input::Sleep);
        }
    }

    /// The room's mailbox; brings the room into memory if need be.
    pub fn find(self: &Arc<Self>, key: &RoomKey) -> Arc<Mailbox> {
        let mut directory = self.directory.lock();
        if let Some(mailbox) = directory.get(key) {
            return mailbox.clone();
        }
        let places = self.limits(key).unwrap_or_default().mailbox;
        let (mailbox, inbox) = Mailbox::new(key.clone(), places);
        directory.insert(key.clone(), mailbox.clone());
        drop(directory);
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        let turn = usize::try_from(hasher.finish() % self.threads.len().max(1) as u64).unwrap_or(0);
        if let Some(thread) = self.threads.get(turn) {
            thread.spawn(Actor::run(self.clone(), mailbox.clone(), inbox));
        }
        mailbox
    }

    fn limits(&self, key: &RoomKey) -> Option<config::Rooms> {
        match self.versions.active(key) {
            Active::Ready(version) => version.plugin.rooms.clone(),
            Active::Later | Active::Gone => None,
        }
    }

    /// Puts something into a room's mailbox, whether it is in memory or not.
    pub fn deliver(self: &Arc<Self>, key: &RoomKey, mut input: Input) {
        while let Err(back) = self.find(key).try_send(input) {
            input = back;
        }
    }

    /// The room has left memory.
    fn forget(&self, mailbox: &Arc<Mailbox>) {
        let mut directory = self.directory.lock();
        if directory.get(&mailbox.key).is_some_and(|known| Arc::ptr_eq(known, mailbox)) {
            directory.remove(&mailbox.key);
        }
    }

    /// Asks a room whether a client may come in.
    pub async fn connect(
        self: &Arc<Self>,
        key: &RoomKey,
        mut request: Request,
        caller: Option<Arc<Caller>>,
        offered: Vec<String>,
        limits: &config::Rooms,
    ) -> Opened {
        if self.closing.load(Relaxed) {
            return Opened::Failed(RoomFailure::Closing);
        }
        let Some(permit) = self.find(key).try_reserve() else {
            return Opened::Failed(RoomFailure::Busy(limits.mailbox));
        };
        let count = self.connections.fetch_add(1, Relaxed) & ((1 << COUNTED) - 1);
        let id = (self.epoch << COUNTED) | count;
        let limits = SocketLimits {
            queue: limits.queue,
            message: limits.message,
            rate: limits.rate,
            frames: limits.frames,
            ping: limits.ping,
        };
        let socket = Socket::new(id, caller, now(), limits);
        request.principal = socket.principal();
        let (reply, opened) = oneshot::channel();
        self.deliver(
            key,
            Input::Connect { request: Box::new(request), socket, offered, reply, permit },
        );
        opened.await.unwrap_or(Opened::Failed(RoomFailure::Storage))
    }

    /// Gives a room a plain request.
    ///
    /// # Errors
    /// See [`RoomFailure`].
    pub async fn request(
        self: &Arc<Self>,
        key: &RoomKey,
        asked: Asked,
        limits: &config::Rooms,
    ) -> Result<Response, RoomFailure> {
        self.hand_in(key, asked, limits)?.await.unwrap_or(Err(RoomFailure::Storage))
    }

    /// The same up to the room's mailbox.
    fn hand_in(
        self: &Arc<Self>,
        key: &RoomKey,
        mut asked: Asked,
        limits: &config::Rooms,
    ) -> Result<oneshot::Receiver<Result<Response, RoomFailure>>, RoomFailure> {
        if self.closing.load(Relaxed) {
            return Err(RoomFailure::Closing);
        }
        let permit = self.find(key).try_reserve().ok_or(RoomFailure::Busy(limits.mailbox))?;
        asked.request.principal = asked.caller.as_deref().and_then(principal);
        let (reply, answer) = oneshot::channel();
        self.deliver(key, Input::Request { asked: Box::new(asked), reply, permit });
        Ok(answer)
    }

    /// Gives a room a request whose answer nobody waits for, if there are such rooms. Only the log hears what became
    /// of it. Those from one thread arrive in their order. Needs the runtime.
    pub fn post(self: &Arc<Self>, key: &RoomKey, asked: Asked) {
        let given = match self.versions.active(key) {
            Active::Gone => Err(RoomFailure::Gone),
            Active::Ready(_) | Active::Later => {
                self.hand_in(key, asked, &self.limits(key).unwrap_or_default())
            }
        };
        let (rooms, key) = (self.clone(), key.clone());
        match given {
            Ok(answer) => drop(tokio::spawn(async move {
                let answer = answer.await.unwrap_or(Err(RoomFailure::Storage));
                if let Err(failure) = answer {
                    rooms.lost_post(&key, &failure);
                }
            })),
            Err(failure) => rooms.lost_post(&key, &failure),
        }
    }

    fn lost_post(&self, key: &RoomKey, failure: &RoomFailure) {
        let dropped = |number| format!("{number} lost posts before this one were not logged");
        let beyond = |most| format!("more than {most} lost posts in a second are not logged");
        if self.lost_posts.admits(&key.plugin, dropped, beyond) {
            tracing::warn!(room = %key, "a post of another room was lost: {failure}");
        }
    }

    /// Gives a room a request from elsewhere in the house, if there are such rooms.
    ///
    /// # Errors
    /// See [`RoomFailure`].
    pub async fn call(
        self: &Arc<Self>,
        key: &RoomKey,
        asked: Asked,
    ) -> Result<Response, RoomFailure> {
        if matches!(self.versions.active(key), Active::Gone) {
            return Err(RoomFailure::Gone);
        }
        let limits = self.limits(key).unwrap_or_default();
        self.request(key, asked, &limits).await
    }

    /// Serves a socket that has had its 101, on the thread of its room.
    pub fn serve(
        self: &Arc<Self>,
        key: &RoomKey,
        socket: Arc<Socket>,
        stream: impl FnOnce() -> std::io::Result<Box<dyn Stream>> + Send + 'static,
        already_read: Vec<u8>,
        counted: impl Send + 'static,
    ) {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        let turn = usize::try_from(hasher.finish() % self.threads.len().max(1) as u64).unwrap_or(0);
        let Some(thread) = self.threads.get(turn) else { return };
        // A room with a connection does not leave memory, so this is the room that accepted it.
        let mailbox = self.find(key);
        thread.spawn(async move {
            let _counted = counted;
            match stream() {
                Ok(stream) => socket::serve(stream, already_read, socket, mailbox).await,
                Err(error) => {
                    tracing::debug!("a socket could not be moved to its room: {error}");
                    mailbox.send(lost(&socket));
                }
            }
        });
    }

    /// A client was gone before its socket could be served.
    pub fn lost(self: &Arc<Self>, key: &RoomKey, socket: &Arc<Socket>) {
        self.deliver(key, lost(socket));
    }

    /// Closes all sockets with 1012 and waits until their rooms have been told, at most so long.
    pub async fn close(self: &Arc<Self>, patience: Duration) {
        self.closing.store(true, Relaxed);
        let deadline = tokio::time::Instant::now() + patience;
        for room in self.directory.lock().values() {
            room.send(Input::Shutdown);
        }
        while !self.directory.lock().is_empty() && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Ends the threads. What was not finished by now is found by the next house.
    pub fn end(&self) {
        self.over.cancel();
        for thread in std::mem::take(&mut *self.running.lock()) {
            if thread.join().is_err() {
                tracing::error!("a thread of the rooms panicked");
            }
        }
    }

    /// The epoch of this house.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Where rooms are kept.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn RoomStore> {
        &self.store
    }

    /// The rooms that are in memory.
    #[must_use]
    pub fn in_memory(&self) -> Vec<Arc<Mailbox>> {
        self.directory.lock().values().cloned().collect()
    }
}

/// Who a caller is, as rooms know it.
fn principal(caller: &Caller) -> Option<Principal> {
    let found = caller.principal.as_ref()?;
    Some(Principal { subject: found.subject.clone(), claims_json: found.claims_json.clone() })
}

fn lost(socket: &Socket) -> Input {
    let info = CloseInfo { code: 1006, reason: String::new(), was_clean: false };
    Input::Closed { id: socket.id, info }
}

/// Why there are no rooms.
#[derive(Debug, thiserror::Error)]
pub enum RoomsError {
    /// The storage.
    #[error("the rooms can't be taken over: {0}")]
    Storage(#[from] CommitError),
    /// It can't say what rooms keep.
    #[error("the rooms can't be counted: {0}")]
    Count(#[from] StoreError),
    /// A thread.
    #[error("a thread for rooms can't be started: {0}")]
    Thread(#[from] std::io::Error),
}
