//! What a host must survive.

use guesthouse_sdk::{Body, Handler, Request, Response};
use std::cell::Cell;
use std::time::{Duration, Instant};

struct Hostile;

guesthouse_sdk::export!(Hostile);

thread_local! {
    static COUNT: Cell<u32> = const { Cell::new(0) };
}

#[inline(never)]
fn recurse(depth: u64) -> u64 {
    let here = std::hint::black_box([depth; 64]);
    recurse(depth + 1).wrapping_add(here[(depth % 64) as usize])
}

impl Handler for Hostile {
    fn handle(request: Request) -> Response {
        match request.path() {
            "/spin" => loop {
                std::hint::black_box(0);
            },
            "/spin-ms" => {
                let milliseconds = request.query().and_then(|query| query.parse().ok()).unwrap_or(0);
                let began = Instant::now();
                while began.elapsed() < Duration::from_millis(milliseconds) {
                    std::hint::black_box(0);
                }
                Response::text(200, "done")
            }
            "/bomb" => {
                let mut all = Vec::new();
                loop {
                    all.push(vec![1_u8; 1 << 20]);
                    std::hint::black_box(&all);
                }
            }
            // One instruction that takes long, again and again: the clock is looked at between them only.
            "/fill" => {
                let mut from = vec![1_u8; 16 << 20];
                let to = vec![2_u8; 16 << 20];
                loop {
                    from.copy_from_slice(std::hint::black_box(&to));
                    std::hint::black_box(&mut from);
                }
            }
            "/recurse" => Response::text(200, recurse(1).to_string()),
            "/log" => {
                let lines = request.query().and_then(|query| query.parse().ok()).unwrap_or(0);
                for line in 0..lines {
                    println!("line {line} of {lines}");
                }
                Response::text(200, "printed")
            }
            "/trap" => panic!("a secret that must not leave the house"),
            "/never" => {
                std::thread::sleep(Duration::from_secs(3600));
                Response::new(200)
            }
            "/count" => {
                let count = COUNT.get() + 1;
                COUNT.set(count);
                Response::text(200, count.to_string())
            }
            "/print" => {
                println!("out: {}\x1b[31m", request.query().unwrap_or_default());
                eprintln!("err: second line");
                Response::new(204)
            }
            "/sandbox" => {
                let files = std::fs::read_dir("/").is_ok() || std::fs::read("/etc/passwd").is_ok();
                let variables = std::env::vars().count();
                let sockets = std::net::TcpStream::connect("127.0.0.1:80").is_ok()
                    || std::net::TcpListener::bind("127.0.0.1:0").is_ok();
                let arguments = std::env::args().count();
                Response::text(
                    200,
                    format!("files {files}, variables {variables}, sockets {sockets}, arguments {arguments}"),
                )
            }
            "/headers" => Response::text(
                200,
                format!(
                    "{} {} {:?}",
                    request.method(),
                    request.path(),
                    request.header("x-request-id").unwrap_or_default()
                ),
            ),
            _ => Response::new(404).body(Body::Empty),
        }
    }
}
