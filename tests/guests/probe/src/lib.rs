//! Puts the house's data through its paces, over HTTP.

use guesthouse_sdk::kv::{self, Condition, Expiry, ListOptions, Operation, PutOptions};
use guesthouse_sdk::{Body, Handler, Request, Response, config};

struct Probe;

guesthouse_sdk::export!(Probe);

fn options(condition: Condition) -> PutOptions {
    PutOptions { metadata: Vec::new(), expires: Expiry::Never, condition }
}

fn answer(request: &Request) -> Result<Response, kv::Error> {
    let mut parts = request.path().trim_start_matches('/').splitn(3, '/');
    let mut next = || parts.next().unwrap_or_default().to_owned();
    let (what, namespace, key) = (next(), next(), next());
    if what == "config" {
        return Ok(Response::text(200, config::get(&namespace).unwrap_or_else(|| "none".to_owned())));
    }
    let bucket = kv::open(&namespace)?;
    let value = request.query().unwrap_or_default().as_bytes().to_vec();
    Ok(match what.as_str() {
        "get" => match bucket.get(&key)? {
            Some(entry) => Response::new(200).body(Body::Bytes(entry.value)),
            None => Response::new(404),
        },
        "gets" => {
            let times = request.query().and_then(|query| query.parse::<u32>().ok()).unwrap_or(0);
            let mut bytes = 0;
            for _ in 0..times {
                bytes += bucket.get(&key)?.map_or(0, |entry| entry.value.len());
            }
            Response::text(200, bytes.to_string())
        }
        "stream" => match bucket.get_stream(&key)? {
            Some(found) => Response::new(200).body(Body::Stream(found.body)),
            None => Response::new(404),
        },
        "put" => Response::text(200, bucket.put(&key, &value, &options(Condition::None))?.to_string()),
        "delete" => Response::text(200, bucket.delete(&key, Condition::None)?.to_string()),
        // Adds one, by compare-and-set, until it succeeds.
        "add" => loop {
            let found = bucket.get(&key)?;
            let (number, condition) = match found {
                Some(entry) => (
                    String::from_utf8_lossy(&entry.value).parse::<u64>().unwrap_or(0),
                    Condition::VersionIs(entry.version),
                ),
                None => (0, Condition::Absent),
            };
            let sum = (number + 1).to_string();
            match bucket.put(&key, sum.as_bytes(), &options(condition)) {
                Ok(_) => break Response::text(200, sum),
                Err(kv::Error::Conflict(_)) => {}
                Err(error) => return Err(error),
            }
        },
        "list" => {
            let page = bucket.list(&ListOptions { prefix: key, limit: 0, cursor: None })?;
            let keys: Vec<String> = page.keys.into_iter().map(|key| key.key).collect();
            Response::text(200, keys.join(","))
        }
        "both" => {
            let put = |key: &str| {
                Operation::Put(kv::PutOperation {
                    key: key.to_owned(),
                    value: value.clone(),
                    options: options(Condition::Absent),
                })
            };
            bucket.write(&[put("one"), put("two")])?;
            Response::new(204)
        }
        _ => Response::new(404),
    })
}

impl Handler for Probe {
    fn handle(request: Request) -> Response {
        answer(&request).unwrap_or_else(|error| Response::text(409, format!("{error:?}")))
    }
}
