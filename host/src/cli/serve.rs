//! `guesthouse serve`: runs the house.
//!
//! Owns the order in which the house opens and closes. Whatever can be wrong with the configuration is
//! found before anything starts; the doors open last and close first.

use crate::admin::{self, Admin};
use crate::answers::Answers;
use crate::auth::{Authenticator, DEV_ISSUER, DevIssuer, Tickets};
use crate::cache::ResponseCache;
use crate::capabilities::settings::HostSettings;
use crate::config::secrets::Sources;
use crate::config::{Config, DEV_SETTINGS};
use crate::engine::Engine;
use crate::plugins::{ActiveVersions, Plugins, Setup};
use crate::quota::Ledger;
use crate::rooms::Rooms;
use crate::server::{self, AccessLog, Gate, House, Neighbourhood, Shutdown, Style};
use crate::storage::rocks::Rocks;
use crate::storage::rooms::RoomStore;
use crate::storage::{Limits, Store};
use crate::turn::{self, Relay};
use anyhow::Context;
use std::io::IsTerminal;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Threads for work that blocks: reading from disk, compiling.
const BLOCKING_THREADS: usize = 64;

/// Run the house.
#[derive(clap::Args)]
pub(super) struct ServeArgs {
    /// The configuration.
    #[arg(long, env = "GUESTHOUSE_CONFIG", default_value = "config/guesthouse.toml")]
    config: PathBuf,
    /// The folder for data; made if it isn't there.
    #[arg(long, env = "GUESTHOUSE_DATA", default_value = "data")]
    data: PathBuf,
    /// Where clients connect, in place of `server.listen`. Port 0 takes a free one.
    #[arg(long, env = "GUESTHOUSE_LISTEN")]
    listen: Option<SocketAddr>,
    /// Where the operator connects, in place of `server.admin`.
    #[arg(long = "admin", env = "GUESTHOUSE_ADMIN_LISTEN")]
    admin: Option<SocketAddr>,
    /// In development, `.dev.vars` beside the configuration is read for secrets.
    #[arg(long, env = "GUESTHOUSE_ENV", value_enum, default_value_t = Env::Dev)]
    env: Env,
    /// Deploy the configuration at the start, whatever was active before.
    #[arg(long, env = "GUESTHOUSE_DEPLOY")]
    deploy: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Env {
    Dev,
    Prod,
}

pub(super) fn run(arguments: ServeArgs) -> anyhow::Result<ExitCode> {
    let began = Instant::now();
    let human = std::io::stderr().is_terminal();
    start_log(human)?;

    // A house that has been deployed needs of the configuration only what is not of its plugins.
    let (mut config, errors) = Config::load_leniently(&arguments.config)?;
    if let Some(errors) = errors.clone()
        && (arguments.deploy || !arguments.data.join("store").exists())
    {
        return Err(errors.into());
    }
    config.server.listen = arguments.listen.unwrap_or(config.server.listen);
    config.server.admin = arguments.admin.unwrap_or(config.server.admin);
    config.server.max_connections = server::descriptors::connections(config.server.max_connections);
    let threads = config
        .server
        .threads
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get));

    std::fs::create_dir_all(&arguments.data)
        .with_context(|| format!("the data folder {} can't be made", arguments.data.display()))?;
    let token = admin::Token::open(&arguments.data)?;
    let rocks = open_store(&config, &arguments.data)?;
    let store: Arc<dyn Store> = rocks.clone();
    let rooms_store: Arc<dyn RoomStore> = rocks;
    let dev = arguments.env == Env::Dev;
    let sources = Sources::open(&config.file, dev)?;
    let turn_secrets =
        turn::house_secrets(&config.turn, &arguments.data, |name| sources.find(name))?;
    let relay = turn::bind(&config, dev)?;
    let mut told = host_settings(&config, arguments.env, &arguments.data)?;
    if let Some(relay) = &relay {
        told.tell(&config.turn.plugin, [("relay_urls".to_owned(), relay.urls.join(" "))]);
    }
    let engine = Engine::start(&config.engine, &config.fetch, threads, &arguments.data, told)?;
    tracing::info!("engine: {}; {threads} serving threads", engine.decisions());
    let cache = (config.cache.max_bytes > 0)
        .then(|| ResponseCache::new(config.cache.max_bytes, config.cache.max_entry));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_name("house")
        .enable_all()
        .build()?;
    let setup = Setup {
        file: config.file.clone(),
        house: config.house.clone(),
        dev_secrets: dev,
        house_secrets: turn_secrets.own.clone(),
        swap_drain: config.server.swap_drain,
        max_instances: config.engine.max_instances,
        verifier: config.auth.plugin.clone(),
        engine: engine.clone(),
        store: store.clone(),
        cache: cache.clone(),
    };
    let plugins = runtime.block_on(Plugins::open(
        setup,
        (config.clone(), errors),
        &arguments.data,
        arguments.deploy,
    ))?;
    let versions = Box::new(ActiveVersions(plugins.clone()));
    let rooms = runtime.block_on(Rooms::open(rooms_store, versions, threads))?;
    engine.doorway().open(&rooms);
    let style = if human { Style::Human } else { Style::Json };
    let log = config.server.access_log.then(|| AccessLog::start(style)).transpose()?;
    let idle = config.server.idle_timeout;
    engine.party().meet(Box::new(Neighbourhood::new(&plugins, idle)));
    let ledger = Ledger::new(store.clone());
    let gate = Gate {
        authenticator: authenticator(&config, &plugins),
        tickets: Tickets::default(),
        ledger: ledger.clone(),
        trusted_proxies: config.server.trusted_proxies.clone(),
    };
    let house = Arc::new(House {
        plugins: plugins.clone(),
        rooms: rooms.clone(),
        gate,
        log,
        idle,
        answers: Answers::default(),
        connections: Arc::default(),
    });

    let doors = server::bind(config.server.listen, threads, "--listen or server.listen")?;
    let admin_door = server::bind(config.server.admin, 1, "--admin or server.admin")?;
    let first = |doors: &[TcpListener]| {
        doors.first().context("no listener")?.local_addr().context("a listener without an address")
    };
    let (listen, admin_address) = (first(&doors)?, first(&admin_door)?);

    let relay = relay.map(|bound| Relay::start(bound, &config, &turn_secrets)).transpose()?;
    let mut own_doors = vec![listen, admin_address];
    own_doors.extend(relay.iter().flat_map(|relay| relay.listeners()).map(|(_, address)| *address));
    engine.network().set_doors(own_doors);

    let shutdown = Shutdown::default();
    let serving = server::start(&config.server, doors, &house, &shutdown)?;
    let admin = Admin::new(store, house, cache, engine, relay.clone(), token, admin_address);
    println!("listening on http://{listen}");
    println!("admin on http://{admin_address}");
    for (kind, address) in relay.iter().flat_map(|relay| relay.listeners()) {
        tracing::info!("relay on {}://{address}", kind.name());
    }
    tracing::info!("the house is open after {} ms", began.elapsed().as_millis());

    runtime.block_on(async {
        tokio::spawn(plugins.sweep());
        tokio::spawn(ledger.clone().keep());
        for door in admin_door {
            let door = tokio::net::TcpListener::from_std(door)?;
            tokio::spawn(admin::serve(admin.clone(), door, shutdown.drain.clone()));
        }
        let code = until_told(&shutdown, serving, rooms, config.server.drain, &ledger).await?;
        anyhow::Ok(code)
    })
}

