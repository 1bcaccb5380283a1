//! `cargo xtask run`: the house with its sample site.

use crate::build::{Profile, build, guesthouse};
use crate::{Workspace, must, playground, site};
use anyhow::{Context, Result, bail};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Stdio;
use std::time::Duration;

pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<()> {
    build(workspace, Profile::Release)?;
    // The whole group gets a person's Ctrl-C. The house answers it; this process must outlive the house.
    ctrlc::set_handler(|| {}).context("the interrupt could not be caught")?;
    let data = workspace.target.join("house-data");
    let mut house = guesthouse(workspace)
        .arg("serve")
        .arg("--config")
        .arg(workspace.house().join("config/guesthouse.toml"))
        .arg("--data")
        .arg(&data)
        // What was built a moment ago is what should serve.
        .arg("--deploy")
        .args(arguments.strip_prefix(&["--".to_owned()]).unwrap_or(arguments))
        .stdout(Stdio::piped())
        .spawn()
        .context("the house could not be started")?;
    let output = house.stdout.take().context("the house has no output")?;
    let mut addresses = Vec::new();
    for line in BufReader::new(output).lines() {
        let line = line?;
        println!("{line}");
        addresses.extend(
            line.split_once("http://").map(|(_, address)| format!("http://{}", address.trim())),
        );
        if addresses.len() == 2 {
            break;
        }
    }
    if let [listen, admin] = addresses.as_slice() {
        let site = site::prepare(workspace, admin, &data).unwrap_or_else(|error| {
            eprintln!("— the site does not say what runs here: {error:#}");
            workspace.root.join("plugins/assets/site")
        });
        let mut sites = vec![("assets", site)];
        let pages = playground::folder(workspace);
        if pages.exists() {
            sites.push(("playground", pages));
        }
        for (plugin, site) in sites {
            let mut publish = guesthouse(workspace);
            publish.args(["assets", "publish", "--plugin", plugin, "--admin", admin, "--data"]);
            publish.arg(&data).arg(site);
            if let Err(error) = must(&mut publish, &format!("publishing the site of {plugin}")) {
                // The house goes with us: nothing is left behind on the port.
                _ = house.kill();
                _ = house.wait();
                return Err(error);
            }
        }
        wait_until_served(listen)?;
        println!();
        println!("  the site      {listen}/");
        println!("  a live room   {listen}/live/hello");
        println!("  what to try   curl -i {listen}/swVersion.json");
        println!("                curl -si --compressed {listen}/ | head");
        println!(
            "                {} kv --data {} list",
            workspace.house().join("guesthouse").display(),
            data.display()
        );
        println!("  Ctrl-C closes the house");
        println!();
    }
    // Ctrl-C reaches the house as well, which finishes its responses first; we wait for it.
    let status = house.wait()?;
    if !status.success() {
        bail!("the house ended with {status}");
    }
    Ok(())
}

/// At the first start the component is compiled while the house is open already, and the site answers 503
/// meanwhile: who is told to look at it should see it.
fn wait_until_served(listen: &str) -> Result<()> {
    let address = listen.trim_start_matches("http://");
    for _ in 0..600 {
        let mut stream = TcpStream::connect(address)?;
        stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
        let mut status = [0; 12];
        stream.read_exact(&mut status)?;
        if !status.ends_with(b"503") {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    bail!("the site is not served after a minute; the lines above say why")
}
