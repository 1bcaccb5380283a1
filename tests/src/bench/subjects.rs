//! The servers that are compared, each started as its own manual says, on one core.

use super::native;
use super::process::{CLIENT_CORE, SERVER_CORE};
use super::process::{Server, printed_addresses, spawn};
use anyhow::{Context, Result, bail};
use guesthouse_tests::{guest, house_folder};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Programs of others, where they are installed.
#[derive(Default)]
pub struct Tools {
    /// `wasmtime` with `serve`.
    pub wasmtime: Option<PathBuf>,
    /// `workerd`.
    pub workerd: Option<PathBuf>,
    /// `nginx`.
    pub nginx: Option<PathBuf>,
    /// coturn's `turnserver`.
    pub coturn: Option<PathBuf>,
    /// The folder whose `node_modules` has `esbuild` and `esbuild-wasm`.
    pub esbuild: Option<PathBuf>,
    /// The folder whose `node_modules` has `y-websocket` with its server.
    pub y_websocket: Option<PathBuf>,
    /// `transpile-native`.
    pub transpile: Option<PathBuf>,
}

fn local() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, guesthouse_tests::port()).into()
}

/// hyper without wasm.
pub fn native() -> Result<Server> {
    native_on(SERVER_CORE)
}

/// The same as a server behind the servers.
pub fn upstream() -> Result<Server> {
    native_on(CLIENT_CORE)
}

fn native_on(core: usize) -> Result<Server> {
    let address = local();
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["native", &address.to_string()]);
    Server::start_on(core, command, address)
}

/// `wasmtime serve`, with its defaults but for these options.
pub fn wasmtime(program: &Path, component: &str, options: &[&str]) -> Result<Server> {
    let address = local();
    let mut command = Command::new(program);
    // Guests of Rust import wasi:cli, which it gives only when it is told to.
    command.args(["serve", "-S", "cli", "--addr"]).arg(address.to_string());
    command.args(options).arg(guest(component));
    command.stdout(Stdio::null()).stderr(Stdio::null());
    Server::start(command, address)
}

/// workerd with a hello of the same length.
pub fn workerd(program: &Path, folder: &Path) -> Result<Server> {
    let address = local();
    let script = "export default { fetch() { return new Response('hello from wit-bindgen'); } };";
    std::fs::write(folder.join("hello.js"), script)?;
    let config = format!(
        "using Workerd = import \"/workerd/workerd.capnp\";\n\
         const config :Workerd.Config = (\n\
           services = [(name = \"main\", worker = .hello)],\n\
           sockets = [(name = \"http\", address = \"{address}\", http = (), service = \"main\")]\n\
         );\n\
         const hello :Workerd.Worker = (\n\
           modules = [(name = \"hello.js\", esModule = embed \"hello.js\")],\n\
           compatibilityDate = \"2026-01-01\",\n\
         );\n"
    );
    let file = folder.join("workerd.capnp");
    std::fs::write(&file, config)?;
    let mut command = Command::new(program);
    command.arg("serve").arg(file).stdout(Stdio::null()).stderr(Stdio::null());
    Server::start(command, address)
}

/// The transpile plugin's pipeline without wasm.
pub fn transpile_native(program: &Path) -> Result<Server> {
    let address = local();
    let mut command = Command::new(program);
    command.arg(address.to_string());
    Server::start(command, address)
}

/// The smallest Node.js server that transpiles with this package.
pub fn esbuild(packages: &Path, name: &str) -> Result<Server> {
    let address = local();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/node/bench-esbuild.mjs");
    let mut command = Command::new("node");
    command.arg(script).arg(address.to_string()).arg(packages).arg(name);
    Server::start(command, address)
}

