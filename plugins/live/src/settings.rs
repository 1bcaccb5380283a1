//! What the operator has set: `config = { … }`.
//!
//! Owns names, defaults and bounds.

use crate::document::Caps;
use guesthouse_sdk::config;

/// All settings.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `max_code`: bytes of the code.
    pub code: usize,
    /// `max_field`: bytes of `html`, of `css`, and of `transpiled`.
    pub field: usize,
    /// `max_update`: bytes of one Yjs update.
    pub update: usize,
    /// `max_document`: bytes that are kept of the Yjs document.
    pub document: usize,
    /// `max_structs`: structs and deleted ranges of the Yjs document, and so of one update.
    pub structs: usize,
    /// `max_file`: bytes of a public file.
    pub file: usize,
    /// `history`: states that are kept by themselves.
    pub history: u32,
    /// `versions`: versions that can be made.
    pub versions: u32,
    /// `anonymous`: whether callers whom nobody knows may write.
    pub anonymous: bool,
    /// `transpile`: the plugin that makes JavaScript of the code; empty: nobody does.
    pub transpile: String,
    /// `jsx_import_source`: where the functions of JSX come from.
    pub jsx_import_source: String,
    /// `rewrite_imports`: whether the transpile plugin rewrites what the code imports, as the original did.
    pub rewrite_imports: bool,
    /// `class`: the name that this plugin has in the house, by which its rooms find each other; empty: no room is
    /// a fork.
    pub class: String,
    /// `import_map`: JSON with `imports`, for the page.
    pub import_map: String,
    /// What the chat asks.
    pub chat: Chat,
}

/// The model of the chat.
#[derive(Clone, Debug)]
pub struct Chat {
    /// `chat`: the plugin that has the key; empty: nobody chats.
    pub plugin: String,
    /// `chat_api`: `anthropic` or `openai`; empty: what the plugin's name says.
    pub api: String,
    /// `chat_model`; empty: one that can use tools.
    pub model: String,
    /// `chat_tokens`: of one answer.
    pub tokens: u64,
    /// `chat_steps`: answers of the model to one question.
    pub steps: u32,
    /// `chat_tools`: whether the model may read and edit the room.
    pub tools: bool,
}

/// Modules that programs mostly want, from a network that serves npm packages as modules.
const IMPORT_MAP: &str = r#"{"imports":{"react":"https://esm.sh/react@19","react/":"https://esm.sh/react@19/","react-dom":"https://esm.sh/react-dom@19?external=react","react-dom/":"https://esm.sh/react-dom@19&external=react/","@emotion/react":"https://esm.sh/@emotion/react@11?external=react","@emotion/react/":"https://esm.sh/@emotion/react@11&external=react/"}}"#;

impl Settings {
    /// As they are now. What can't be read has its default: the house has checked that they are texts, not more.
    #[must_use]
    pub fn read() -> Self {
        Self {
            code: number("max_code", 512 << 10, 1 << 20),
            field: number("max_field", 1 << 20, 3 << 20),
            update: number("max_update", 512 << 10, 1 << 20),
            document: number("max_document", 4 << 20, 8 << 20),
            structs: number("max_structs", 200_000, 1_000_000),
            file: number("max_file", 4 << 20, 8 << 20),
            history: u32::try_from(number("history", 50, 1000)).unwrap_or(50),
            versions: u32::try_from(number("versions", 1000, 100_000)).unwrap_or(1000),
            anonymous: config::get("anonymous").as_deref() != Some("read"),
            transpile: text("transpile", "transpile"),
            jsx_import_source: text("jsx_import_source", "@emotion/react"),
            rewrite_imports: config::get("rewrite_imports").as_deref() == Some("on"),
            class: text("class", "live"),
            import_map: text("import_map", IMPORT_MAP),
            chat: Chat {
                plugin: text("chat", "anthropic"),
                api: text("chat_api", ""),
                model: text("chat_model", ""),
                tokens: number("chat_tokens", 8192, 1 << 20) as u64,
                steps: u32::try_from(number("chat_steps", 10, 50)).unwrap_or(10).max(1),
                tools: config::get("chat_tools").as_deref() != Some("off"),
            },
        }
    }

    /// What the document may be.
    #[must_use]
    pub fn caps(&self) -> Caps {
        Caps { update: self.update, code: self.code }
    }
}

/// At most `most`: beyond, one change would not fit into a transaction of the room.
fn number(name: &str, default: usize, most: usize) -> usize {
    let number = config::get(name).and_then(|text| text.parse().ok()).unwrap_or(default);
    number.min(most)
}

fn text(name: &str, default: &str) -> String {
    config::get(name).unwrap_or_else(|| default.to_owned())
}
