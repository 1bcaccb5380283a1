//! `/metrics`: the house in numbers, as Prometheus reads them.
//!
//! Owns the names of the metrics, and the text format (version 0.0.4). Everything is read from counters that are
//! kept anyway; nothing is reset by being read. Names of rooms, users and callers are never labels: they come from
//! clients, who would then decide how many time series there are.

use super::Admin;
use crate::answers::{Answered, BOUNDS};
use crate::body::Body;
use crate::engine::Version;
use crate::turn::Relay;
use http::{HeaderValue, Response, header};
use std::collections::BTreeMap;
use std::fmt::{Display, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::UNIX_EPOCH;
use webrtc_turn::limits::{Counters, Traffic, TransportKind};

const TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(super) fn answer(admin: &Admin) -> Response<Body> {
    let mut page = Page::default();
    process(&mut page, admin);
    requests(&mut page, admin);
    plugins(&mut page, admin);
    deployments(&mut page, admin);
    cache(&mut page, admin);
    rooms(&mut page, admin);
    for figure in admin.store.figures() {
        page.family(figure.name, "gauge", figure.help);
        page.sample("", &[], figure.value);
    }
    if let Some(relay) = &admin.relay {
        turn(&mut page, relay);
    }
    let mut response = Response::new(Body::from(page.text));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(TYPE));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The text in the making.
#[derive(Default)]
struct Page {
    text: String,
    family: String,
}

impl Page {
    /// Begins a metric; its samples follow. Names of the house get its prefix.
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let own = if name.starts_with("process_") { "" } else { "guesthouse_" };
        self.family = format!("{own}{name}");
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        // Writing to a text does not fail.
        _ = writeln!(self.text, "# HELP {0} {help}\n# TYPE {0} {kind}", self.family);
    }

    fn sample(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl Display) {
        self.text.push_str(&self.family);
        self.text.push_str(suffix);
        for (number, (name, label)) in labels.iter().enumerate() {
            self.text.push(if number == 0 { '{' } else { ',' });
            _ = write!(self.text, "{name}=\"");
            for letter in label.chars() {
                match letter {
                    '\\' => self.text.push_str("\\\\"),
                    '"' => self.text.push_str("\\\""),
                    '\n' => self.text.push_str("\\n"),
                    other => self.text.push(other),
                }
            }
            self.text.push('"');
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        _ = writeln!(self.text, " {value}");
    }

    /// A metric with one sample.
    fn one(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.sample("", &[], value);
    }
}

fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

fn process(page: &mut Page, admin: &Admin) {
    page.family("build_info", "gauge", "1; the version of the house is its label.");
    page.sample("", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    let since = admin.since.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    page.one("process_start_time_seconds", "gauge", "When the house was opened.", since);
    if let Some(rss) = resident() {
        page.one("process_resident_memory_bytes", "gauge", "Memory that the process has.", rss);
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        // The listing itself is one of them.
        let open = open.count().saturating_sub(1);
        page.one("process_open_fds", "gauge", "Descriptors that the process has open.", open);
    }
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let used = used.tv_sec as f64 + used.tv_nsec as f64 / 1e9;
    page.one("process_cpu_seconds_total", "counter", "CPU time of all threads.", used);
    let connections = admin.house.connections.load(Relaxed);
    page.one("connections", "gauge", "Connections of clients.", connections);
    if let Some(log) = &admin.house.log {
        let help = "Lines of the access log that standard error took too slowly.";
        page.one("access_log_dropped_total", "counter", help, log.dropped());
    }
}

/// Resident memory in bytes.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(kib.split_whitespace().next()?.parse::<u64>().ok()? << 10)
}

/// By plugin; what belongs to none, as what no route leads to, has an empty label.
fn requests(page: &mut Page, admin: &Admin) {
    let active = admin.plugins.active();
    let of_plugins = active.slots().iter().map(|(name, slot)| (name.as_str(), slot.answers.sum()));
    let all: Vec<(&str, Answered)> =
        std::iter::once(("", admin.house.answers.sum())).chain(of_plugins).collect();
    page.family("requests_total", "counter", "Answers to clients, by the class of their status.");
    for (plugin, answered) in &all {
        for (class, count) in (1..).zip(answered.statuses) {
            page.sample("", &[("plugin", plugin), ("status", &format!("{class}xx"))], count);
        }
    }
    let help = "Time from the head of a request to the head of its answer.";
    page.family("request_seconds", "histogram", help);
    for (plugin, answered) in &all {
        let bounds = BOUNDS.iter().map(|bound| seconds(*bound).to_string());
        let mut count = 0;
        for (bound, more) in bounds.chain(["+Inf".to_owned()]).zip(answered.times) {
            count += more;
            page.sample("_bucket", &[("plugin", plugin), ("le", &bound)], count);
        }
        page.sample("_sum", &[("plugin", plugin)], seconds(answered.micros));
        page.sample("_count", &[("plugin", plugin)], count);
    }
}

fn plugins(page: &mut Page, admin: &Admin) {
    let active = admin.plugins.active();
    page.family(
        "plugin_serving",
        "gauge",
        "Whether a version that is to serve does, a canary too.",
    );
    for slot in active.all() {
        let labels = [("plugin", slot.plugin.name.as_str()), ("version", &slot.number.to_string())];
        page.sample("", &labels, u8::from(slot.active().is_some()));
    }
    let versions: Vec<(&str, String, Arc<Version>)> = active
        .all()
        .filter_map(|slot| {
            Some((slot.plugin.name.as_str(), slot.number.to_string(), slot.active()?))
        })
        .collect();
    let mut each = |name: &str, kind: &str, help: &str, of: &dyn Fn(&Version) -> f64| {
        page.family(name, kind, help);
        for (plugin, number, version) in &versions {
            page.sample("", &[("plugin", plugin), ("version", number)], of(version));
        }
    };
    each("plugin_running", "gauge", "Requests at work.", &|version| version.running() as f64);
    each("plugin_queued", "gauge", "Requests that wait for their turn.", &|version| {
        f64::from(version.queued())
    });
    each("plugin_instances_waiting", "gauge", "Instances that wait for requests.", &|version| {
        version.waiting_instances() as f64
    });
    each("plugin_instances_total", "counter", "Instances that were made.", &|version| {
        version.counters.instances.load(Relaxed) as f64
    });
    let help = "Requests, calls and room events that were given to the plugin.";
    each("plugin_calls_total", "counter", help, &|version| {
        version.counters.requests.load(Relaxed) as f64
    });
    each("plugin_cpu_seconds_total", "counter", "CPU time of the guest.", &|version| {
        seconds(version.counters.cpu.load(Relaxed))
    });
    let help = "Requests and events that went on in the slow lane.";
    each("plugin_slow_total", "counter", help, &|version| {
        version.counters.moved.load(Relaxed) as f64
    });
    let help = "Whether the circuit breaker refuses requests.";
    each("plugin_breaker_open", "gauge", help, &|version| {
        f64::from(u8::from(version.breaker().state != "closed"))
    });
    let help = "Requests that the circuit breaker refused.";
    each("plugin_breaker_refused_total", "counter", help, &|version| {
        version.breaker().refused as f64
    });
    page.family("plugin_failures_total", "counter", "Requests and events that a plugin failed.");
    for (plugin, number, version) in &versions {
        for (reason, count) in version.counters.reasons.list() {
            let labels = [("plugin", *plugin), ("version", number), ("reason", reason)];
            page.sample("", &labels, count);
        }
    }
}

fn deployments(page: &mut Page, admin: &Admin) {
    let sequence = admin.plugins.active().sequence();
    page.one("deployments_total", "counter", "Switches, rollbacks too, ever.", sequence);
    let draining = admin.plugins.draining().len();
    page.one("versions_draining", "gauge", "Replaced versions that still have requests.", draining);
    if let Some(micros) = admin.plugins.last_switch().and_then(|last| last.switch_micros) {
        let help = "From the durable write of the last switch until all new requests met it.";
        page.one("last_switch_seconds", "gauge", help, seconds(micros));
    }
    let help = "Components that were compiled since the start.";
    page.one("compilations_total", "counter", help, admin.engine.compilations());
}

fn cache(page: &mut Page, admin: &Admin) {
    let Some(stats) = admin.cache.as_ref().map(|cache| cache.stats()) else { return };
    let help = "Requests that the response cache answered.";
    page.one("cache_hits_total", "counter", help, stats.hits);
    let help = "Requests that it might have answered, and passed on.";
    page.one("cache_misses_total", "counter", help, stats.misses);
    page.one("cache_bytes", "gauge", "Bytes of kept responses.", stats.bytes);
    page.one("cache_entries", "gauge", "Kept responses.", stats.entries);
}

fn rooms(page: &mut Page, admin: &Admin) {
    let (mut states, mut sockets) = (BTreeMap::new(), BTreeMap::new());
    for (name, slot) in admin.plugins.active().slots() {
        if slot.plugin.rooms.is_some() {
            sockets.insert(Arc::<str>::from(name.as_str()), 0);
            for awake in [true, false] {
                states.insert((Arc::<str>::from(name.as_str()), awake), 0);
            }
        }
    }
    for mailbox in admin.rooms.in_memory() {
        let plugin = &mailbox.key.plugin;
        *states.entry((plugin.clone(), mailbox.is_awake())).or_insert(0) += 1;
        *sockets.entry(plugin.clone()).or_insert(0) += mailbox.view.sockets.load(Relaxed);
    }
    let help = "Rooms in memory. Asleep: without an instance, as with idle sockets only.";
    page.family("rooms", "gauge", help);
    for ((plugin, awake), count) in &states {
        let state = if *awake { "awake" } else { "asleep" };
        page.sample("", &[("plugin", plugin), ("state", state)], count);
    }
    page.family("room_sockets", "gauge", "Open connections of rooms.");
    for (plugin, count) in &sockets {
        page.sample("", &[("plugin", plugin)], count);
    }
}

fn turn(page: &mut Page, relay: &Relay) {
    let live = relay.server().allocations();
    page.one("turn_allocations", "gauge", "Allocations of the relay.", live);
    let help = "Connections of its clients over TCP and TLS.";
    page.one("turn_connections", "gauge", help, relay.connections());
    let counters = relay.counters();
    for ((name, value), help) in counters.list().into_iter().zip(Counters::help()) {
        page.one(&format!("turn_{name}_total"), "counter", help, value);
    }
    type Of = fn(&Traffic) -> [&AtomicU64; 2];
    let of: [(&str, &str, Of); 2] = [
        (
            "turn_packets_total",
            "Packets that were relayed, by the transport of the client.",
            |of| [&of.packets_to_peers, &of.packets_from_peers],
        ),
        ("turn_bytes_total", "Bytes that were relayed, by the transport of the client.", |of| {
            [&of.bytes_to_peers, &of.bytes_from_peers]
        }),
    ];
    for (name, help, of) in of {
        page.family(name, "counter", help);
        for (kind, traffic) in TransportKind::ALL.iter().zip(&counters.traffic) {
            for (direction, count) in ["to_peers", "from_peers"].into_iter().zip(of(traffic)) {
                let labels = [("transport", kind.name()), ("direction", direction)];
                page.sample("", &labels, count.load(Relaxed));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_label_says_it_stays_one_label() {
        let mut page = Page::default();
        page.family("x", "gauge", "Of two\nlines.");
        page.sample("", &[("a", "\"} 1\nguesthouse_y 2"), ("b", "\\")], 3);
        assert_eq!(
            page.text,
            "# HELP guesthouse_x Of two\\nlines.\n# TYPE guesthouse_x gauge\n\
             guesthouse_x{a=\"\\\"} 1\\nguesthouse_y 2\",b=\"\\\\\"} 3\n"
        );
    }
}
