//! OpenAI's API behind the house's key.
//!
//! | path | is |
//! |---|---|
//! | `POST /openai` | `POST /v1/chat/completions` |
//! | `/openai/v1/…` | the same path, with its query |
//! | `POST /whisper` | multipart with a recording → `{"response": {"text": …}}` |
//! | `POST /summarize` | `{"text": …}` → `{"response": {"summary": …}}` |
//!
//! Settings: `base_url` (default `https://api.openai.com/v1`), `whisper_model` (default `whisper-1`),
//! `chat_model` (default `gpt-4o-mini`), `summarize_max` (bytes of text, default 500000), and those of the log
//! (`log`, `log_days`, `log_namespace`, `prices`). The key is the operator's to `inject` as `authorization`; this
//! plugin never has it.

mod chunks;
mod multipart;
mod summarize;
mod whisper;

use ai_common::{
    Api, Forward, base_url, forward, method_not_allowed, preflight, with_cors, with_query,
};
use guesthouse_sdk::{Handler, Request, Response};

/// The component.
pub struct OpenAi;

guesthouse_sdk::export!(OpenAi);

impl Handler for OpenAi {
    fn handle(request: Request) -> Response {
        let method = request.method();
        if method == "OPTIONS" {
            return preflight("GET, POST, DELETE, OPTIONS");
        }
        let only_post = || method_not_allowed(Api::OpenAi, "POST");
        let path = match request.path() {
            "/whisper" if method == "POST" => return whisper::transcribe(&request),
            "/summarize" if method == "POST" => return summarize::summarize(&request),
            "/openai" | "/openai/" if method == "POST" => "/chat/completions",
            "/whisper" | "/summarize" | "/openai" | "/openai/" => return only_post(),
            path => match path.strip_prefix("/openai/v1/") {
                // With the slash before it.
                Some(rest) => path.get(path.len() - rest.len() - 1..).unwrap_or_default(),
                None => {
                    let message = "There is nothing here: use /openai or /openai/v1/….";
                    return with_cors(Api::OpenAi.error(404, "not_found", message));
                }
            },
        };
        let url = with_query(format!("{}{path}", base_url(Api::OpenAi)), request.query());
        forward(
            &request,
            Forward { api: Api::OpenAi, method, url, set: Vec::new(), default: Vec::new() },
        )
    }
}
