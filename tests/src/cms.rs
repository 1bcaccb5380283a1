//! A house with the CMS plugin, and requests to it on behalf of someone.

use crate::{House, guest, house_folder, plugin};
use reqwest::{Client, Method, RequestBuilder, Response};

/// The table of the plugin, but for its settings.
pub const ROUTES: &str = "routes = [\"/my-cms\", \"/my-cms/*\", \"/live-cms\", \"/live-cms/*\"]\n\
     kv = [\"default\"]\nauth = \"optional\"\ninstances = { reuse = 1000 }\n";

/// A house with the test's verifier, and the plugin with these settings.
#[must_use]
pub fn config(settings: &str) -> String {
    let cms = house_folder().join("plugins/cms.wasm");
    "[auth]\nplugin = \"verifier\"\n".to_owned()
        + &plugin("verifier", &guest("verifier"), "instances = { reuse = 1000 }")
        + &plugin("cms", &cms, &format!("{ROUTES}config = {{ {settings} }}"))
}

/// The house itself.
#[must_use]
pub fn house(settings: &str) -> House {
    House::start(&config(settings))
}

/// A request on behalf of someone; an empty name is nobody.
pub fn call(house: &House, who: &str, method: &str, path: &str) -> RequestBuilder {
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    let client = Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let request = client.request(method, format!("{}{path}", house.url));
    if who.is_empty() { request } else { request.bearer_auth(format!("good {who}")) }
}

/// The answer to a request without a body.
pub async fn send(house: &House, who: &str, method: &str, path: &str) -> Response {
    call(house, who, method, path).send().await.unwrap()
}

/// A document is written.
pub async fn put(house: &House, who: &str, path: &str, body: &str) -> Response {
    call(house, who, "PUT", path).body(body.to_owned()).send().await.unwrap()
}

/// A document is read: status and text.
pub async fn text(house: &House, who: &str, path: &str) -> (u16, String) {
    let answer = send(house, who, "GET", path).await;
    (answer.status().as_u16(), answer.text().await.unwrap())
}