/// What the house itself tells the auth plugin: in development, the key of its own issuer. It is given when
/// the plugin is loaded and is part of no configuration, so it can't find its way into production.
fn host_settings(
    config: &Config,
    env: Env,
    data: &std::path::Path,
) -> anyhow::Result<HostSettings> {
    let Some(plugin) = config.auth.plugin.clone().filter(|_| env == Env::Dev) else {
        return Ok(HostSettings::default());
    };
    let issuer = DevIssuer::open(data)?;
    tracing::info!(
        "development: plugin `{plugin}` is told the house's own issuer; `guesthouse auth token` prints its \
         tokens, and --env prod refuses them"
    );
    let [key, name] = DEV_SETTINGS.map(str::to_owned);
    let mut told = HostSettings::default();
    told.tell(&plugin, [(key, issuer.public_pem()), (name, DEV_ISSUER.to_owned())]);
    Ok(told)
}

fn authenticator(config: &Config, plugins: &Arc<Plugins>) -> Option<Authenticator> {
    let name = config.auth.plugin.clone()?;
    let plugins = plugins.clone();
    // The one that is active when it is asked: a swap of the auth plugin takes effect at once.
    let verifier = move || plugins.active().get(&name)?.active();
    Some(Authenticator::new(&config.auth, Box::new(verifier)))
}

fn open_store(config: &Config, data: &std::path::Path) -> anyhow::Result<Arc<Rocks>> {
    let limits = Limits {
        value: config.storage.max_value,
        list: config.storage.max_list,
        ..Limits::default()
    };
    let storage = &config.storage;
    Ok(Rocks::open(&data.join("store"), limits, storage.durability, storage.block_cache)?)
}

/// Waits for a signal, then for the running responses; a second signal ends at once.
async fn until_told(
    shutdown: &Shutdown,
    serving: Vec<std::thread::JoinHandle<()>>,
    rooms: Arc<Rooms>,
    drain: Duration,
    ledger: &Ledger,
) -> anyhow::Result<ExitCode> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    tracing::info!(
        "closing: running responses have {drain:?} to finish; a second signal ends at once"
    );
    shutdown.drain.cancel();
    let finished = async {
        let serving = tokio::task::spawn_blocking(move || {
            for thread in serving {
                if thread.join().is_err() {
                    tracing::error!("a serving thread panicked");
                }
            }
        });
        // Clients of rooms are told to come back, and do so when the next house is open.
        rooms.close(drain).await;
        _ = serving.await;
        _ = tokio::task::spawn_blocking(move || rooms.end()).await;
    };
    let cut = tokio::select! {
        () = finished => false,
        () = tokio::time::sleep(drain) => true,
        _ = interrupt.recv() => true,
        _ = terminate.recv() => true,
    };
    shutdown.cut.cancel();
    if let Err(error) = ledger.flush().await {
        tracing::error!("what callers have used in the last second could not be written: {error}");
    }
    if cut {
        tracing::warn!("responses that had not finished were cut");
        crate::log::flush();
        std::process::exit(if drain.is_zero() { 0 } else { 1 });
    }
    tracing::info!("the house is closed");
    Ok(ExitCode::SUCCESS)
}

fn start_log(human: bool) -> anyhow::Result<()> {
    let filter =
        EnvFilter::try_from_env("GUESTHOUSE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(crate::log::LogWriter::start()?);
    if human {
        log.with_target(false).compact().init();
    } else {
        log.json().flatten_event(true).init();
    }
    Ok(())
}