/// nginx with one process, no access log, and the asset on disk.
pub fn nginx(program: &Path, folder: &Path) -> Result<Server> {
    let address = local();
    let root = folder.join("www");
    std::fs::create_dir_all(&root)?;
    std::fs::write(root.join("asset.html"), native::asset())?;
    let at = folder.display();
    let config = format!(
        "daemon off; master_process off; pid {at}/nginx.pid; error_log {at}/nginx.log;\n\
         events {{ worker_connections 1024; }}\n\
         http {{\n\
           access_log off; sendfile on; tcp_nopush on; tcp_nodelay on; keepalive_requests 1000000000;\n\
           open_file_cache max=100; types {{ text/html html; }}\n\
           client_body_temp_path {at}/t; proxy_temp_path {at}/t; fastcgi_temp_path {at}/t;\n\
           uwsgi_temp_path {at}/t; scgi_temp_path {at}/t;\n\
           server {{ listen {address}; root {}; }}\n\
         }}\n",
        root.display()
    );
    let file = folder.join("nginx.conf");
    std::fs::write(&file, config)?;
    let mut command = Command::new(program);
    command.arg("-p").arg(folder).arg("-c").arg(file).stdout(Stdio::null()).stderr(Stdio::null());
    Server::start(command, address)
}

/// A house that is measured.
pub struct House {
    /// Its process.
    pub server: Server,
    /// Where the operator connects.
    pub admin: SocketAddr,
    data: PathBuf,
}

impl House {
    /// Starts a house on the servers' core and waits until its plugins serve.
    pub fn start(config: &Path, data: &Path) -> Result<Self> {
        let house = Self::open(SERVER_CORE, config, data)?;
        let began = Instant::now();
        loop {
            let plugins = house.api("plugins")?;
            let states: Vec<&str> = plugins["plugins"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|plugin| plugin["state"].as_str())
                .collect();
            if !states.is_empty() && states.iter().all(|state| *state == "serving") {
                return Ok(house);
            }
            if states.contains(&"failed") {
                bail!("a plugin failed: {plugins}");
            }
            if began.elapsed() > Duration::from_secs(120) {
                bail!("the plugins do not serve after two minutes: {plugins}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Starts a house and waits for nothing but its door.
    pub fn open(core: usize, config: &Path, data: &Path) -> Result<Self> {
        let mut command = Command::new(house_folder().join("guesthouse"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--config"]);
        command.arg(config).arg("--data").arg(data);
        command.env_remove("GUESTHOUSE_TOKEN").env("GUESTHOUSE_LOG", "error");
        let log = std::fs::File::create(data.with_extension("log"))?;
        command.stdout(Stdio::piped()).stderr(log);
        let mut child = spawn(core, command)?;
        let (address, admin) = match printed_addresses(&mut child) {
            Ok(addresses) => addresses,
            Err(error) => {
                _ = child.wait();
                let log = std::fs::read_to_string(data.with_extension("log")).unwrap_or_default();
                return Err(error.context(log));
            }
        };
        Ok(Self { server: Server::of(child, address), admin, data: data.to_owned() })
    }

    /// A GET of the admin API.
    pub fn api(&self, path: &str) -> Result<serde_json::Value> {
        Ok(serde_json::from_str(&self.call("GET", path, "")?)?)
    }

    /// A call of the admin API, with a body of JSON or none.
    pub fn call(&self, method: &str, path: &str, body: &str) -> Result<String> {
        use std::io::{Read, Write};
        let token = std::fs::read_to_string(self.data.join("admin-token"))?;
        let mut stream = std::net::TcpStream::connect(self.admin)?;
        write!(
            stream,
            "{method} /v1/{path} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            self.admin,
            token.trim(),
            body.len()
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (_, body) = answer.split_once("\r\n\r\n").context("no answer from the admin API")?;
        Ok(body.to_owned())
    }

    /// Runs a command of the binary against this house.
    pub fn run(&self, arguments: &[&str]) -> Result<String> {
        let output = Command::new(house_folder().join("guesthouse"))
            .args(arguments)
            .env("GUESTHOUSE_ADMIN", format!("http://{}", self.admin))
            .env("GUESTHOUSE_DATA", &self.data)
            .output()?;
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        if !output.status.success() {
            bail!("guesthouse {arguments:?}: {text}");
        }
        Ok(text)
    }
}
