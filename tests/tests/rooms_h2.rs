//! WebSockets over HTTP/2 (RFC 8441), with clients that know nothing of the house.

use guesthouse_tests::{House, PATIENCE, clients, guest, plugin};
use std::time::{Duration, Instant};

#[tokio::test]
async fn many_websockets_share_a_connection_with_plain_requests() {
    let lines = "rooms = { routes = [\"/probe/{room}\"] }";
    let house = House::start(&plugin("probe", &guest("room"), lines));
    let (host, port) = house.address().rsplit_once(':').unwrap();
    let Some(output) = clients::python("websocket_h2.py", &[host, port, "/probe/"]) else { return };
    let said = String::from_utf8(output.stdout).unwrap();
    let wanted = "\
status 200 200
accept False
order True
order True
large True
binary binary
ping pong
plain 200
origin 403
version 426
name 404
nowhere 404
protocol 400
closed 4000
other still here
goodbye 1000
reset fine
";
    assert_eq!(said, wanted, "{}\n{}", String::from_utf8_lossy(&output.stderr), house.log());
    // The room heard of each end.
    let began = Instant::now();
    loop {
        let url = format!("{}/probe/three?closes", house.url);
        let closes = reqwest::get(url).await.unwrap().text().await.unwrap();
        if closes.trim() == "1006 gone 1 gone" {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "{closes}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
