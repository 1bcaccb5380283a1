//! What belongs to one instance of a plugin.
//!
//! Owns the data behind a wasmtime store: the guest's WASI context, with nothing granted, its handles,
//! its memory cap, and the views through which each capability sees it. It must never reach for anything
//! that is not in the plugin's own context: that is how one plugin can't get at another's data.

use super::leaving::Leaving;
use super::meter::{Meter, Verdict};
use super::output::{Channel, LogOutput};
use super::quota::MemoryQuota;
use crate::auth::Caller;
use crate::capabilities::callers::{Callers, CallersView};
use crate::capabilities::fetch::{FetchGrants, FetchView, Outbound};
use crate::capabilities::kv::{KvGrants, KvView};
use crate::capabilities::peers::{PeerGrants, PeersView};
use crate::capabilities::rooms::RoomView;
use crate::capabilities::secrets::{SecretGrants, SecretsView};
use crate::capabilities::settings::{Settings, SettingsView};
use crate::line_quota::LineQuota;
use crate::rooms::event::Event;
use crate::storage::Store;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use wasmtime::component::{GuestTaskId, ResourceTable};
use wasmtime::{ResourceLimiter, Result};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

/// Handles that one instance may hold at a time.
const MAX_HANDLES: usize = 10_000;

/// What all instances of a version share: made once, when the version is loaded.
pub(super) struct Context {
    /// The plugin's name, for the log.
    pub name: Arc<str>,
    /// Namespaces.
    pub kv: KvGrants,
    /// `wasi:config/store`.
    pub settings: Settings,
    /// Secrets.
    pub secrets: SecretGrants,
    /// Destinations.
    pub fetch: Arc<FetchGrants>,
    /// Rooms of other plugins.
    pub peers: PeerGrants,
    /// Where data lives.
    pub store: Arc<dyn Store>,
    /// Bytes of linear memory of one instance.
    pub memory: u64,
    /// Memory of all instances of the plugin, and of the house.
    pub memory_of_all: MemoryQuota,
    /// Lines that the guest prints.
    pub lines: LineQuota,
    /// Lines about the guest.
    pub reports: LineQuota,
    /// Bytes of a fields object.
    pub headers: usize,
}

/// The data of one store.
pub(super) struct State {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    table: ResourceTable,
    leaving: Leaving,
    memory: MemoryCap,
    context: Arc<Context>,
    meter: Arc<Meter>,
    callers: Callers,
}

