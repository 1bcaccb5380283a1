//! What the operator is told of a plugin's outbound requests.
//!
//! Owns how often. A guest causes each of these lines and can ask in a loop for what it was not granted: of them it
//! gets as many in a second as it may print (`limits.log`), and the count of the rest is said later.

use crate::line_quota::LineQuota;
use std::sync::Arc;

/// The log, for lines about one plugin.
#[derive(Clone, Debug)]
pub(super) struct Told(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    plugin: Box<str>,
    lines: LineQuota,
}

impl Told {
    /// With so many lines in a second.
    pub(super) fn new(plugin: &str, most: u32) -> Self {
        Self(Arc::new(Inner { plugin: plugin.into(), lines: LineQuota::new(most) }))
    }

    /// The plugin's name.
    pub(super) fn plugin(&self) -> &str {
        &self.0.plugin
    }

    /// Writes a line, if there is room for it; it is given the plugin's name.
    pub(super) fn say(&self, line: impl FnOnce(&str)) {
        let Inner { plugin, lines } = &*self.0;
        let dropped = |number| {
            format!(
                "{number} lines about outbound requests before this one were dropped (limits.log)"
            )
        };
        let beyond = |most| {
            format!(
                "more than {most} lines about outbound requests in a second: the rest of them is dropped (limits.log)"
            )
        };
        if lines.admits(plugin, dropped, beyond) {
            line(plugin);
        }
    }
}
