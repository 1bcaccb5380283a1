//! Anthropic's API behind the house's key.
//!
//! | path | is |
//! |---|---|
//! | `POST /anthropic` | `POST /v1/messages` |
//! | `/anthropic/v1/…` | the same path, with its query |
//!
//! Settings: `base_url` (default `https://api.anthropic.com`), and those of the log (`log`, `log_days`,
//! `log_namespace`, `prices`). The key is the operator's to `inject` as `x-api-key`; this plugin never
//! has it.

use ai_common::{
    Api, Forward, base_url, forward, method_not_allowed, preflight, with_cors, with_query,
};
use guesthouse_sdk::{Handler, Request, Response};

/// The version of the API that a client means who doesn't say.
const VERSION: &str = "2023-06-01";

/// The component.
pub struct Anthropic;

guesthouse_sdk::export!(Anthropic);

impl Handler for Anthropic {
    fn handle(request: Request) -> Response {
        let method = request.method();
        if method == "OPTIONS" {
            return preflight("GET, POST, DELETE, OPTIONS");
        }
        let path = request.path().strip_prefix("/anthropic").unwrap_or_default();
        let upstream = match path {
            "" | "/" if method == "POST" => "/v1/messages",
            "" | "/" => return method_not_allowed(Api::Anthropic, "POST"),
            path if path.starts_with("/v1/") => path,
            _ => {
                let message = "There is nothing here: use /anthropic or /anthropic/v1/….";
                return with_cors(Api::Anthropic.error(404, "not_found_error", message));
            }
        };
        let url = with_query(format!("{}{upstream}", base_url(Api::Anthropic)), request.query());
        forward(
            &request,
            Forward {
                api: Api::Anthropic,
                method,
                url,
                set: Vec::new(),
                default: vec![("anthropic-version".to_owned(), VERSION.to_owned())],
            },
        )
    }
}