impl State {
    /// The state of a new instance.
    pub(super) fn new(context: Arc<Context>, meter: Arc<Meter>) -> Self {
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(context.headers);
        let mut table = ResourceTable::new();
        table.set_max_capacity(MAX_HANDLES);
        // No arguments, variables, files or sockets: what a builder does not get, a guest has not.
        let wasi = WasiCtx::builder()
            .stdout(LogOutput::new(context.clone(), Channel::Out))
            .stderr(LogOutput::new(context.clone(), Channel::Err))
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false)
            .build();
        Self {
            wasi,
            http,
            table,
            leaving: Leaving { outbound: Outbound::new(context.fetch.clone()), room: None },
            memory: MemoryCap {
                used: 0,
                cap: context.memory,
                of_all: context.memory_of_all.clone(),
                meter: meter.clone(),
            },
            context,
            meter,
            callers: Callers::default(),
        }
    }

    /// An event begins in this instance.
    pub(super) fn enter_room(&mut self, event: Box<Event>) {
        // Also when there is none: the caller of the event before must be forgotten.
        self.serve(None, event.caller.clone());
        self.leaving.room = Some(event);
    }

    /// And ends.
    pub(super) fn leave_room(&mut self) -> Option<Box<Event>> {
        self.serve(None, None);
        self.leaving.room.take()
    }

    /// Through which the rooms see this instance.
    pub(super) fn room(&mut self) -> RoomView<'_> {
        RoomView { event: self.leaving.room.as_deref_mut() }
    }

    /// Through which other rooms are called from this instance.
    pub(super) fn peers(&mut self) -> PeersView<'_> {
        PeersView {
            grants: &self.context.peers,
            event: self.leaving.room.as_deref_mut(),
            // Where an instance works for several, it takes the task to tell for whom.
            caller: self.callers.find(None),
        }
    }

    /// The meter of this instance.
    pub(super) fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }

    /// A request begins in an instance that serves one at a time: when its client goes away, what it asked
    /// of others ends. Without a caller the one of the request before is forgotten.
    pub(super) fn serve(&mut self, gone: Option<CancellationToken>, caller: Option<Arc<Caller>>) {
        self.callers.only(caller.clone());
        self.leaving.outbound.serve(gone, caller);
    }

    /// A request begins in an instance that serves several at a time.
    pub(super) fn serve_one_more(&mut self, task: GuestTaskId, caller: Option<&Arc<Caller>>) {
        self.callers.of_task(task, caller);
        self.leaving.outbound.serve_one_more(caller);
    }

    /// Another server or plugin is about to be asked, in this task.
    pub(super) fn next_request_of(&mut self, task: Option<GuestTaskId>) {
        self.leaving.outbound.next_is_for(self.callers.find(task));
    }

    /// Whether the caller of a request is to be found by the task.
    pub(super) fn goes_by_task(&self) -> bool {
        self.callers.go_by_task()
    }

    /// The memory cap.
    pub(super) fn memory(&mut self) -> &mut dyn ResourceLimiter {
        &mut self.memory
    }

    /// Through which the KV capability sees this instance.
    pub(super) fn kv(&mut self) -> KvView<'_> {
        KvView { table: &mut self.table, grants: &self.context.kv, store: &self.context.store }
    }

    /// Through which `wasi:config` sees this instance.
    pub(super) fn settings(&mut self) -> SettingsView<'_> {
        SettingsView { settings: &self.context.settings }
    }

    /// Through which `guesthouse:fetch` sees this instance.
    pub(super) fn fetch(&mut self) -> FetchView<'_> {
        FetchView { grants: self.leaving.outbound.grants() }
    }

    /// Who calls, to be told at the end of a request.
    pub(super) fn callers_mut(&mut self) -> &mut Callers {
        &mut self.callers
    }

    /// Through which identity and budget see this instance.
    pub(super) fn callers(&mut self) -> CallersView<'_> {
        CallersView { table: &mut self.table, callers: &self.callers }
    }

    /// Through which the secrets see this instance.
    pub(super) fn secrets(&mut self) -> SecretsView<'_> {
        SecretsView { table: &mut self.table, grants: &self.context.secrets }
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { hooks: &mut self.leaving, table: &mut self.table, ctx: &mut self.http }
    }
}

/// Bytes of one entry of a table.
const TABLE_ENTRY: u64 = 8;

/// The cap on all linear memories and tables of an instance together.
struct MemoryCap {
    used: u64,
    cap: u64,
    of_all: MemoryQuota,
    meter: Arc<Meter>,
}

impl MemoryCap {
    fn grow(&mut self, bytes: u64) -> bool {
        let total = self.used.saturating_add(bytes);
        if total > self.cap {
            // The guest may live with the refusal. If it does not, the verdict says why it trapped.
            self.meter.condemn(Verdict::Memory);
            return false;
        }
        if !self.of_all.take(bytes) {
            self.meter.condemn(Verdict::MemoryOfAll);
            return false;
        }
        self.used = total;
        true
    }
}

impl Drop for MemoryCap {
    fn drop(&mut self) {
        self.of_all.give_back(self.used);
    }
}

impl ResourceLimiter for MemoryCap {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        Ok(self.grow(desired.saturating_sub(current) as u64))
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        Ok(self.grow((desired.saturating_sub(current) as u64).saturating_mul(TABLE_ENTRY)))
    }
}
